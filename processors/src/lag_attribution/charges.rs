//! From a thread's states and what it waited for to charges: the table of causes. Pure; it keeps nothing.

use std::collections::BTreeMap;

use super::owner::{Cause, Owner, Subject};

/// Seconds of the critical threads by state and file or object.
pub type Spent = BTreeMap<(String, Subject), f64>;

/// What is known of the time between two ticks.
#[derive(Debug, Default)]
pub struct Window {
    /// Part of the wall time below that the thread readings cover, in seconds.
    pub observed: f64,
    /// Wall time between the two lag measurements, in seconds.
    pub elapsed: f64,
    /// Where the critical threads' time went; sums to what is observed, less what could not be told.
    pub spent: Spent,
    /// Seconds waited, by kind and relation, as the server tells it.
    pub waits: Spent,
    /// Growth of the transport stage, where it is known, in seconds.
    pub transport_growth: Option<f64>,
    /// Whether more than noise of the lag is in the transport stage.
    pub transport_behind: bool,
}

/// What the server tells of waits is sampled: so much of a wait may have no name and still be taken to be of the kinds
/// that were told.
const SAMPLING: f64 = 0.1;

/// Gross charges: what each owner's work took, before its normal cost is taken off.
pub fn charges(window: &Window) -> Vec<(Owner, f64)> {
    let mut owners: BTreeMap<Owner, f64> = BTreeMap::new();
    let mut charge = |owner: Owner, seconds: f64| {
        if seconds > 0.0 {
            *owners.entry(owner).or_default() += seconds;
        }
    };
    let mut waited = 0.0;
    let mut seen = 0.0;
    for ((state, subject), seconds) in &window.spent {
        seen += seconds;
        match state.as_str() {
            "read" | "prefetch" => charge(about(Cause::Replay, subject), *seconds),
            "fsync" => charge(about(Cause::Fsync, subject), *seconds),
            // Whose read needed the room is not known here; the file that was written is the victim, not the culprit.
            "write" if subject.table.is_some() && !subject.is_unresolved() => {
                charge(Owner::of(Cause::Eviction), *seconds);
            }
            "cpu" | "runqueue" => charge(Owner::of(Cause::Cpu), *seconds),
            "wait" => waited += seconds,
            _ => charge(Owner::unknown(), *seconds),
        }
    }
    let told: f64 = window.waits.values().sum();
    if window.observed > 0.0 {
        charge(Owner::unknown(), (window.observed - seen) + (window.elapsed - window.observed).max(0.0));
    } else {
        // Without the kernel's eyes the server's word is all there is; the rest of the time is nobody's.
        waited = told.min(window.elapsed);
        charge(Owner::unknown(), window.elapsed - waited);
    }
    let unnamed = waited - told;
    // More was told than was waited, or about as much: the wait is shared out. Much less: the rest has no name, and
    // whoever was named owes no more than was told.
    let scale = if unnamed <= SAMPLING * waited { waited / told.max(f64::MIN_POSITIVE) } else { 1.0 };
    if told <= 0.0 || unnamed > SAMPLING * waited {
        charge(Owner::unknown(), unnamed);
    }
    let mut starved = 0.0;
    for ((kind, subject), seconds) in &window.waits {
        let share = seconds * scale;
        match kind.as_str() {
            "lock" => charge(relation(Cause::Lock, subject), share),
            "conflict" => charge(relation(Cause::Conflict, subject), share),
            "paused" => charge(Owner::of(Cause::Paused), share),
            "starved" => starved += share,
            // An intended delay is no part of the lag.
            "delayed" => {}
            _ => charge(Owner::unknown(), share),
        }
    }
    // Starved while behind and growth of the stage are two views of the same seconds.
    let late = if window.transport_behind { starved } else { 0.0 };
    charge(Owner::of(Cause::Transport), late.max(window.transport_growth.unwrap_or(0.0)));
    owners.into_iter().collect()
}

fn about(cause: Cause, subject: &Subject) -> Owner {
    // What is not resolved is owed to nobody, never to a table that was guessed.
    if subject.is_unresolved() { Owner::unknown() } else { Owner { cause, subject: subject.clone() } }
}

/// A lock or conflict is known by its cause even where its relation is not.
fn relation(cause: Cause, subject: &Subject) -> Owner {
    let subject = if subject.is_unresolved() { Subject::default() } else { subject.clone() };
    Owner { cause, subject }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(table: &str) -> Subject {
        Subject { table: Some(table.into()), kind: Some("heap".into()), ..Subject::default() }
    }

    fn spent(rows: &[(&str, &str, f64)]) -> Spent {
        rows.iter().map(|(state, table, seconds)| (((*state).into(), subject(table)), *seconds)).collect()
    }

    fn charged(window: &Window, owner: &Owner) -> f64 {
        charges(window).into_iter().find(|(row, _)| row == owner).map_or(0.0, |(_, seconds)| seconds)
    }

    fn window(rows: &[(&str, &str, f64)], waits: &[(&str, &str, f64)]) -> Window {
        let observed = rows.iter().map(|row| row.2).sum();
        Window { observed, elapsed: 1.0, spent: spent(rows), waits: spent(waits), ..Window::default() }
    }

    #[test]
    fn what_is_not_resolved_is_unknown() {
        let window = Window { observed: 1.0, ..window(&[("read", "(unresolved)", 0.6)], &[]) };
        assert_eq!(charges(&window), [(Owner::unknown(), 1.0)]);
    }

    #[test]
    fn waiting_is_told_apart_by_what_the_server_says() {
        let window =
            window(&[("wait", "", 0.9), ("cpu", "", 0.1)], &[("lock", "orders", 0.65), ("starved", "", 0.2)]);
        let lock = Owner { cause: Cause::Lock, subject: subject("orders") };
        assert!((charged(&window, &lock) - 0.65 * 0.9 / 0.85).abs() < 1e-9);
        assert_eq!(charged(&window, &Owner::of(Cause::Transport)), 0.0);
        assert_eq!(charged(&window, &Owner::unknown()), 0.0);
    }

    #[test]
    fn a_wait_that_nobody_explained_is_unknown_and_not_charged_to_who_was_named() {
        let window = window(&[("wait", "", 1.0)], &[("lock", "orders", 0.05)]);
        let lock = Owner { cause: Cause::Lock, subject: subject("orders") };
        assert!((charged(&window, &lock) - 0.05).abs() < 1e-9);
        assert!((charged(&window, &Owner::unknown()) - 0.95).abs() < 1e-9);
    }

    #[test]
    fn time_that_no_reading_covers_is_unknown() {
        let window = Window { elapsed: 3.0, ..window(&[("cpu", "", 1.0)], &[]) };
        assert!((charged(&window, &Owner::unknown()) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn starved_while_behind_is_transport_and_is_not_charged_twice() {
        let window = Window {
            transport_growth: Some(0.9),
            transport_behind: true,
            ..window(&[("wait", "", 1.0)], &[("starved", "", 1.0)])
        };
        assert_eq!(charges(&window), [(Owner::of(Cause::Transport), 1.0)]);
    }

    #[test]
    fn without_the_kernel_only_what_the_server_said_is_named() {
        let window = window(&[], &[("paused", "", 0.8)]);
        assert!((charged(&window, &Owner::of(Cause::Paused)) - 0.8).abs() < 1e-9);
        assert!((charged(&window, &Owner::unknown()) - 0.2).abs() < 1e-9);
    }
}
