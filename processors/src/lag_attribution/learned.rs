//! What was learned of devices and of work, and its table in the state file.

use std::{collections::BTreeMap, path::Path};

use super::{cost::Cost, latency::Latencies, normal::Normal, state_file::StateFile};

/// Most channels whose work is remembered while nothing is heard of them.
const MOST_CHANNELS: usize = 200;

/// What was learned of one channel's work.
#[derive(Debug, Default, PartialEq)]
pub struct Habits {
    /// What owners' work normally costs.
    pub normal: Normal,
    /// What log records cost the processor.
    pub cost: Cost,
}

impl Habits {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = self.normal.rows();
        rows.push(["drops".to_owned()].into_iter().chain(self.cost.fields()).collect());
        rows
    }

    fn restore(&mut self, row: &[&str]) -> Option<()> {
        match row {
            ["drops", fields @ ..] => self.cost = Cost::restore(fields)?,
            _ => self.normal.restore(row)?,
        }
        Some(())
    }
}

/// `service.instance.id` and channel.
pub type ChannelKey = (String, String);

/// Everything that was learned, apart from what the channels hold while they are heard of.
#[derive(Debug, Default)]
pub struct Learned {
    /// Of devices.
    pub latencies: Latencies,
    resting: BTreeMap<ChannelKey, Habits>,
    file: Option<StateFile>,
}

impl Learned {
    /// Reads the file of this name, if there is one; nothing is kept without a directory.
    pub fn load(directory: Option<&Path>, name: &str) -> Self {
        let Some(directory) = directory else { return Self::default() };
        let file = StateFile::new(directory, name);
        let mut learned = Self::default();
        for row in file.read() {
            let row: Vec<&str> = row.iter().map(String::as_str).collect();
            if learned.restore(&row).is_none() {
                file.damaged(&format!("this is no row: {}", row.join(" ")));
                learned = Self::default();
                break;
            }
        }
        Self { file: Some(file), ..learned }
    }

    fn restore(&mut self, row: &[&str]) -> Option<()> {
        match row {
            ["latency", row @ ..] => self.latencies.restore(row),
            ["channel", instance, channel, row @ ..] => {
                let key = ((*instance).to_owned(), (*channel).to_owned());
                self.resting.entry(key).or_default().restore(row)
            }
            _ => None,
        }
    }

    /// Takes what is known of a channel that is heard of again.
    pub fn wake(&mut self, instance: &str, channel: &str) -> Habits {
        self.resting.remove(&(instance.to_owned(), channel.to_owned())).unwrap_or_default()
    }

    /// Remembers a channel that is not heard of any more.
    pub fn rest(&mut self, instance: &str, channel: &str, habits: Habits) {
        if self.resting.len() < MOST_CHANNELS {
            self.resting.insert((instance.to_owned(), channel.to_owned()), habits);
        }
    }

    /// Whether it is time to write.
    pub fn is_due(&self) -> bool {
        self.file.as_ref().is_some_and(StateFile::is_due)
    }

    /// Writes it all, with what the channels hold.
    pub fn write<'a>(&mut self, awake: impl Iterator<Item = (&'a str, &'a str, &'a Habits)>) {
        let Some(file) = &mut self.file else { return };
        let resting = self
            .resting
            .iter()
            .flat_map(|((instance, channel), habits)| channel_rows(instance, channel, habits));
        let channels = awake
            .flat_map(|(instance, channel, habits)| channel_rows(instance, channel, habits))
            .chain(resting);
        let latencies =
            self.latencies.rows().map(|row| ["latency".to_owned()].into_iter().chain(row).collect());
        file.write(latencies.chain(channels));
    }
}

fn channel_rows(instance: &str, channel: &str, habits: &Habits) -> Vec<Vec<String>> {
    let begin = ["channel", instance, channel].map(str::to_owned);
    habits.rows().into_iter().map(|row| begin.iter().cloned().chain(row).collect()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::lag_attribution::{
        latency::Class,
        normal::Applied,
        owner::{Cause, Owner, Subject},
    };

    fn habits() -> Habits {
        let mut habits = Habits::default();
        let subject = Subject { table: Some("orders".into()), ..Subject::default() };
        let owner = Owner::about(Cause::Replay, subject);
        habits.normal.learn(&[(owner, 0.3)], &Applied { bytes: 1e6, ..Applied::default() });
        habits
    }

    #[test]
    fn what_was_learned_survives_a_restart_and_damage_costs_only_the_knowledge() {
        let directory = tempfile::tempdir().unwrap();
        let load = || Learned::load(Some(directory.path()), "a.state");
        let mut learned = load();
        learned.latencies.learn(("h".into(), "vda".into(), Class::Read), 1000.0, 0.1);
        learned.rest("8", "", habits());
        learned.write([("7", "", &habits())].into_iter());
        let mut restored = load();
        assert_eq!(restored.latencies, learned.latencies);
        assert_eq!(restored.wake("7", ""), habits());
        assert_eq!(restored.wake("8", ""), habits());
        assert_eq!(restored.wake("9", ""), Habits::default());
        let path = directory.path().join("a.state");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("latency\th", "latency\t")).unwrap();
        assert_eq!(load().latencies.of("h", "vda", Class::Read), None);
        fs::write(&path, text.replace("read", "reed")).unwrap();
        let mut damaged = load();
        assert_eq!(damaged.wake("7", ""), Habits::default(), "half of it is not believed");
        damaged.write([("7", "", &habits())].into_iter());
        assert_eq!(load().wake("7", ""), habits());
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let mut learned = Learned::load(None, "a.state");
        assert!(!learned.is_due());
        learned.write(std::iter::empty());
    }
}
