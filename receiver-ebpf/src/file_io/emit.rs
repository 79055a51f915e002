//! A snapshot, as OTLP points: what moved since the last one, and now and then everything.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::Instant,
};

use blameio_config::ComponentId;
use blameio_pipeline::{
    ServerIdentity,
    attribute::{DISK_IO_DIRECTION, FILE_PATH},
    machine::host_resource,
    metrics::{MetricsBuilder, PointTime, key_value},
    signal,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, common::v1::KeyValue, resource::v1::Resource,
};

use super::{
    clock::{Clock, Moment, Start},
    disk::{Disk, DiskAccount, DiskKey},
    host,
    leaf::Leaves,
    others::Others,
    points::{
        DurationKey, IoKey, ThreadKey, disk_attributes, duration_attributes, histogram, identity_attributes,
        io_attributes, leaf_attribute, thread_attributes,
    },
    refresh::Refresh,
    watch::Watch,
};
use crate::{CostRow, DurationRow, FileId, IoRow, Probes, Snapshot, ThreadRow};

const SCOPE: &str = "blameio/file_io";

#[derive(Debug)]
struct Name {
    tail: Arc<str>,
    server: u16,
}

/// What was handed on of a row last.
#[derive(Clone, Copy, Debug)]
struct Last {
    count: u64,
    ns: u64,
    start: Start,
}

/// Remembers what was handed on.
#[derive(Debug)]
pub(super) struct Emitter {
    /// The host, as this receiver tells of it.
    host: Resource,
    clock: Clock,
    refresh: Refresh,
    io: HashMap<IoKey, Last>,
    /// With the disk that the first point named: a series keeps its attributes.
    threads: HashMap<ThreadKey, (Last, Option<Arc<str>>)>,
    durations: HashMap<DurationKey, Last>,
    disk: DiskAccount,
    leaves: Leaves,
    /// The disks of files; of those that are known.
    file_leaves: HashMap<FileId, Arc<str>>,
    names: HashMap<FileId, Name>,
    /// Servers of threads that have ended, until their last time has been handed on.
    thread_servers: HashMap<u32, u16>,
    /// Of the snapshot that was last searched for missing rows.
    removals: u64,
    others: Others,
}

impl Emitter {
    pub(super) fn new(receiver: &ComponentId) -> Self {
        Self {
            host: host_resource(receiver),
            clock: Clock::new(),
            refresh: Refresh::new(Instant::now()),
            io: HashMap::new(),
            threads: HashMap::new(),
            durations: HashMap::new(),
            disk: DiskAccount::default(),
            leaves: Leaves::default(),
            file_leaves: HashMap::new(),
            names: HashMap::new(),
            thread_servers: HashMap::new(),
            removals: 0,
            others: Others::new(),
        }
    }

    /// Whether a relation's file is known to be removed: its name is not in the data directory any more.
    pub(super) fn is_gone(&self, file: &FileId, watch: &Watch) -> bool {
        let Some(Name { tail, server }) = self.names.get(file) else { return false };
        let view = watch.views().get(usize::from(*server));
        let directory = view.and_then(|view| view.data_directory.as_deref());
        let Some((directory, relative)) = directory.zip(below_data_directory(tail)) else { return false };
        matches!(directory.join(relative).try_exists(), Ok(false))
    }

    /// The points of a snapshot.
    pub(super) fn emit(
        &mut self,
        snapshot: &Snapshot,
        watch: &Watch,
        probes: &mut Probes,
    ) -> ExportMetricsServiceRequest {
        self.refresh.turn(Instant::now());
        self.rename(probes);
        let moment = self.clock.collection(snapshot.monotonic_ns);
        let mut builders = builders(watch);
        for row in &snapshot.io {
            if let Some(builder) = builder(&mut builders, row.server) {
                self.io(row, moment, builder, probes);
            }
        }
        for row in &snapshot.threads {
            let server = watch.server_of(row.tid).or_else(|| self.thread_servers.get(&row.tid).copied());
            if let Some(server) = server {
                self.thread_servers.insert(row.tid, server);
                if let Some(builder) = builder(&mut builders, server) {
                    self.thread(row, moment, builder, (watch, probes));
                }
            }
        }
        for row in &snapshot.durations {
            if let Some(builder) = builder(&mut builders, row.server) {
                self.duration(row, moment, builder, probes);
            }
        }
        for (key, disk, start) in self.disk.take(snapshot, &self.refresh, Instant::now(), moment) {
            if let Some(builder) = builder(&mut builders, key.1.1) {
                self.disk(&key, (&disk, moment.since(start)), builder, (watch, probes));
            }
        }
        // Looking at every row costs: only when there is something to find.
        if snapshot.removals != self.removals {
            self.removals = snapshot.removals;
            self.end_missing(snapshot, moment, &mut builders);
        }
        let mut host = self.host();
        self.others.emit(&snapshot.others, &mut self.leaves, &self.refresh, moment, &mut host);
        host::points(snapshot, moment.since(self.clock.start()), &mut host);
        builders.push(Some(host));
        request(builders)
    }

    /// Ends every series, for there are no probes any more, and says so.
    pub(super) fn end(&mut self, costs: &[CostRow], watch: &Watch) -> ExportMetricsServiceRequest {
        let moment = self.clock.now();
        let mut builders = builders(watch);
        self.end_missing(&Snapshot::default(), moment, &mut builders);
        let mut host = self.host();
        self.others.end(moment, &mut host);
        let time = moment.since(self.clock.start());
        host::ended(costs, time, &mut host);
        host::detached(time, &mut host);
        builders.push(Some(host));
        request(builders)
    }

    /// What there is to say as long as there are no probes.
    pub(super) fn detached(&mut self) -> ExportMetricsServiceRequest {
        let time = self.clock.now().since(self.clock.start());
        let mut host = self.host();
        host::detached(time, &mut host);
        request(vec![Some(host)])
    }

    fn host(&self) -> MetricsBuilder {
        MetricsBuilder::new(self.host.clone(), SCOPE)
    }

    /// Takes new names of files that were renamed, or whose inode has another owner now.
    fn rename(&mut self, probes: &mut Probes) {
        let names = match probes.renamed() {
            Ok(Some(names)) => names,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "new names cannot be read; tried again with the next collection");
                return;
            }
        };
        for (file, known) in &mut self.names {
            if let Some(name) = names.get(file).filter(|name| known.tail.as_ref() != name.as_str()) {
                known.tail = Arc::from(name.as_str());
            }
        }
    }

    fn io(&mut self, row: &IoRow, moment: Moment, builder: &mut MetricsBuilder, probes: &mut Probes) {
        let key = (row.file, row.index, row.server, row.tid, row.role, row.operation);
        let (last, moved) = Last::after(self.io.get(&key), (row.operations, row.time_ns), moment);
        if !moved && !self.refresh.is_due(&key) {
            return;
        }
        self.io.insert(key, last);
        let time = moment.since(last.start);
        let attributes = || io_attributes(&key);
        let file = self.file_attributes(row.file, row.server, probes);
        let with_file = || attributes().into_iter().chain(file.iter().cloned()).collect::<Vec<_>>();
        builder.point(&signal::FILE_OPERATIONS, integer(row.operations), with_file(), time);
        builder.point(&signal::FILE_OPERATION_TIME, seconds(row.time_ns), with_file(), time);
        if row.bytes > 0 {
            builder.point(&signal::FILE_IO, integer(row.bytes), with_file(), time);
        }
        if row.errors > 0 {
            builder.point(&signal::FILE_ERRORS, integer(row.errors), with_file(), time);
        }
    }

    fn thread(
        &mut self,
        row: &ThreadRow,
        moment: Moment,
        builder: &mut MetricsBuilder,
        (watch, probes): (&Watch, &mut Probes),
    ) {
        let key = (row.tid, row.state, row.file, row.index);
        let server = self.thread_servers.get(&row.tid).copied().unwrap_or_default();
        let known = self.threads.get(&key);
        let (last, moved) = Last::after(known.map(|(last, _)| last), (0, row.ns), moment);
        let leaf = match known {
            Some(_) if !moved && !self.refresh.is_due(&key) => return,
            Some((_, leaf)) => leaf.clone(),
            None => row.file.and_then(|file| self.leaf(&file, server, watch)),
        };
        let mut attributes = thread_attributes(&key);
        if row.state.has_file() {
            attributes.extend(self.file_attributes(row.file, server, probes));
            attributes.extend(leaf.as_deref().map(leaf_attribute));
        }
        self.threads.insert(key, (last, leaf));
        builder.point(&signal::THREAD_TIME, seconds(row.ns), attributes, moment.since(last.start));
    }

    fn duration(
        &mut self,
        row: &DurationRow,
        moment: Moment,
        builder: &mut MetricsBuilder,
        probes: &mut Probes,
    ) {
        let key = (row.file, row.index, row.server, row.operation);
        // A row that came back may have the same count.
        let (last, moved) = Last::after(self.durations.get(&key), (row.count, row.sum_ns), moment);
        if !moved && !self.refresh.is_due(&key) {
            return;
        }
        self.durations.insert(key, last);
        let mut attributes = duration_attributes(&key);
        attributes.extend(self.file_attributes(Some(row.file), row.server, probes));
        builder.histogram(
            &signal::FILE_OPERATION_DURATION,
            histogram(row, attributes, moment.since(last.start)),
        );
    }

    /// Points without a disk are those of bytes only: nobody competes for what is not known.
    fn disk(
        &mut self,
        key: &DiskKey,
        (disk, time): (&Disk, PointTime),
        builder: &mut MetricsBuilder,
        (watch, probes): (&Watch, &mut Probes),
    ) {
        let (file, (_, server, ..)) = *key;
        let mut attributes = disk_attributes(key);
        attributes.extend(self.file_attributes(Some(file), server, probes));
        for (direction, bytes) in [("read", disk.read), ("write", disk.written)] {
            if bytes > 0 {
                let mut attributes = attributes.clone();
                attributes.push(key_value(DISK_IO_DIRECTION, direction));
                builder.point(&signal::FILE_DISK_IO, integer(bytes), attributes, time);
            }
        }
        let Some(leaf) = self.leaf(&file, server, watch) else { return };
        attributes.push(leaf_attribute(&leaf));
        builder.point(&signal::DEVICE_TIME, disk.seconds, attributes.clone(), time);
        builder.point(&signal::DEVICE_OPERATIONS, whole(disk.operations), attributes, time);
    }

    /// The disk below a file.
    fn leaf(&mut self, file: &FileId, server: u16, watch: &Watch) -> Option<Arc<str>> {
        if *file == FileId::BY_PATH {
            return None;
        }
        if let Some(leaf) = self.file_leaves.get(file) {
            return Some(Arc::clone(leaf));
        }
        let view = watch.views().get(usize::from(server))?;
        let process = view.processes.first().map(|process| process.pid);
        let leaf = self.leaves.of(file.device, process)?;
        self.file_leaves.insert(*file, Arc::clone(&leaf));
        Some(leaf)
    }

    fn file_attributes(&mut self, file: Option<FileId>, server: u16, probes: &mut Probes) -> Vec<KeyValue> {
        if let Some(file) = file.filter(|file| *file != FileId::BY_PATH && !self.names.contains_key(file))
            && let Some(name) = probes.file_name(&file)
        {
            self.names.insert(file, Name { tail: Arc::from(name), server });
        }
        self.known_attributes(file)
    }

    /// The same, of a series that ends.
    fn known_attributes(&self, file: Option<FileId>) -> Vec<KeyValue> {
        let Some(file) = file else {
            // The row of what did not fit: it is counted, but nobody can say for which file.
            return vec![key_value(FILE_PATH, "(overflow)")];
        };
        let name = match self.names.get(&file) {
            _ if file == FileId::BY_PATH => "(by path)",
            Some(name) => &name.tail,
            None => "(unnamed)",
        };
        let mut attributes = identity_attributes(&file);
        attributes.push(key_value(FILE_PATH, name));
        attributes
    }

    /// Series whose rows were swept are ended, so that nobody waits for them, and forgotten.
    fn end_missing(&mut self, snapshot: &Snapshot, moment: Moment, builders: &mut [Option<MetricsBuilder>]) {
        let io: HashSet<IoKey> = snapshot
            .io
            .iter()
            .map(|row| (row.file, row.index, row.server, row.tid, row.role, row.operation))
            .collect();
        for (key, last) in missing(&mut self.io, &io) {
            let Some(builder) = builder(builders, key.2) else { continue };
            let mut attributes = io_attributes(&key);
            attributes.extend(self.known_attributes(key.0));
            for metric in [
                &signal::FILE_OPERATIONS,
                &signal::FILE_OPERATION_TIME,
                &signal::FILE_IO,
                &signal::FILE_ERRORS,
            ] {
                builder.ended(metric, attributes.clone(), moment.since(last.start));
            }
        }
        let threads: HashSet<ThreadKey> =
            snapshot.threads.iter().map(|row| (row.tid, row.state, row.file, row.index)).collect();
        for (key, (last, leaf)) in missing(&mut self.threads, &threads) {
            let Some(server) = self.thread_servers.get(&key.0) else { continue };
            let Some(builder) = builder(builders, *server) else { continue };
            let mut attributes = thread_attributes(&key);
            if key.1.has_file() {
                attributes.extend(self.known_attributes(key.2));
                attributes.extend(leaf.as_deref().map(leaf_attribute));
            }
            builder.ended(&signal::THREAD_TIME, attributes, moment.since(last.start));
        }
        let durations: HashSet<_> =
            snapshot.durations.iter().map(|row| (row.file, row.index, row.server, row.operation)).collect();
        for (key, last) in missing(&mut self.durations, &durations) {
            let Some(builder) = builder(builders, key.2) else { continue };
            let mut attributes = duration_attributes(&key);
            attributes.extend(self.known_attributes(Some(key.0)));
            builder.ended(&signal::FILE_OPERATION_DURATION, attributes, moment.since(last.start));
        }
        for (key, start) in self.disk.missing(snapshot) {
            let Some(builder) = builder(builders, key.1.1) else { continue };
            let time = moment.since(start);
            let mut attributes = disk_attributes(&key);
            attributes.extend(self.known_attributes(Some(key.0)));
            for direction in ["read", "write"] {
                let mut attributes = attributes.clone();
                attributes.push(key_value(DISK_IO_DIRECTION, direction));
                builder.ended(&signal::FILE_DISK_IO, attributes, time);
            }
            let Some(leaf) = self.file_leaves.get(&key.0) else { continue };
            attributes.push(leaf_attribute(leaf));
            for metric in [&signal::DEVICE_TIME, &signal::DEVICE_OPERATIONS] {
                builder.ended(metric, attributes.clone(), time);
            }
        }
        let live: HashSet<u32> = self.threads.keys().map(|key| key.0).collect();
        self.thread_servers.retain(|tid, _| live.contains(tid));
        let files: HashSet<FileId> = self
            .io
            .keys()
            .filter_map(|key| key.0)
            .chain(self.threads.keys().filter_map(|key| key.2))
            .chain(self.durations.keys().map(|key| key.0))
            .chain(self.disk.files())
            .collect();
        self.names.retain(|file, _| files.contains(file));
        self.file_leaves.retain(|file, _| files.contains(file));
    }
}

impl Last {
    /// What there is to remember of a row, and whether it moved. One that fell was swept and came back at once.
    fn after(before: Option<&Self>, (count, ns): (u64, u64), moment: Moment) -> (Self, bool) {
        let same = before.filter(|last| count >= last.count && ns >= last.ns);
        let start = same.map_or(moment.begin, |last| last.start);
        (Self { count, ns, start }, same.is_none_or(|last| (last.count, last.ns) != (count, ns)))
    }
}

/// One for each server whose identity is known.
fn builders(watch: &Watch) -> Vec<Option<MetricsBuilder>> {
    let builder = |identity: &Arc<ServerIdentity>| MetricsBuilder::new(identity.resource(), SCOPE);
    watch.views().iter().map(|view| view.identity.as_ref().map(builder)).collect()
}

fn request(builders: Vec<Option<MetricsBuilder>>) -> ExportMetricsServiceRequest {
    let filled = builders.into_iter().flatten().filter(|builder| !builder.is_empty());
    ExportMetricsServiceRequest { resource_metrics: filled.map(MetricsBuilder::finish).collect() }
}

/// The part of a tail that is relative to the data directory, of files whose place in it is known by their name.
fn below_data_directory(tail: &str) -> Option<&str> {
    ["base/", "global/"].into_iter().find_map(|folder| {
        let at = tail.find(folder)?;
        (at == 0 || tail.as_bytes()[at - 1] == b'/').then(|| &tail[at..])
    })
}

/// Takes out what is not present any more.
fn missing<K: Copy + Eq + Hash, V>(known: &mut HashMap<K, V>, present: &HashSet<K>) -> Vec<(K, V)> {
    known.extract_if(|key, _| !present.contains(key)).collect()
}

fn builder(builders: &mut [Option<MetricsBuilder>], server: u16) -> Option<&mut MetricsBuilder> {
    builders.get_mut(usize::from(server))?.as_mut()
}

pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The whole part; shares of write-back add up over time.
fn whole(operations: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the whole part is meant; an operation takes longer than 1 ns"
    )]
    let whole = operations as i64;
    whole
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
#[path = "emit_tests.rs"]
mod tests;
