//! The probes as a whole: loaded, attached, and told which processes and threads to watch.
//! Reading them is in `snapshot.rs`, tidying up in `sweep.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::AsFd;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::Program;
use blameio_pipeline::PageFormat;
use bytemuck::Zeroable;

use crate::cost;
use crate::error::ProbeError;
use crate::limits::Limits;
use crate::namespace;
use crate::object::{self, Group, Maps};
use crate::pages;
use crate::raw::{IoKey, OtherKey, Process, STATE_UNKNOWN, Thread, critical_bit, critical_word};
use crate::syscall::recursion_misses;
use crate::threads::{ThreadAccount, clock_ns, run_state};

/// The loaded and attached probes and their maps. Dropping it detaches them and frees everything.
///
/// All process and thread numbers are those of the initial pid namespace.
pub struct Probes {
    /// Holds the programs and their links. Dropped before the maps, which no program needs then.
    object: Ebpf,
    pub(crate) maps: Maps,
    /// Counts changes of what is watched; the kernel's threads look again when it moves.
    pub(crate) epoch: u64,
    /// Critical threads, and what was reported of them.
    pub(crate) accounts: BTreeMap<u32, ThreadAccount>,
    /// Snapshots taken.
    pub(crate) snapshots: u64,
    /// Per row its operations and the snapshot in which they last changed.
    pub(crate) changed: HashMap<IoKey, (u64, u64)>,
    /// How large the maps are.
    pub(crate) limits: Limits,
    /// Counts the removals of rows.
    pub(crate) removals: u64,
    /// Operations that were counted in rows while they were removed.
    pub(crate) swept_operations: u64,
    /// The kernel's count of replaced names when they were last read.
    pub(crate) renamed: u64,
    /// Per row of everyone else its operations and the snapshot in which they last changed.
    pub(crate) others: HashMap<OtherKey, (u64, u64)>,
    /// Asynchronous operations that were given up.
    pub(crate) given_up: u64,
    /// The same of bios.
    pub(crate) given_up_bios: u64,
    /// Cgroups, and when somebody was seen in them, that looked left at the last sweep.
    pub(crate) left: HashSet<(u64, u64)>,
    /// What the kernel takes to call a program at each system call.
    pub(crate) way_of_calls: Duration,
}

impl Probes {
    /// Loads and attaches everything. From Linux 5.19 on, a thread that only reads and watches needs no capability any
    /// more.
    pub fn load(limits: &Limits) -> Result<Self, ProbeError> {
        namespace::require_initial()?;
        let types = object::kernel_types()?;
        let mut object = object::load(limits, &types)?;
        let mut loaded: Vec<Group> = Vec::new();
        for group in object::groups(&types) {
            let result = group.programs.iter().try_for_each(|(program, tracepoint)| {
                object::load_program(&mut object, &types, program, tracepoint)
            });
            match result {
                Ok(()) => loaded.push(group),
                Err(error) if group.optional() => tracing::info!(%error, "{}", group.unseen),
                Err(error) => return Err(error),
            }
        }
        let maps = object::take_maps(&mut object)?;
        // A slot begins with 0, which must not look up to date.
        let epoch = 1;
        maps.watch_epoch.set(&0, &epoch)?;
        let unprobed = cost::empty_call();
        for (program, tracepoint) in loaded.iter().flat_map(|group| group.programs) {
            object::attach_program(&mut object, program, tracepoint)?;
        }
        let way_of_calls = cost::way_of_calls(unprobed, cost::empty_call());
        Ok(Self {
            object,
            maps,
            epoch,
            accounts: BTreeMap::new(),
            snapshots: 0,
            changed: HashMap::new(),
            limits: limits.clone(),
            removals: 0,
            swept_operations: 0,
            renamed: 0,
            others: HashMap::new(),
            given_up: 0,
            given_up_bios: 0,
            left: HashSet::new(),
            way_of_calls,
        })
    }

    /// Counts a process from now on, or changes its server and role class. Its future children are counted from their
    /// first operation, with the same server and role class 0.
    pub fn watch_process(&mut self, tgid: u32, server: u16, role: u8) -> Result<(), ProbeError> {
        self.watch_process_with(tgid, server, role, PageFormat::None)
    }

    /// The same of a process whose tablespaces have such pages: what it does with them is told apart by their index.
    pub fn watch_process_with(
        &mut self,
        tgid: u32,
        server: u16,
        role: u8,
        pages: PageFormat,
    ) -> Result<(), ProbeError> {
        // Asked again and again for a process that has ended, nothing is written, or every thread would look again.
        if run_state(tgid).is_none() {
            return Err(ProbeError::Gone { kind: "process", id: tgid });
        }
        self.maps
            .processes
            .set(&tgid, &Process { server, role, pages: pages::code(pages), reserved: [0; 4] })?;
        self.watched_has_changed()?;
        // If it ended before the insert, nobody would remove it, and a later process of the number would be counted.
        if run_state(tgid).is_none() {
            self.forget_process(tgid);
            return Err(ProbeError::Gone { kind: "process", id: tgid });
        }
        Ok(())
    }

    /// Stops counting a process. An operation in flight is still counted.
    pub fn forget_process(&mut self, tgid: u32) {
        self.maps.processes.delete(&tgid);
        if let Err(error) = self.watched_has_changed() {
            tracing::warn!(%error, tgid, "a process is still counted");
        }
    }

    /// Counts a thread of a watched process in a role class of its own from now on. It ends with the thread.
    pub fn give_role(&mut self, tid: u32, role: u8) -> Result<(), ProbeError> {
        self.maps.thread_roles.set(&tid, &u32::from(role))?;
        self.watched_has_changed()?;
        // If it ended before the insert, nobody would remove it, and a later thread of the number would have the role.
        if run_state(tid).is_none() {
            self.take_role(tid);
            return Err(ProbeError::Gone { kind: "thread", id: tid });
        }
        Ok(())
    }

    /// Counts a thread in the role class of its process again.
    pub fn take_role(&mut self, tid: u32) {
        self.maps.thread_roles.delete(&tid);
        if let Err(error) = self.watched_has_changed() {
            tracing::warn!(%error, tid, "a thread is still counted in its old role");
        }
    }

    /// Threads that have a role class of their own now; without those that have exited. Empty if it cannot be read.
    #[must_use]
    pub fn given_roles(&self) -> Vec<(u32, u8)> {
        let mut found = Vec::new();
        let read = self.maps.thread_roles.for_each(|tid, roles| {
            found.extend(roles.first().map(|role| (tid, u8::try_from(*role).unwrap_or_default())));
        });
        if let Err(error) = read {
            tracing::warn!(%error, "the roles of threads cannot be listed");
        }
        found
    }

    /// To be called after each change of `processes`, `thread_roles` and `critical` and each removal from `files`, or threads go on with
    /// what they have seen.
    pub(crate) fn watched_has_changed(&mut self) -> Result<(), ProbeError> {
        // The kernel compares 32 bits.
        self.epoch = (self.epoch % u64::from(u32::MAX)) + 1;
        self.maps.watch_epoch.set(&0, &self.epoch)
    }

    /// Process, server and role class of everything watched now: children that were found and without those that have
    /// exited. Empty if it cannot be read.
    #[must_use]
    pub fn watched_processes(&self) -> Vec<(u32, u16, u8)> {
        let mut found = Vec::new();
        let read = self.maps.processes.for_each(|tgid, values| {
            found.extend(values.first().map(|process| (tgid, process.server, process.role)));
        });
        if let Err(error) = read {
            tracing::warn!(%error, "the watched processes cannot be listed");
        }
        found
    }

    /// Splits the wall time of a thread into states from now on, and gives its operations rows of their own. Its
    /// process should be watched, or its file operations are seen as waits. Nothing happens if it is watched already.
    pub fn watch_thread(&mut self, tid: u32) -> Result<(), ProbeError> {
        if self.accounts.contains_key(&tid) {
            return Ok(());
        }
        if run_state(tid).is_none() {
            return Err(ProbeError::Gone { kind: "thread", id: tid });
        }
        self.purge_thread_time(tid);
        // The first move tells what the state was before: no race with reading it.
        let seed = Thread { state: STATE_UNKNOWN, since_ns: clock_ns(), ..Thread::zeroed() };
        self.accounts.insert(tid, ThreadAccount::default());
        let watched = self.split(tid, &seed);
        if watched.is_err() {
            self.accounts.remove(&tid);
            self.maps.critical.delete(&tid);
            self.set_critical_bits(tid)?;
        }
        watched
    }

    /// Has the scheduler's probes split a thread's time.
    fn split(&mut self, tid: u32, seed: &Thread) -> Result<(), ProbeError> {
        self.set_critical_bits(tid)?;
        self.maps.critical.set(&tid, seed)?;
        self.watched_has_changed()?;
        if run_state(tid).is_none() {
            return Err(ProbeError::Gone { kind: "thread", id: tid });
        }
        Ok(())
    }

    /// Sets the bits of a word as the accounts say: before a thread is in `critical`, and after it is not any more.
    fn set_critical_bits(&self, tid: u32) -> Result<(), ProbeError> {
        let (word, _) = critical_bit(tid);
        self.maps.critical_bits.set(&word, &critical_word(self.accounts.keys().copied(), word))
    }

    /// Stops splitting a thread's time and removes its rows. Its later operations count under its role class.
    pub fn forget_thread(&mut self, tid: u32) {
        if self.accounts.remove(&tid).is_some() {
            self.removals += 1;
            self.maps.critical.delete(&tid);
            self.maps.pending.delete(&tid);
            if let Err(error) = self.watched_has_changed() {
                tracing::warn!(%error, tid, "a thread's operations are still counted apart");
            }
            // A bit that stays costs a look at each switch of its threads, and nothing else.
            if let Err(error) = self.set_critical_bits(tid) {
                tracing::debug!(%error, tid, "the scheduler's probes still look for a thread");
            }
            self.purge_thread_time(tid);
        }
    }

    fn purge_thread_time(&self, tid: u32) {
        let mut old = Vec::new();
        let read = self.maps.thread_time.for_each(|key, _| {
            if key.tid == tid {
                old.push(key);
            }
        });
        if let Err(error) = read {
            tracing::warn!(%error, tid, "old rows of a thread cannot be listed");
        }
        for key in old {
            self.maps.thread_time.delete(&key);
        }
    }

    /// Kernel memory of the maps, as the kernel accounts it. Before Linux 6.4 what they take when they are full.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let Maps {
            processes,
            thread_roles,
            // Lies in the threads' own memory.
            slots: _,
            files,
            io,
            overflow,
            durations,
            critical,
            critical_bits,
            thread_time,
            lost,
            watch_epoch,
            naming,
            requests,
            pending,
            flights,
            others,
            others_overflow,
            device,
            write_back,
            write_back_bios,
            costs,
            owners,
        } = &self.maps;
        processes.memory_bytes()
            + thread_roles.memory_bytes()
            + files.memory_bytes()
            + io.memory_bytes()
            + overflow.memory_bytes()
            + durations.memory_bytes()
            + critical.memory_bytes()
            + critical_bits.memory_bytes()
            + thread_time.memory_bytes()
            + lost.memory_bytes()
            + watch_epoch.memory_bytes()
            + naming.memory_bytes()
            + requests.memory_bytes()
            + pending.memory_bytes()
            + flights.memory_bytes()
            + others.memory_bytes()
            + others_overflow.memory_bytes()
            + device.memory_bytes()
            + write_back.memory_bytes()
            + write_back_bios.memory_bytes()
            + costs.memory_bytes()
            + owners.memory_bytes()
    }

    /// Events that the kernel did not give to a program because the same one was already running on the processor. Of all
    /// programs that are loaded.
    pub(crate) fn skipped(&self) -> u64 {
        let mut sum = 0;
        for (_, program) in self.object.programs() {
            if let Program::BtfTracePoint(program) = program
                && let Ok(fd) = program.fd()
            {
                sum += recursion_misses(fd.as_fd()).unwrap_or(0);
            }
        }
        sum
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
