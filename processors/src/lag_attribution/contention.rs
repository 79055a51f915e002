//! Splits the critical thread's blocked time at a device between the object, which owes what the same operations take on
//! a device that nobody else uses, and those who were in flight there meanwhile, who owe the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    charges::{Doing, Spent},
    company::Company,
    devices::{Flight, Party},
    latency::{Class, Latencies},
    owner::{Cause, Owner, Subject},
    reading::Measure,
    spans::Amounts,
};

/// Others who were in flight for less than this part of the window are no contention.
const COMPANY: f64 = 0.02;

/// Others who were in flight for less than this part of the window do not spoil what is learned.
const ALONE: f64 = 0.05;

/// Below this part there is still something to learn, with their share taken off and the less weight the more they were
/// there: a server that flushes its log all day would never be alone.
const NEARLY_ALONE: f64 = 0.5;

/// What is known of the devices in a window.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The host that the server is on.
    pub host: &'a str,
    /// `service.instance.id` of the server.
    pub instance: &'a str,
    /// What was in flight on the host's devices.
    pub flights: &'a Amounts<Flight>,
    /// The window's length in seconds.
    pub seconds: f64,
}

/// What the critical thread did at one device.
#[derive(Debug, Default)]
struct Own {
    /// Blocked seconds by what was waited for and the object.
    blocked: BTreeMap<(Class, Subject), f64>,
    /// Operations that reached the device, by object.
    operations: BTreeMap<Subject, f64>,
}

impl Own {
    /// Operations of an object by class: in proportion to what its classes took, at their learned times where those are
    /// known. Each with its blocked seconds.
    fn by_class(&self, learned: impl Fn(Class) -> Option<f64>) -> Vec<(Class, &Subject, f64, f64)> {
        let mut expected: BTreeMap<&Subject, f64> = BTreeMap::new();
        let known = self.blocked.keys().all(|(class, _)| learned(*class).is_some());
        let weight = |class: Class, seconds: f64| {
            let each = learned(class).filter(|seconds| known && *seconds > 0.0);
            seconds / each.unwrap_or(1.0)
        };
        for ((class, subject), seconds) in &self.blocked {
            *expected.entry(subject).or_default() += weight(*class, *seconds);
        }
        let operations = |class: Class, subject: &Subject, seconds: f64| {
            let all = self.operations.get(subject).copied().unwrap_or(0.0);
            let sum = expected.get(subject).copied().unwrap_or(0.0);
            if sum > 0.0 { all * weight(class, seconds) / sum } else { 0.0 }
        };
        self.blocked
            .iter()
            .map(|((class, subject), seconds)| {
                (*class, subject, operations(*class, subject, *seconds), *seconds)
            })
            .collect()
    }
}

/// Takes what others owe out of the thread's time, and returns it.
pub fn split(
    spent: &mut Spent,
    around: &Surroundings<'_>,
    latencies: &Latencies,
    company: &Company,
) -> Vec<(Owner, f64)> {
    let mut owed: BTreeMap<Owner, f64> = BTreeMap::new();
    for (device, own) in own(spent, around) {
        let mut others = competitors(device.as_str(), &own, around);
        for (owner, seconds) in &mut others {
            *seconds = company.unusual(&device, owner, *seconds, around.seconds);
        }
        let in_flight: f64 = others.values().sum();
        if around.seconds <= 0.0 || in_flight < COMPANY * around.seconds {
            continue;
        }
        let learned = |class| latencies.of(around.host, &device, class);
        let shared = in_flight / around.seconds;
        let excesses: Vec<(Class, Subject, f64)> = own
            .by_class(learned)
            .into_iter()
            .map(|(class, subject, operations, blocked)| {
                let alone = match learned(class).filter(|_| operations > 0.0) {
                    Some(each) => operations * each,
                    // A device that serves all who wait in turn gives each the same part of its time.
                    None => blocked / (1.0 + shared),
                };
                (class, subject.clone(), (blocked - alone).max(0.0))
            })
            .collect();
        let sum: f64 = excesses.iter().map(|(_, _, excess)| excess).sum();
        // Nobody holds another up for longer than he is there himself.
        let part = if sum > in_flight { in_flight / sum } else { 1.0 };
        let blocked: BTreeMap<_, _> = excesses
            .into_iter()
            .map(|(class, subject, excess)| {
                let blocked = own.blocked.get(&(class, subject.clone())).copied().unwrap_or(0.0);
                ((class, subject), if blocked > 0.0 { 1.0 - excess * part / blocked } else { 1.0 })
            })
            .collect();
        for (doing, seconds) in &mut *spent {
            let Some(class) = Class::of(&doing.state).filter(|_| doing.device == device) else { continue };
            if let Some(keep) = blocked.get(&(class, doing.subject.clone())) {
                *seconds *= keep;
            }
        }
        for (owner, seconds) in others {
            *owed.entry(owner).or_default() += sum * part * seconds / in_flight;
        }
    }
    owed.into_iter().filter(|(_, seconds)| *seconds > 0.0).collect()
}

/// Learns from a window in which nothing lagged who is there as usual.
pub fn learn_company(around: &Surroundings<'_>, company: &mut Company) {
    let devices: BTreeSet<&str> = around.flights.keys().map(|flight| flight.device.as_str()).collect();
    let nobody = Own::default();
    let flights = devices.into_iter().map(|device| (device, competitors(device, &nobody, around)));
    company.learn(around.seconds, flights);
}

/// Learns from a window in which nothing lagged: of devices that nobody else used much, and objects that were waited for in
/// one way only.
pub fn learn(spent: &Spent, around: &Surroundings<'_>, latencies: &mut Latencies) {
    for (device, own) in own(spent, around) {
        let in_flight: f64 = competitors(&device, &own, around).values().sum();
        let shared = if around.seconds > 0.0 { in_flight / around.seconds } else { NEARLY_ALONE };
        let (weight, alone) = match shared {
            ..ALONE => (1.0, 1.0),
            ..NEARLY_ALONE => (1.0 - shared / NEARLY_ALONE, 1.0 / (1.0 + shared)),
            _ => continue,
        };
        for ((class, subject), seconds) in &own.blocked {
            let classes = own.blocked.keys().filter(|(_, other)| other == subject).count();
            let operations = own.operations.get(subject).copied().unwrap_or(0.0);
            if classes == 1 {
                let place = (around.host.to_owned(), device.clone(), *class);
                latencies.learn(place, operations * weight, seconds * alone * weight);
            }
        }
    }
}

/// The critical thread's time and operations by device.
fn own(spent: &Spent, around: &Surroundings<'_>) -> BTreeMap<String, Own> {
    let mut devices: BTreeMap<String, Own> = BTreeMap::new();
    for (Doing { state, subject, device }, seconds) in spent {
        let Some(class) = Class::of(state).filter(|_| !device.is_empty() && *seconds > 0.0) else { continue };
        let own = devices.entry(device.clone()).or_default();
        *own.blocked.entry((class, subject.clone())).or_default() += seconds;
    }
    for (Flight { device, measure, party }, operations) in around.flights {
        let is_own = party.of_thread && party.instance.as_deref() == Some(around.instance);
        if *measure == Measure::Operations
            && is_own
            && let Some(own) = devices.get_mut(device)
        {
            *own.operations.entry(party.subject.clone()).or_default() += operations;
        }
    }
    devices
}

/// Who else was in flight on a device, as owners, with their seconds.
fn competitors(device: &str, own: &Own, around: &Surroundings<'_>) -> BTreeMap<Owner, f64> {
    let mut competitors = BTreeMap::new();
    for (flight, seconds) in around.flights {
        if flight.device != device || flight.measure != Measure::Time || flight.party.of_thread {
            continue;
        }
        if let Some(owner) = competitor(&flight.party, own, around.instance) {
            *competitors.entry(owner).or_default() += seconds;
        }
    }
    competitors
}

/// Write-back queues hundreds of writes at once, so that the sum of their times in flight says little of how long the device
/// was kept; and a journal commits for whoever flushes, the watched servers among them.
fn is_housekeeping(culprit: &str) -> bool {
    culprit == "(write-back)" || culprit.starts_with("[jbd2/")
}

fn competitor(party: &Party, own: &Own, instance: &str) -> Option<Owner> {
    let subject = if party.subject.is_unresolved() { Subject::default() } else { party.subject.clone() };
    let owner = Owner { role: party.role.clone(), ..Owner::about(Cause::Contention, subject) };
    match (&party.culprit, &party.instance) {
        (Some(culprit), _) if is_housekeeping(culprit) => None,
        (Some(culprit), _) => Some(owner.by(culprit)),
        (None, Some(other)) if other != instance => Some(owner.by(&party.service)),
        (None, Some(_)) => {
            let waited_for = own.blocked.keys().any(|(_, subject)| *subject == party.subject);
            let for_it = match party.role.as_deref() {
                Some("apply") => true,
                // Workers that read for whoever asks: what the critical thread waits for is read for it.
                Some("io_worker") => waited_for,
                _ => false,
            };
            (!for_it).then_some(owner)
        }
        (None, None) => None,
    }
}

#[cfg(test)]
#[path = "contention_tests.rs"]
mod tests;
