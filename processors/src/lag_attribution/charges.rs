//! From a thread's states and what it waited for to charges: the table of causes. Pure; it keeps nothing. What others
//! owe at a device has been told apart before.

use std::collections::BTreeMap;

use super::{
    owner::{CPU_LIMIT, Cause, Owner, Subject},
    spans::Amounts,
    work::Effort,
};

/// What a critical thread was doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doing {
    /// cpu, runqueue, read, …
    pub state: String,
    /// File or object, of states that have one.
    pub subject: Subject,
    /// The device below the file; empty where it is not known.
    pub device: String,
}

/// Seconds of the critical threads by what they were doing.
pub type Spent = Amounts<Doing>;

/// Seconds waited, by kind and relation.
pub type Waits = BTreeMap<(String, Subject), f64>;

/// What is known of the time between two ticks.
#[derive(Debug, Default)]
pub struct Window {
    /// Part of the wall time below that the thread readings cover, in seconds.
    pub observed: f64,
    /// Wall time between the two lag measurements, in seconds.
    pub elapsed: f64,
    /// Where the critical threads' time went, without what others owe; sums with that to what is observed, less what
    /// could not be told.
    pub spent: Spent,
    /// What others owe of the critical threads' time.
    pub contention: Vec<(Owner, f64)>,
    /// Seconds that operations of applying threads were in flight, by file and operation.
    pub operations: Amounts<(Subject, String)>,
    /// Who the processor worked for.
    pub processor: BTreeMap<Owner, Effort>,
    /// Seconds waited, by kind and relation, as the server tells it.
    pub waits: Waits,
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
    let room_for = room_for(window);
    for (owner, seconds) in &window.contention {
        seen += seconds;
        charge(owner.clone(), *seconds);
    }
    for (Doing { state, subject, .. }, seconds) in &window.spent {
        seen += seconds;
        match state.as_str() {
            "read" | "prefetch" => charge(about(Cause::Replay, subject), *seconds),
            "fsync" => charge(about(Cause::Fsync, subject), *seconds),
            "write" if subject.table.is_some() && !subject.is_unresolved() => {
                // A table that grows is written for itself. Else the file that is written is the victim: the seconds are
                // owed by those whose reads needed the room.
                let own = seconds * growth_share(window, subject);
                charge(about(Cause::Replay, subject), own);
                for (reader, share) in &room_for {
                    charge(Owner::about(Cause::Eviction, reader.clone()), (seconds - own) * share);
                }
            }
            "cpu" | "runqueue" => {
                for (owner, share) in processor_shares(window) {
                    charge(owner, seconds * share);
                }
            }
            "throttled" => charge(Owner::of(Cause::Cpu).by(CPU_LIMIT), *seconds),
            "wait" => waited += seconds,
            _ => charge(Owner::unknown(), *seconds),
        }
    }
    let told: f64 = window.waits.values().sum();
    if window.observed > 0.0 {
        // A thread that ended left a part unseen: of that too the server's word is all there is.
        let unseen = (window.observed - seen) + (window.elapsed - window.observed).max(0.0);
        let told_of_it = (told - waited).clamp(0.0, unseen.max(0.0));
        waited += told_of_it;
        charge(Owner::unknown(), unseen - told_of_it);
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

/// Whom the processor worked for, in parts of one.
pub fn processor_shares(window: &Window) -> Vec<(Owner, f64)> {
    let sum: f64 = window.processor.values().map(|effort| effort.weight).sum();
    if sum > 0.0 {
        window.processor.iter().map(|(owner, effort)| (owner.clone(), effort.weight / sum)).collect()
    } else {
        vec![(Owner::of(Cause::Cpu), 1.0)]
    }
}

/// Whose pages needed the room that was made, in parts of one: those that were read, else those that were added.
fn room_for(window: &Window) -> Vec<(Subject, f64)> {
    let mut read: BTreeMap<&Subject, f64> = BTreeMap::new();
    for (Doing { state, subject, .. }, seconds) in &window.spent {
        if matches!(state.as_str(), "read" | "prefetch") {
            *read.entry(subject).or_default() += seconds;
        }
    }
    let mut added: BTreeMap<&Subject, f64> = BTreeMap::new();
    for ((subject, operation), seconds) in &window.operations {
        if operation == "extend" {
            *added.entry(subject).or_default() += seconds;
        }
    }
    for mut by in [read, added] {
        by.retain(|subject, _| subject.table.is_some() && !subject.is_unresolved());
        let sum: f64 = by.values().sum();
        if sum > 0.0 {
            return by.into_iter().map(|(subject, seconds)| (subject.clone(), seconds / sum)).collect();
        }
    }
    vec![(Subject::default(), 1.0)]
}

/// Which part of the writing of a file changed its length.
fn growth_share(window: &Window, subject: &Subject) -> f64 {
    let of = |operation: &str| {
        window.operations.get(&(subject.clone(), operation.to_owned())).copied().unwrap_or(0.0)
    };
    let length = of("extend") + of("truncate");
    let all = length + of("write");
    if all > 0.0 { length / all } else { 0.0 }
}

fn about(cause: Cause, subject: &Subject) -> Owner {
    // What is not resolved is owed to nobody, never to a table that was guessed.
    if subject.is_unresolved() { Owner::unknown() } else { Owner::about(cause, subject.clone()) }
}

/// A lock or conflict is known by its cause even where its relation is not.
fn relation(cause: Cause, subject: &Subject) -> Owner {
    let subject = if subject.is_unresolved() { Subject::default() } else { subject.clone() };
    Owner::about(cause, subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(table: &str) -> Subject {
        Subject { table: Some(table.into()), kind: Some("heap".into()), ..Subject::default() }
    }

    fn spent(rows: &[(&str, &str, f64)]) -> Spent {
        let doing = |state: &str, table| Doing {
            state: state.into(),
            subject: if state == "cpu" { Subject::default() } else { subject(table) },
            device: String::new(),
        };
        rows.iter().map(|(state, table, seconds)| (doing(state, table), *seconds)).collect()
    }

    fn waits(rows: &[(&str, &str, f64)]) -> Waits {
        rows.iter().map(|(kind, table, seconds)| (((*kind).into(), subject(table)), *seconds)).collect()
    }

    fn charged(window: &Window, owner: &Owner) -> f64 {
        charges(window).into_iter().find(|(row, _)| row == owner).map_or(0.0, |(_, seconds)| seconds)
    }

    fn window(rows: &[(&str, &str, f64)], waited: &[(&str, &str, f64)]) -> Window {
        let observed = rows.iter().map(|row| row.2).sum();
        Window { observed, elapsed: 1.0, spent: spent(rows), waits: waits(waited), ..Window::default() }
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
        let lock = Owner::about(Cause::Lock, subject("orders"));
        assert!((charged(&window, &lock) - 0.65 * 0.9 / 0.85).abs() < 1e-9);
        assert_eq!(charged(&window, &Owner::of(Cause::Transport)), 0.0);
        assert_eq!(charged(&window, &Owner::unknown()), 0.0);
    }

    #[test]
    fn a_wait_that_nobody_explained_is_unknown_and_not_charged_to_who_was_named() {
        let window = window(&[("wait", "", 1.0)], &[("lock", "orders", 0.05)]);
        let lock = Owner::about(Cause::Lock, subject("orders"));
        assert!((charged(&window, &lock) - 0.05).abs() < 1e-9);
        assert!((charged(&window, &Owner::unknown()) - 0.95).abs() < 1e-9);
    }

    #[test]
    fn time_that_no_reading_covers_is_unknown() {
        let window = Window { elapsed: 3.0, ..window(&[("cpu", "", 1.0)], &[]) };
        assert!((charged(&window, &Owner::unknown()) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn of_time_that_no_reading_covers_what_the_server_said_is_named() {
        let window =
            Window { elapsed: 1.0, ..window(&[("cpu", "", 0.1), ("wait", "", 0.1)], &[("paused", "", 0.8)]) };
        assert!((charged(&window, &Owner::of(Cause::Paused)) - 0.8).abs() < 1e-9);
        assert!((charged(&window, &Owner::unknown()) - 0.1).abs() < 1e-9);
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

    #[test]
    fn room_is_owed_by_whose_read_needed_it_and_the_victim_is_not_named() {
        let window = window(&[("read", "cold", 0.3), ("read", "cool", 0.1), ("write", "victim", 0.4)], &[]);
        for (table, seconds) in [("cold", 0.3), ("cool", 0.1), ("victim", 0.0)] {
            let owner = Owner::about(Cause::Eviction, subject(table));
            assert!((charged(&window, &owner) - seconds).abs() < 1e-9, "{table}");
        }
    }

    #[test]
    fn a_table_that_grows_is_written_for_itself() {
        let operations = [("extend", 0.3), ("write", 0.1)];
        let operations =
            operations.map(|(operation, seconds)| ((subject("orders"), operation.to_owned()), seconds));
        let window = Window { operations: operations.into(), ..window(&[("write", "orders", 0.8)], &[]) };
        let owed = |cause| charged(&window, &Owner::about(cause, subject("orders")));
        assert!((owed(Cause::Replay) - 0.6).abs() < 1e-9);
        assert!((owed(Cause::Eviction) - 0.2).abs() < 1e-9, "nothing else needed the room");
    }

    #[test]
    fn the_processor_is_owed_by_the_tables_it_worked_for_and_a_limit_by_itself() {
        let cpu = |table: &str| Owner::about(Cause::Cpu, subject(table));
        let window = Window {
            processor: [("a", 30.0), ("b", 10.0)]
                .map(|(table, weight)| (cpu(table), Effort { weight, items: 0.0 }))
                .into(),
            ..window(&[("cpu", "", 0.4), ("throttled", "", 0.5)], &[])
        };
        assert!((charged(&window, &cpu("a")) - 0.3).abs() < 1e-9);
        assert!((charged(&window, &cpu("b")) - 0.1).abs() < 1e-9);
        assert!((charged(&window, &Owner::of(Cause::Cpu).by(CPU_LIMIT)) - 0.5).abs() < 1e-9);
        assert_eq!(charged(&window, &Owner::of(Cause::Cpu)), 0.0);
    }
}
