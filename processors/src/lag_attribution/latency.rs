//! What an operation of the critical thread takes on a device that nobody else uses: learned while nothing lags, and
//! forgotten with the operations that follow.

use std::collections::BTreeMap;

/// After so many operations since, what was learned weighs half.
const HALF_LIFE_OPERATIONS: f64 = 20_000.0;

/// Below this many operations nothing is known.
const ENOUGH_OPERATIONS: f64 = 50.0;

/// Most devices and classes that are remembered.
const MOST_ROWS: usize = 1000;

/// Names of devices that the kernel gives to something else after the next start: what was learned of them is not kept.
const FLEETING: [&str; 4] = ["loop", "ram", "zram", "nbd"];

/// What a thread waits for at a device. The three differ by orders of magnitude on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Reads, and reads ahead.
    Read,
    /// Writes.
    Write,
    /// Until something is durable.
    Fsync,
}

impl Class {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Fsync];

    /// The class of a thread's state; `None` for those that are not at a device.
    pub fn of(state: &str) -> Option<Self> {
        match state {
            "read" | "prefetch" => Some(Self::Read),
            "write" => Some(Self::Write),
            "fsync" => Some(Self::Fsync),
            _ => None,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Fsync => "fsync",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

/// A device of a host, and what is waited for.
pub type Place = (String, String, Class);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Learned {
    operations: f64,
    seconds: f64,
}

/// Learned times.
#[derive(Debug, Default, PartialEq)]
pub struct Latencies {
    rows: BTreeMap<Place, Learned>,
}

impl Latencies {
    /// Learns from operations during which nobody else was there.
    pub fn learn(&mut self, place: Place, operations: f64, seconds: f64) {
        if operations <= 0.0 || seconds < 0.0 {
            return;
        }
        if self.rows.len() >= MOST_ROWS && !self.rows.contains_key(&place) {
            return;
        }
        let learned = self.rows.entry(place).or_default();
        let keep = 0.5_f64.powf(operations / HALF_LIFE_OPERATIONS);
        learned.operations = learned.operations * keep + operations;
        learned.seconds = learned.seconds * keep + seconds;
    }

    /// Seconds per operation, where enough is known.
    pub fn of(&self, host: &str, device: &str, class: Class) -> Option<f64> {
        let learned = self.rows.get(&(host.to_owned(), device.to_owned(), class))?;
        (learned.operations >= ENOUGH_OPERATIONS).then(|| learned.seconds / learned.operations)
    }

    /// What is worth to be remembered, as rows of text.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.rows.iter().filter(|((_, device, _), _)| !is_fleeting(device)).map(
            |((host, device, class), learned)| {
                let numbers = [learned.operations.to_string(), learned.seconds.to_string()];
                [host.clone(), device.clone(), class.as_str().to_owned()].into_iter().chain(numbers).collect()
            },
        )
    }

    /// Takes a row back; `None` if it is not one.
    pub fn restore(&mut self, row: &[&str]) -> Option<()> {
        let [host, device, class, operations, seconds] = row else { return None };
        let number =
            |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        let learned = Learned { operations: number(operations)?, seconds: number(seconds)? };
        let place = ((*host).to_owned(), (*device).to_owned(), Class::named(class)?);
        if self.rows.len() < MOST_ROWS {
            self.rows.insert(place, learned);
        }
        Some(())
    }
}

fn is_fleeting(device: &str) -> bool {
    FLEETING.iter().any(|prefix| {
        device.strip_prefix(prefix).is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(device: &str) -> Place {
        ("h".into(), device.into(), Class::Read)
    }

    #[test]
    fn nothing_is_known_before_enough_was_seen_and_what_is_new_outweighs_what_is_old() {
        let mut latencies = Latencies::default();
        latencies.learn(place("vda"), 10.0, 0.001);
        assert_eq!(latencies.of("h", "vda", Class::Read), None);
        latencies.learn(place("vda"), 990.0, 0.099);
        assert!((latencies.of("h", "vda", Class::Read).unwrap() - 1e-4).abs() < 1e-9);
        assert_eq!(latencies.of("h", "vda", Class::Fsync), None);
        assert_eq!(latencies.of("another", "vda", Class::Read), None);
        latencies.learn(place("vda"), 100_000.0, 100.0);
        assert!(latencies.of("h", "vda", Class::Read).unwrap() > 9e-4);
    }

    #[test]
    fn what_was_learned_comes_back_and_names_that_are_given_anew_do_not() {
        let mut latencies = Latencies::default();
        latencies.learn(place("vda"), 1000.0, 0.1);
        let mut restored = Latencies::default();
        for row in latencies.rows() {
            restored.restore(&row.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        }
        assert_eq!(restored, latencies);
        latencies.learn(place("loop3"), 1000.0, 0.1);
        assert_eq!(latencies.rows().count(), 1);
        for row in [
            &["h", "vda", "read", "1"][..],
            &["h", "vda", "seek", "1", "1"],
            &["h", "vda", "read", "1", "NaN"],
        ] {
            assert!(restored.restore(row).is_none(), "{row:?}");
        }
    }
}
