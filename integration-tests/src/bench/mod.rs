//! What the agent costs, measured on real servers against the targets. One case a file; each gives rows, never a verdict
//! by opinion: a row that is zero, missing or was not drained is an error.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

pub mod agent;
mod agent_cpu;
mod catalog;
mod fixture;
mod latency;
mod memory;
mod pgbench;
mod probe_cost;
pub mod procfs;
pub mod record;
pub mod scrape;
pub mod statistics;

/// What a case gives: errors are texts for whoever ran it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// Nanoseconds that the probes add to an operation
    ProbeCost,
    /// CPU of the agent while a server does 50,000 file operations a second
    AgentCpu,
    /// Memory with kernel maps: idle, 10,000 and 100,000 relations
    Memory,
    /// First load of 100,000 relations, and what it leaves in the server's backend
    Catalog,
    /// A read/write pgbench with the agent and without, in turn
    Pgbench,
    /// From a file operation to its point on the scrape page
    Latency,
}

impl Case {
    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Options of `bench`.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", about = "Measures what blameio costs, and keeps the rows")]
pub struct Options {
    /// What to measure; everything without it
    pub cases: Vec<Case>,
    /// The agent's binary
    #[arg(long, default_value = "target/release/blameio")]
    pub agent: PathBuf,
    /// Directory of PostgreSQL's server programs, when they are not found
    #[arg(long, value_name = "DIR")]
    pub postgresql_bin: Option<PathBuf>,
    /// Short runs and few relations, to see that it works. Nothing is recorded
    #[arg(long)]
    pub quick: bool,
    /// Print only; write nothing below docs
    #[arg(long)]
    pub no_record: bool,
    /// Pairs of pgbench rates, watched and unwatched
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    pub pairs: u32,
    /// Seconds of each pgbench rate
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub pgbench_seconds: u32,
    /// Seconds of the agent under load
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
}

impl Options {
    /// Seconds of one measurement.
    pub fn span(&self) -> Duration {
        Duration::from_secs(if self.quick { 4 } else { u64::from(self.seconds) })
    }

    /// The cases to run.
    pub fn chosen(&self) -> Vec<Case> {
        if self.cases.is_empty() { Case::value_variants().to_vec() } else { self.cases.clone() }
    }
}

/// A limit of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// There is none: the row explains another.
    None,
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what unit.
    pub unit: &'static str,
    /// What it should be.
    pub target: Target,
}

impl Row {
    /// A figure without a target.
    pub fn of(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, target: Target::None }
    }

    /// The same with a target.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Whether the target was met; `None` without one.
    pub fn met(&self) -> Option<bool> {
        match self.target {
            Target::None => None,
            Target::AtMost(limit) => Some(self.value <= limit),
            Target::AtLeast(limit) => Some(self.value >= limit),
        }
    }
}

/// A case's result.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// For the table.
    pub rows: Vec<Row>,
    /// What they were computed from, in order; for the CSV only.
    pub raw: Vec<Row>,
}

impl Measured {
    /// Refuses a figure that cannot be one: that a cost is unmeasurably small must show beside what was done.
    fn checked(self) -> Outcome<Self> {
        if self.rows.is_empty() {
            return Err("no row was measured".into());
        }
        match self.rows.iter().find(|row| !row.value.is_finite() || row.value == 0.0) {
            Some(row) => Err(format!("{} is {}: not measured", row.what, row.value).into()),
            None => Ok(self),
        }
    }
}

/// Measures one case.
pub async fn measure(case: Case, options: &Options) -> Outcome<Measured> {
    let measured = match case {
        Case::ProbeCost => probe_cost::measure().await,
        Case::AgentCpu => agent_cpu::measure(options).await,
        Case::Memory => memory::measure(options).await,
        Case::Catalog => catalog::measure(options).await,
        Case::Pgbench => pgbench::measure(options).await,
        Case::Latency => latency::measure(options).await,
    };
    measured?.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_zero_or_missing_is_an_error() {
        let measured = |value: f64| Measured { rows: vec![Row::of("a", value, "s")], raw: Vec::new() };
        assert!(measured(1.0).checked().is_ok());
        assert!(measured(0.0).checked().is_err());
        assert!(measured(f64::NAN).checked().is_err());
        assert!(Measured::default().checked().is_err());
    }
}
