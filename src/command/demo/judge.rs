//! The end of the demo: what was injected, what was said, what simpler tools would have said, and whether it is right.

use std::collections::BTreeMap;

use crate::{
    command::say,
    lab::{Culprit, Tick, Verdict},
};

/// Bytes by (table, index, role, operation).
pub(super) type Bytes = BTreeMap<(String, String, String, String), f64>;

/// What the server itself counts, by (table, index).
pub(super) type Counters = BTreeMap<(String, String), i64>;

/// What was seen.
pub(super) struct Evidence {
    pub(super) ticks: Vec<Tick>,
    pub(super) bytes: Bytes,
    pub(super) before: Counters,
    pub(super) after: Counters,
    /// What they count.
    pub(super) counters: &'static str,
}

/// Most of the sum of blame may differ from the lag, as a share of it.
const SUM_ERROR: f64 = 0.01;

/// Prints the comparison; `true` when the agent was right. So much of the lag may be unknown.
pub(super) fn judge(evidence: &Evidence, culprit: Option<&Culprit>, unknown: f64) -> bool {
    let verdict = Verdict::of(&evidence.ticks, culprit);
    say("\n== verdict");
    say(format!(
        "{} ticks, {} with more than 1 s of lag, at most {:.1} s behind",
        verdict.ticks, verdict.incident_ticks, verdict.peak
    ));
    let mut right = check(
        verdict.ticks > 0 && verdict.worst_sum_error <= SUM_ERROR,
        &format!(
            "blame sums to the lag on every tick (worst difference {:.3} %)",
            verdict.worst_sum_error * 100.0
        ),
    );
    if let Some(culprit) = culprit {
        right &= check(verdict.incident_ticks > 0, "the injection made the replica lag");
        let last = evidence.ticks.iter().rev().find(|tick| tick.lag >= crate::lab::verdict::INCIDENT);
        let named = last.and_then(|tick| tick.rows.first()).is_some_and(|row| culprit.matches(row));
        right &= check(
            named,
            &format!(
                "injected: {culprit}; it is first, with {:.1} % of the lag ({:.0} % of the ticks)",
                verdict.share * 100.0,
                verdict.right_first * 100.0
            ),
        );
        right &= check(
            verdict.unknown <= unknown,
            &format!("unknown: {:.1} % of the lag", verdict.unknown * 100.0),
        );
        baselines(evidence);
    } else {
        right &= check(
            verdict.strangers.is_empty(),
            &format!("injected: nothing; {} named with a second or more", count(verdict.strangers.len())),
        );
        for row in &verdict.strangers {
            say(format!(
                "      {} {} {}",
                row.cause,
                or_none(row.table.as_ref()),
                or_none(row.index.as_ref())
            ));
        }
    }
    say(if right { "right" } else { "WRONG" });
    right
}

fn check(holds: bool, what: &str) -> bool {
    say(format!("  {} {what}", if holds { "ok  " } else { "FAIL" }));
    holds
}

fn count(rows: usize) -> String {
    if rows == 0 { "nobody".to_owned() } else { format!("{rows} rows") }
}

fn or_none(text: Option<&String>) -> &str {
    text.map_or("-", String::as_str)
}

/// What one would have read off simpler tools in the same run.
fn baselines(evidence: &Evidence) {
    say("  beside it, what simpler tools show:");
    let mut bytes: BTreeMap<(String, String), f64> = BTreeMap::new();
    for ((table, index, _, _), moved) in &evidence.bytes {
        *bytes.entry((table.clone(), index.clone())).or_default() += moved;
    }
    top("share of file bytes (filetop)", bytes.into_iter().collect());
    let counted = evidence
        .after
        .iter()
        .map(|(object, count)| {
            let before = evidence.before.get(object).copied().unwrap_or(0);
            (object.clone(), (count - before) as f64)
        })
        .collect();
    top(&format!("share of {}", evidence.counters), counted);
}

fn top(name: &str, mut rows: Vec<((String, String), f64)>) {
    let sum: f64 = rows.iter().map(|(_, value)| value).sum();
    if sum <= 0.0 {
        say(format!("      {name}: nothing at all"));
        return;
    }
    rows.sort_by(|left, right| right.1.total_cmp(&left.1));
    let shown: Vec<_> = rows
        .iter()
        .take(3)
        .map(|((table, index), value)| {
            let object = match (table.as_str(), index.as_str()) {
                ("", _) => "(log and other files)",
                (table, "") => table,
                (_, index) => index,
            };
            format!("{object} {:.0} %", value / sum * 100.0)
        })
        .collect();
    say(format!("      {name}: {}", shown.join(", ")));
}
