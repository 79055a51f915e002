//! Compares what the agent said with what was injected.

use std::fmt;

use super::recorder::{Row, Tick};

/// Lag above which somebody must be named. Below it there is hardly anything to owe.
pub const INCIDENT: f64 = 1.0;

/// What was injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// The cause that is right.
    pub cause: &'static str,
    /// The table, if the cause has one.
    pub table: Option<String>,
    /// The index, if the cause has one.
    pub index: Option<String>,
    /// `blameio.file.kind`; any is right where none is given.
    pub kind: Option<&'static str>,
    /// `blameio.thread.role` of who competes; any is right where none is given.
    pub role: Option<&'static str>,
    /// `blameio.blame.culprit`: who competes, if it is not this server.
    pub rival: Option<String>,
}

impl Culprit {
    /// A cause without an object.
    pub fn of(cause: &'static str) -> Self {
        Self { cause, table: None, index: None, kind: None, role: None, rival: None }
    }

    /// A cause of a table.
    #[must_use]
    pub fn table(self, table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..self }
    }

    /// A cause of an index.
    #[must_use]
    pub fn index(self, index: &str) -> Self {
        Self { index: Some(index.to_owned()), ..self }
    }

    /// A cause in a kind of file.
    #[must_use]
    pub fn kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// A cause that threads of a role are.
    #[must_use]
    pub fn role(self, role: &'static str) -> Self {
        Self { role: Some(role), ..self }
    }

    /// A cause that somebody else is.
    #[must_use]
    pub fn rival(self, rival: &str) -> Self {
        Self { rival: Some(rival.to_owned()), ..self }
    }

    /// Whether a row of blame means this.
    pub fn matches(&self, row: &Row) -> bool {
        row.cause == self.cause
            && row.table == self.table
            && row.index == self.index
            && row.culprit == self.rival
            && self.kind.is_none_or(|kind| row.kind.as_deref() == Some(kind))
            && self.role.is_none_or(|role| row.role.as_deref() == Some(role))
    }
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(table) = &self.table {
            write!(f, " of table {table}")?;
        }
        if let Some(index) = &self.index {
            write!(f, ", index {index}")?;
        }
        if let Some(kind) = self.kind {
            write!(f, ", kind {kind}")?;
        }
        if let Some(role) = self.role {
            write!(f, ", role {role}")?;
        }
        if let Some(rival) = &self.rival {
            write!(f, " by {rival}")?;
        }
        Ok(())
    }
}

/// How right the ticks were.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Ticks looked at.
    pub ticks: usize,
    /// Ticks with an incident.
    pub incident_ticks: usize,
    /// Highest lag, in seconds.
    pub peak: f64,
    /// Largest difference between the sum of blame and the lag, as a share of the lag; over every tick.
    pub worst_sum_error: f64,
    /// Share of the incident's ticks on which the culprit was first.
    pub right_first: f64,
    /// Share of blame that is unknown, at the last tick of the incident.
    pub unknown: f64,
    /// Share of blame that the culprit has, at the last tick of the incident.
    pub share: f64,
    /// Named rows with more than an incident's worth of blame, at any tick, of those that are not the culprit.
    pub strangers: Vec<Row>,
}

impl Verdict {
    /// Judges ticks; without a culprit, nobody may be named.
    pub fn of(ticks: &[Tick], culprit: Option<&Culprit>) -> Self {
        let worst_sum_error =
            ticks.iter().map(|tick| (tick.sum() - tick.lag).abs() / tick.lag.max(1e-3)).fold(0.0, f64::max);
        let incident: Vec<&Tick> = ticks.iter().filter(|tick| tick.lag >= INCIDENT).collect();
        let is_culprit = |row: &Row| culprit.is_some_and(|culprit| culprit.matches(row));
        let right = incident.iter().filter(|tick| tick.rows.first().is_some_and(is_culprit)).count();
        let mut strangers: Vec<Row> = Vec::new();
        for row in ticks.iter().flat_map(|tick| &tick.rows) {
            let same = |other: &Row| {
                (&other.cause, &other.table, &other.index, &other.culprit)
                    == (&row.cause, &row.table, &row.index, &row.culprit)
            };
            if row.cause != "unknown"
                && row.seconds >= INCIDENT
                && !is_culprit(row)
                && !strangers.iter().any(same)
            {
                strangers.push(row.clone());
            }
        }
        let last = incident.last();
        let owed = |tick: &&&Tick| {
            tick.rows.iter().filter(|row| is_culprit(row)).map(|row| row.seconds).sum::<f64>()
        };
        Self {
            ticks: ticks.len(),
            incident_ticks: incident.len(),
            peak: ticks.iter().map(|tick| tick.lag).fold(0.0, f64::max),
            worst_sum_error,
            right_first: if incident.is_empty() { 0.0 } else { right as f64 / incident.len() as f64 },
            unknown: last.map_or(0.0, |tick| tick.unknown() / tick.lag),
            share: last.as_ref().map_or(0.0, |tick| owed(tick) / tick.lag),
            strangers,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn row(cause: &str, index: Option<&str>, seconds: f64) -> Row {
        Row {
            cause: cause.into(),
            table: index.map(|_| "orders".into()),
            index: index.map(Into::into),
            kind: None,
            role: None,
            culprit: None,
            seconds,
        }
    }

    fn tick(lag: f64, rows: Vec<Row>) -> Tick {
        Tick { at: SystemTime::UNIX_EPOCH, port: 5432, lag, rows }
    }

    #[test]
    fn a_wrong_index_is_a_stranger_and_not_right() {
        let culprit = Culprit::of("replay").table("orders").index("cold");
        let ticks = [
            tick(2.0, vec![row("replay", Some("cold"), 1.9), row("unknown", None, 0.1)]),
            tick(4.0, vec![row("replay", Some("warm"), 3.0), row("replay", Some("cold"), 1.0)]),
        ];
        let verdict = Verdict::of(&ticks, Some(&culprit));
        assert_eq!(verdict.right_first, 0.5);
        assert_eq!(verdict.share, 0.25);
        assert_eq!(verdict.strangers.len(), 1);
        assert!(verdict.worst_sum_error < 1e-9);
    }

    #[test]
    fn rows_that_do_not_sum_to_the_lag_are_seen() {
        let verdict = Verdict::of(&[tick(2.0, vec![row("cpu", None, 1.0)])], None);
        assert_eq!(verdict.worst_sum_error, 0.5);
        assert_eq!(verdict.strangers.len(), 1);
    }
}
