//! The committed object: loading it, its programs and its maps. Watches nothing.

use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_obj::btf::BtfKind;

use crate::capabilities;
use crate::error::{ProbeError, VERIFIER, advice, chain, errno};
use crate::kernel_map::KernelMap;
use crate::limits::Limits;
use crate::raw::{
    Cost, DeviceCounters, DurationKey, Durations, FileId, FileName, Flight, IoCounters, IoKey, Naming,
    OtherCounters, OtherKey, OverflowKey, Pending, Process, Request, RequestKey, Slot, Thread, ThreadTimeKey,
    WriteBack, WriteBackBio,
};

/// Built by `bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/tracepoint.bpf.o");
/// For messages.
const OBJECT_NAME: &str = "tracepoint.bpf.o";

/// Function in the object and BTF tracepoint.
pub(crate) type Names = (&'static str, &'static str);

/// What is always needed. The order of attaching: what ends something before what begins it, so that nothing is inserted
/// that nobody would remove.
const PROGRAMS: [Names; 11] = [
    ("on_exit", "sched_process_exit"),
    ("on_bio_complete", "block_bio_complete"),
    ("on_request_complete", "block_rq_complete"),
    ("on_bio_queue", "block_bio_queue"),
    ("on_page_dirtied", "writeback_dirty_folio"),
    ("on_page_filled", "mm_filemap_add_to_page_cache"),
    ("on_fork", "sched_process_fork"),
    ("on_sched_switch", "sched_switch"),
    ("on_sched_wakeup", "sched_wakeup"),
    ("on_sys_exit", "sys_exit"),
    ("on_sys_enter", "sys_enter"),
];

/// Programs that belong together, and what is missed where there are none for the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// For messages; empty of what is always needed.
    pub(crate) unseen: &'static str,
    /// In the order of attaching: all or none.
    pub(crate) programs: &'static [Names],
}

impl Group {
    /// Whether the probes do without it.
    pub(crate) fn optional(&self) -> bool {
        !self.unseen.is_empty()
    }

    fn fits(&self, types: &Btf) -> bool {
        self.programs.iter().all(|(_, tracepoint)| has_tracepoint(types, tracepoint))
    }
}

fn has_tracepoint(types: &Btf, tracepoint: &str) -> bool {
    types.id_by_type_name_kind(&format!("btf_trace_{tracepoint}"), BtfKind::Typedef).is_ok()
}

const FAULTS: &str = "page faults of mapped files are not seen, which needs Linux 6.12";
const URING: &str = "io_uring is not seen: this kernel has none, or is older than Linux 6.0";

/// Of each the first that fits the kernel's tracepoints, else the last.
const GROUPS: [&[Group]; 3] = [
    &[Group { unseen: "", programs: &PROGRAMS }],
    // The end of a fault is told by the second.
    &[Group {
        unseen: FAULTS,
        programs: &[("on_pages_mapped", "mm_filemap_map_pages"), ("on_fault", "mm_filemap_fault")],
    }],
    &[
        Group {
            unseen: URING,
            programs: &[
                ("on_uring_complete", "io_uring_complete"),
                ("on_uring_submit_req", "io_uring_submit_req"),
            ],
        },
        // Until Linux 6.2.
        Group {
            unseen: URING,
            programs: &[
                ("on_uring_complete", "io_uring_complete"),
                ("on_uring_submit_sqe", "io_uring_submit_sqe"),
            ],
        },
    ],
];

/// What is to be loaded on this kernel: what is always needed first, then what is not, which may be refused.
pub(crate) fn groups(types: &Btf) -> impl Iterator<Item = Group> {
    GROUPS.iter().filter_map(|ways| ways.iter().find(|group| group.fits(types)).or(ways.last()).copied())
}

/// All maps that user space reads or writes.
pub(crate) struct Maps {
    pub(crate) processes: KernelMap<u32, Process>,
    pub(crate) thread_roles: KernelMap<u32, u32>,
    /// The key is the descriptor of a process or thread.
    pub(crate) slots: KernelMap<u32, Slot>,
    pub(crate) files: KernelMap<FileId, FileName>,
    pub(crate) io: KernelMap<IoKey, IoCounters>,
    pub(crate) overflow: KernelMap<OverflowKey, IoCounters>,
    pub(crate) durations: KernelMap<DurationKey, Durations>,
    pub(crate) critical: KernelMap<u32, Thread>,
    /// The bits of `critical_bit`, 64 in each.
    pub(crate) critical_bits: KernelMap<u32, u64>,
    pub(crate) thread_time: KernelMap<ThreadTimeKey, u64>,
    pub(crate) lost: KernelMap<u32, u64>,
    pub(crate) watch_epoch: KernelMap<u32, u64>,
    pub(crate) naming: KernelMap<u32, Naming>,
    pub(crate) requests: KernelMap<RequestKey, Request>,
    pub(crate) pending: KernelMap<u32, Pending>,
    pub(crate) flights: KernelMap<u64, Flight>,
    pub(crate) others: KernelMap<OtherKey, OtherCounters>,
    pub(crate) others_overflow: KernelMap<u32, OtherCounters>,
    pub(crate) device: KernelMap<IoKey, DeviceCounters>,
    pub(crate) write_back: KernelMap<FileId, WriteBack>,
    pub(crate) write_back_bios: KernelMap<u64, WriteBackBio>,
    pub(crate) costs: KernelMap<u32, Cost>,
    /// Cgroup and epoch.
    pub(crate) owners: KernelMap<u64, u64>,
}

/// The kernel's own types.
pub(crate) fn kernel_types() -> Result<Btf, ProbeError> {
    Btf::from_sys_fs().map_err(|error| ProbeError::NoBtf { reason: chain(&error) })
}

/// Makes the maps and relocates the programs; loads none.
pub(crate) fn load(limits: &Limits, types: &Btf) -> Result<Ebpf, ProbeError> {
    let mut loader = EbpfLoader::new();
    // Task storage, which the loader library makes as it is told and has no functions for.
    loader.btf(Some(types)).allow_unsupported_maps();
    for (map, entries) in limits.entries() {
        loader.map_max_entries(map, entries);
    }
    loader.load(OBJECT).map_err(|error| {
        let number = errno(&error);
        privileges(number).unwrap_or_else(|| ProbeError::Object {
            object: OBJECT_NAME,
            detail: chain(&error),
            advice: advice(number),
        })
    })
}

/// The error of missing capabilities, if that is what an error number means here.
fn privileges(errno: Option<i32>) -> Option<ProbeError> {
    let missing = capabilities::missing();
    let refused = matches!(errno, Some(libc::EPERM | libc::EACCES));
    (refused && !missing.is_empty()).then_some(ProbeError::NotPrivileged { missing })
}

fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, ProbeError> {
    let found = object.program_mut(name).and_then(|program| program.try_into().ok());
    found.ok_or(ProbeError::Missing { kind: "program", name })
}

/// Has the verifier take one program.
pub(crate) fn load_program(
    object: &mut Ebpf,
    types: &Btf,
    name: &'static str,
    tracepoint: &'static str,
) -> Result<(), ProbeError> {
    let program = program(object, name)?;
    if !has_tracepoint(types, tracepoint) {
        return Err(ProbeError::NoTracepoint { program: name, tracepoint });
    }
    program.load(tracepoint, types).map_err(|error| {
        let number = errno(&error);
        // The verifier speaks only when it was asked: then nobody else has refused.
        let (detail, advice, log) = match &error {
            ProgramError::LoadError { io_error, verifier_log } if !verifier_log.to_string().is_empty() => {
                (io_error.to_string(), VERIFIER, verifier_log.to_string())
            }
            _ => (chain(&error), advice(number), String::new()),
        };
        let refused = ProbeError::Load { program: name, errno: number, detail, advice, log };
        privileges(number).unwrap_or(refused)
    })
}

/// Attaches a loaded program; dropping the object detaches it.
pub(crate) fn attach_program(
    object: &mut Ebpf,
    name: &'static str,
    tracepoint: &'static str,
) -> Result<(), ProbeError> {
    let attached = program(object, name)?.attach();
    attached.map(drop).map_err(|error| {
        let number = errno(&error);
        privileges(number).unwrap_or_else(|| ProbeError::Attach {
            program: name,
            tracepoint,
            errno: number,
            detail: chain(&error),
            advice: advice(number),
        })
    })
}

/// Takes the maps out of the object; the programs keep theirs.
pub(crate) fn take_maps(object: &mut Ebpf) -> Result<Maps, ProbeError> {
    let processors = aya::util::nr_cpus().map_err(|(_, source)| ProbeError::Map {
        map: "lost",
        action: "count the possible processors for",
        source,
    })?;
    let mut take = |name: &'static str| object.take_map(name);
    Ok(Maps {
        processes: KernelMap::new("processes", take("processes"), processors)?,
        thread_roles: KernelMap::new("thread_roles", take("thread_roles"), processors)?,
        slots: KernelMap::new("slots", take("slots"), processors)?,
        files: KernelMap::new("files", take("files"), processors)?,
        io: KernelMap::new("io", take("io"), processors)?,
        overflow: KernelMap::new("overflow", take("overflow"), processors)?,
        durations: KernelMap::new("durations", take("durations"), processors)?,
        critical: KernelMap::new("critical", take("critical"), processors)?,
        critical_bits: KernelMap::new("critical_bits", take("critical_bits"), processors)?,
        thread_time: KernelMap::new("thread_time", take("thread_time"), processors)?,
        lost: KernelMap::new("lost", take("lost"), processors)?,
        watch_epoch: KernelMap::new("watch_epoch", take("watch_epoch"), processors)?,
        naming: KernelMap::new("naming", take("naming"), processors)?,
        requests: KernelMap::new("requests", take("requests"), processors)?,
        pending: KernelMap::new("pending", take("pending"), processors)?,
        flights: KernelMap::new("flights", take("flights"), processors)?,
        others: KernelMap::new("others", take("others"), processors)?,
        others_overflow: KernelMap::new("others_overflow", take("others_overflow"), processors)?,
        device: KernelMap::new("device", take("device"), processors)?,
        write_back: KernelMap::new("write_back", take("write_back"), processors)?,
        write_back_bios: KernelMap::new("write_back_bios", take("write_back_bios"), processors)?,
        costs: KernelMap::new("costs", take("costs"), processors)?,
        owners: KernelMap::new("owners", take("owners"), processors)?,
    })
}
