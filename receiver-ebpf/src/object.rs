//! The committed object: loading it, its programs and its maps. Watches nothing.

use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_obj::btf::BtfKind;

use crate::capabilities;
use crate::error::{ProbeError, advice, chain, errno};
use crate::kernel_map::KernelMap;
use crate::limits::Limits;
use crate::raw::{
    DurationKey, Durations, FileId, FileName, Flight, IoCounters, IoKey, Naming, OtherCounters, OtherKey,
    OverflowKey, Pending, Process, Request, RequestKey, Slot, Thread, ThreadTimeKey,
};

/// Built by `bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/tracepoint.bpf.o");
/// For messages.
const OBJECT_NAME: &str = "tracepoint.bpf.o";

/// Function in the object and BTF tracepoint. The order of attaching: the end of threads and processes before their
/// beginning, so that nothing is inserted that nobody would remove.
const PROGRAMS: [(&str, &str); 9] = [
    ("on_exit", "sched_process_exit"),
    ("on_fork", "sched_process_fork"),
    ("on_sched_switch", "sched_switch"),
    ("on_sched_wakeup", "sched_wakeup"),
    ("on_sys_exit", "sys_exit"),
    ("on_sys_enter", "sys_enter"),
    ("on_rq_complete", "block_rq_complete"),
    ("on_bio_complete", "block_bio_complete"),
    ("on_bio_queue", "block_bio_queue"),
];

/// What some kernels have under one name, some under another, and some not at all: the first that is there. In the
/// order of attaching.
const ALTERNATIVES: [&[(&str, &str)]; 2] = [
    &[("on_uring_complete", "io_uring_complete")],
    // The second until Linux 6.2.
    &[("on_uring_submit_req", "io_uring_submit_req"), ("on_uring_submit_sqe", "io_uring_submit_sqe")],
];

/// The programs for this kernel: all that are always needed, and of the others those whose tracepoint it has.
pub(crate) fn programs(types: &Btf) -> Vec<(&'static str, &'static str)> {
    let exists = |tracepoint: &str| {
        types.id_by_type_name_kind(&format!("btf_trace_{tracepoint}"), BtfKind::Typedef).is_ok()
    };
    let found = ALTERNATIVES.iter().filter_map(|names| names.iter().find(|(_, name)| exists(name)));
    PROGRAMS.iter().chain(found).copied().collect()
}

/// All maps that user space reads or writes.
pub(crate) struct Maps {
    pub(crate) processes: KernelMap<u32, Process>,
    pub(crate) threads: KernelMap<u32, Slot>,
    pub(crate) files: KernelMap<FileId, FileName>,
    pub(crate) io: KernelMap<IoKey, IoCounters>,
    pub(crate) overflow: KernelMap<OverflowKey, IoCounters>,
    pub(crate) durations: KernelMap<DurationKey, Durations>,
    pub(crate) critical: KernelMap<u32, Thread>,
    pub(crate) thread_time: KernelMap<ThreadTimeKey, u64>,
    pub(crate) lost: KernelMap<u32, u64>,
    pub(crate) watch_epoch: KernelMap<u32, u64>,
    pub(crate) naming: KernelMap<u32, Naming>,
    pub(crate) requests: KernelMap<RequestKey, Request>,
    pub(crate) pending: KernelMap<u32, Pending>,
    pub(crate) flights: KernelMap<u64, Flight>,
    pub(crate) others: KernelMap<OtherKey, OtherCounters>,
    pub(crate) others_overflow: KernelMap<u32, OtherCounters>,
}

/// The kernel's own types.
pub(crate) fn kernel_types() -> Result<Btf, ProbeError> {
    Btf::from_sys_fs().map_err(|error| ProbeError::NoBtf { reason: chain(&error) })
}

/// Makes the maps and relocates the programs; loads none.
pub(crate) fn load(limits: &Limits, types: &Btf) -> Result<Ebpf, ProbeError> {
    let mut loader = EbpfLoader::new();
    loader.btf(Some(types));
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
    program(object, name)?.load(tracepoint, types).map_err(|error| {
        let number = errno(&error);
        let log = match &error {
            ProgramError::LoadError { verifier_log, .. } => verifier_log.to_string(),
            _ => String::new(),
        };
        privileges(number).unwrap_or_else(|| ProbeError::Load {
            program: name,
            errno: number,
            detail: chain(&error),
            advice: advice(number),
            log,
        })
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
        threads: KernelMap::new("threads", take("threads"), processors)?,
        files: KernelMap::new("files", take("files"), processors)?,
        io: KernelMap::new("io", take("io"), processors)?,
        overflow: KernelMap::new("overflow", take("overflow"), processors)?,
        durations: KernelMap::new("durations", take("durations"), processors)?,
        critical: KernelMap::new("critical", take("critical"), processors)?,
        thread_time: KernelMap::new("thread_time", take("thread_time"), processors)?,
        lost: KernelMap::new("lost", take("lost"), processors)?,
        watch_epoch: KernelMap::new("watch_epoch", take("watch_epoch"), processors)?,
        naming: KernelMap::new("naming", take("naming"), processors)?,
        requests: KernelMap::new("requests", take("requests"), processors)?,
        pending: KernelMap::new("pending", take("pending"), processors)?,
        flights: KernelMap::new("flights", take("flights"), processors)?,
        others: KernelMap::new("others", take("others"), processors)?,
        others_overflow: KernelMap::new("others_overflow", take("others_overflow"), processors)?,
    })
}
