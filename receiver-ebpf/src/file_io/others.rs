//! Who else is on a device: the block layer's rows as points, named by cgroup or command, on the host's resource. A
//! device never has more than [`MOST_CULPRITS`] of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use blameio_pipeline::{
    attribute::{BLAME_CULPRIT, SYSTEM_DEVICE},
    metrics::{MetricsBuilder, PointTime, key_value},
    signal,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::{
    clock::{Moment, Start},
    emit::{integer, seconds},
    host::of_host,
    leaf::{Leaves, has_holders},
    refresh::Refresh,
};
use crate::{Other, OtherRow, cgroup::Cgroups};

/// Culprits of one device with a name of their own; all others are `(other)`.
const MOST_CULPRITS: usize = 32;
/// What somebody must take of a device between two collections to get a name of its own.
const LEAST_NS: u64 = 1_000_000;
/// A name is given up after so many collections in which its owner did nothing.
const IDLE_COLLECTIONS: u32 = 600;
/// Between two looks at what a device is made of.
const DEVICES_INTERVAL: Duration = Duration::from_mins(1);

const OTHER: &str = "(other)";

/// What is known of a device number.
#[derive(Debug, Clone)]
struct Device {
    leaf: Arc<str>,
    is_part: bool,
}

#[derive(Debug)]
struct Culprit {
    start: Start,
    time_ns: u64,
    operations: u64,
    idle: u32,
}

/// Remembers what was handed on, and the names.
#[derive(Debug)]
pub(super) struct Others {
    cgroups: Cgroups,
    devices: HashMap<u32, Device>,
    devices_due: Instant,
    /// Time and operations of each row as last read.
    rows: HashMap<(u32, Other, bool), (u64, u64)>,
    /// By the name of the disk.
    culprits: HashMap<Arc<str>, HashMap<String, Culprit>>,
}

impl Others {
    pub(super) fn new() -> Self {
        Self {
            cgroups: Cgroups::default(),
            devices: HashMap::new(),
            devices_due: Instant::now() + DEVICES_INTERVAL,
            rows: HashMap::new(),
            culprits: HashMap::new(),
        }
    }

    /// The points of what moved, and of what is due.
    pub(super) fn emit(
        &mut self,
        rows: &[OtherRow],
        leaves: &mut Leaves,
        refresh: &Refresh,
        moment: Moment,
        builder: &mut MetricsBuilder,
    ) {
        if Instant::now() >= self.devices_due {
            self.devices_due = Instant::now() + DEVICES_INTERVAL;
            self.devices.clear();
        }
        let mut moved: HashMap<(Arc<str>, String), (u64, u64)> = HashMap::new();
        let mut read = HashMap::with_capacity(rows.len());
        for row in rows {
            let key = (row.device, row.other.clone(), row.by_kernel);
            let (time_ns, operations) = self.rows.get(&key).copied().unwrap_or_default();
            read.insert(key, (row.time_ns, row.operations));
            // A row that was swept came back at 0.
            let growth = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            let grown = (growth(row.time_ns, time_ns), growth(row.operations, operations));
            if grown == (0, 0) {
                continue;
            }
            let device = self.devices.entry(row.device).or_insert_with(|| known(row.device, leaves));
            if device.is_part && row.by_kernel {
                continue;
            }
            let leaf = Arc::clone(&device.leaf);
            let sums = moved.entry((leaf, name(&row.other, &mut self.cgroups))).or_default();
            *sums = (sums.0 + grown.0, sums.1 + grown.1);
        }
        self.rows = read;
        for culprit in self.culprits.values_mut().flat_map(HashMap::values_mut) {
            culprit.idle += 1;
        }
        for ((leaf, name), (time_ns, operations)) in moved {
            let culprits = self.culprits.entry(leaf).or_default();
            let own = culprits.contains_key(&name) || (culprits.len() < MOST_CULPRITS && time_ns >= LEAST_NS);
            let new = Culprit { start: moment.begin, time_ns: 0, operations: 0, idle: 0 };
            let culprit = culprits.entry(if own { name } else { OTHER.to_owned() }).or_insert(new);
            culprit.time_ns += time_ns;
            culprit.operations += operations;
            culprit.idle = 0;
        }
        self.points(refresh, moment, builder);
    }

    /// The end of all series.
    pub(super) fn end(&mut self, moment: Moment, builder: &mut MetricsBuilder) {
        for (leaf, culprits) in self.culprits.drain() {
            for (name, culprit) in culprits {
                end(builder, &leaf, &name, moment.since(culprit.start));
            }
        }
    }

    fn points(&mut self, refresh: &Refresh, moment: Moment, builder: &mut MetricsBuilder) {
        for (leaf, culprits) in &mut self.culprits {
            culprits.retain(|name, culprit| {
                let kept = culprit.idle < IDLE_COLLECTIONS;
                let time = moment.since(culprit.start);
                if !kept {
                    end(builder, leaf, name, time);
                } else if culprit.idle == 0 || refresh.is_due(&(leaf, name)) {
                    let attributes = attributes(leaf, name);
                    let taken = seconds(culprit.time_ns);
                    builder.point(&signal::DEVICE_TIME, taken, attributes.clone(), time);
                    let operations = integer(culprit.operations);
                    builder.point(&signal::DEVICE_OPERATIONS, operations, attributes, time);
                }
                kept
            });
        }
        self.culprits.retain(|_, culprits| !culprits.is_empty());
    }
}

fn end(builder: &mut MetricsBuilder, leaf: &str, name: &str, time: PointTime) {
    let attributes = attributes(leaf, name);
    builder.ended(&signal::DEVICE_TIME, attributes.clone(), time);
    builder.ended(&signal::DEVICE_OPERATIONS, attributes, time);
}

fn known(number: u32, leaves: &mut Leaves) -> Device {
    let unknown = || Arc::from(format!("{}:{}", number >> 20, number & 0xf_ffff));
    Device { leaf: leaves.of(number, None).unwrap_or_else(unknown), is_part: has_holders(number) }
}

fn name(other: &Other, cgroups: &mut Cgroups) -> String {
    match other {
        Other::Cgroup(id) => cgroups.path(*id).map_or_else(|| format!("(cgroup {id})"), str::to_owned),
        Other::Command(command) => command.clone(),
        // As ps(1) shows them.
        Other::Kernel(command) => format!("[{command}]"),
        Other::WriteBack => "(write-back)".to_owned(),
        Other::Overflow => OTHER.to_owned(),
    }
}

fn attributes(leaf: &str, culprit: &str) -> Vec<KeyValue> {
    of_host([key_value(SYSTEM_DEVICE, leaf), key_value(BLAME_CULPRIT, culprit)])
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
