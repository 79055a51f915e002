//! Who had I/O in flight on which device, and when: what all servers of a host and the host itself tell, kept apart by
//! host and cut to the windows that ask for it. Resources may come in any order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    owner::Subject,
    reading::{DevicePoint, Measure},
    spans::{Amounts, Counters, Spans},
};

/// Most series of a host that are followed. Of a competitor that is not, nobody is accused: its seconds stay with the
/// object that was waited for.
const MOST_SERIES: usize = 20_000;

/// A time that is older than the newest by more than this is a clock that was set back, in nanoseconds.
const CLOCK_STEP: u64 = 10_000_000_000;

/// What is older than this, in nanoseconds, no tick asks for any more.
const KEPT: u64 = 10_000_000_000;

/// Somebody whose I/O is told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// `service.instance.id` of who told of it: a watched server, or who tells of the host.
    pub instance: Option<String>,
    /// `service.name` of it.
    pub service: String,
    /// Who, when it is nobody that is watched.
    pub culprit: Option<String>,
    /// Role of the threads.
    pub role: Option<String>,
    /// Whether this is one thread that replication waits for; the rows of its role hold its I/O too.
    pub of_thread: bool,
    /// File or object.
    pub subject: Subject,
}

/// What somebody did on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flight {
    /// The device.
    pub device: String,
    /// Seconds, or operations.
    pub measure: Measure,
    /// Who.
    pub party: Party,
}

#[derive(Debug)]
struct Host {
    seen: Instant,
    read_at: u64,
    counters: Counters<(Flight, Option<i64>, String)>,
    spans: Spans<Flight>,
}

/// Devices of all hosts.
#[derive(Debug)]
pub struct Devices {
    hosts: BTreeMap<String, Host>,
    kept: u64,
}

impl Default for Devices {
    fn default() -> Self {
        Self::new(KEPT)
    }
}

/// Where a resource's readings come from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its host.
    pub host: &'a str,
    /// `service.instance.id`.
    pub instance: Option<&'a str>,
    /// `service.name`.
    pub service: &'a str,
}

impl Devices {
    /// Devices whose readings are kept for so long, in nanoseconds; at least 10 s.
    pub fn new(kept: u64) -> Self {
        Self { hosts: BTreeMap::new(), kept: kept.max(KEPT) }
    }

    /// Takes the cumulative values of one resource as they were at `at`. One without any tells that time went on.
    pub fn read(&mut self, source: Source<'_>, at: u64, points: Vec<DevicePoint>) {
        let host = self.hosts.entry(source.host.to_owned()).or_insert_with(|| Host {
            seen: Instant::now(),
            read_at: at,
            counters: Counters::default(),
            spans: Spans::default(),
        });
        host.seen = Instant::now();
        host.advance(at);
        host.spans.forget(at.saturating_sub(self.kept));
        for point in points {
            host.point(source, at, point);
        }
    }

    /// What was in flight on a host between two moments.
    pub fn between(&self, host: &str, from: u64, until: u64) -> Amounts<Flight> {
        self.hosts.get(host).map_or_else(Amounts::new, |host| host.spans.between(from, until).1)
    }

    /// Forgets hosts of which nothing was heard for so long.
    pub fn forget(&mut self, after: Duration) {
        self.hosts.retain(|_, host| host.seen.elapsed() < after);
    }
}

impl Host {
    fn advance(&mut self, at: u64) {
        if at > self.read_at {
            self.spans.push(self.read_at, at, Amounts::new());
            self.read_at = at;
        } else if at.saturating_add(CLOCK_STEP) < self.read_at {
            self.spans.clear();
            self.read_at = at;
        }
    }

    fn point(&mut self, source: Source<'_>, at: u64, point: DevicePoint) {
        let party = Party {
            instance: source.instance.map(str::to_owned),
            service: source.service.to_owned(),
            culprit: point.culprit,
            role: point.role,
            of_thread: point.thread.is_some(),
            subject: point.subject,
        };
        let flight = Flight { device: point.device, measure: point.measure, party };
        let counter = (flight, point.thread, point.path);
        if self.counters.len() >= MOST_SERIES && !self.counters.has(&counter) {
            return;
        }
        let flight = counter.0.clone();
        let grown = self.counters.grow(counter, point.value);
        // Before the first span the readings only tell where the counters stand.
        if grown > 0.0
            && let Some(amounts) = self.spans.at(at)
        {
            *amounts.entry(flight).or_default() += grown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn point(culprit: &str, value: f64) -> DevicePoint {
        DevicePoint {
            measure: Measure::Time,
            device: "vda".into(),
            culprit: Some(culprit.into()),
            role: None,
            thread: None,
            subject: Subject::default(),
            path: String::new(),
            value: Some(value),
        }
    }

    const HOST: Source<'_> = Source { host: "h", instance: Some("1"), service: "blameio" };
    const SERVER: Source<'_> = Source { host: "h", instance: Some("7"), service: "orders" };

    fn total(devices: &Devices, from: u64, until: u64) -> f64 {
        devices.between("h", from, until).values().sum()
    }

    #[test]
    fn resources_of_one_moment_share_a_span_in_any_order() {
        for order in [[HOST, SERVER], [SERVER, HOST]] {
            let mut devices = Devices::default();
            for second in 1..=3_u64 {
                for source in order {
                    devices.read(source, second * SECOND, vec![point("fio", second as f64 * 0.5)]);
                }
            }
            assert!((total(&devices, SECOND, 3 * SECOND) - 2.0).abs() < 1e-9);
            assert!((total(&devices, SECOND + SECOND / 2, 2 * SECOND) - 0.5).abs() < 1e-9);
            assert_eq!(devices.between("another", 0, u64::MAX), Amounts::new());
        }
    }

    #[test]
    fn what_was_idle_for_long_and_moves_now_moved_now() {
        let mut devices = Devices::default();
        devices.read(HOST, SECOND, vec![point("fio", 1.0)]);
        for second in 2..=9 {
            devices.read(SERVER, second * SECOND, Vec::new());
        }
        devices.read(SERVER, 10 * SECOND, Vec::new());
        devices.read(HOST, 10 * SECOND, vec![point("fio", 1.8)]);
        assert!((total(&devices, 9 * SECOND, 10 * SECOND) - 0.8).abs() < 1e-9);
        assert_eq!(total(&devices, SECOND, 9 * SECOND), 0.0);
    }
}
