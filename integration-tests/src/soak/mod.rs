//! Hours of mixed work with faults, and a judgement at the end: whether the agent came through as it began.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

pub mod faults;
pub mod judge;
pub mod log;
pub mod plan;
pub mod primary;
pub mod random;
pub mod report;
mod rest;
pub mod run;
pub mod sample;
pub mod watcher;
pub mod work;

pub use run::run;

/// Options of `soak`.
#[derive(Clone, Debug, Parser)]
#[command(name = "soak", about = "Lets blameio watch servers at work and in trouble, and judges it")]
pub struct Options {
    /// How long, as in 2h or 4m
    #[arg(default_value = "2h", value_parser = duration)]
    pub duration: Duration,
    /// The agent's binary
    #[arg(long, default_value = "target/release/blameio")]
    pub agent: PathBuf,
    /// Directory of PostgreSQL's server programs, when they are not found
    #[arg(long, value_name = "DIR")]
    pub postgresql_bin: Option<PathBuf>,
    /// For the same faults and the same work again
    #[arg(long)]
    pub seed: Option<u64>,
    /// Mean time between two faults
    #[arg(long, default_value = "4m", value_parser = duration)]
    pub fault_every: Duration,
    /// Time between two looks
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub sample_every: Duration,
    /// Put the replica on a loop device and make it slow at times
    #[arg(long)]
    pub slow_disk: bool,
    /// Add the result to docs/soak.md, with its samples beside it
    #[arg(long)]
    pub record: bool,
}

/// `90s`, `4m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a duration such as 90s, 4m or 2h"))?;
    match unit {
        "s" if number > 0 => Ok(Duration::from_secs(number)),
        "m" if number > 0 => Ok(Duration::from_mins(number)),
        "h" if number > 0 => Ok(Duration::from_hours(number)),
        _ => Err(format!("{text:?} is not a duration such as 90s, 4m or 2h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
        for bad in ["", "h", "2", "0s", "2d", "-1m", "2é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
