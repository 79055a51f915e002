//! What the probes add to an operation, by the program of receiver-ebpf that does each operation with them and without.

use std::process::Stdio;

use tokio::process::Command;

use super::{Measured, Outcome, Row, Target, record::root};

/// Its source: it may be run only where it exists.
const EXAMPLE: &str = "receiver-ebpf/examples/probe_cost.rs";

/// A tracepoint's cost on an operation of a watched server, in nanoseconds.
const WATCHED: f64 = 250.0;

/// The same on a system call of everybody else.
const OTHERS: f64 = 50.0;

pub(super) async fn measure() -> Outcome<Measured> {
    if !root().join(EXAMPLE).is_file() {
        return Err(format!("{EXAMPLE} is not there").into());
    }
    let cargo = ["run", "--release", "--quiet", "-p", "blameio-receiver-ebpf", "--example", "probe_cost"];
    let mut command = Command::new("cargo");
    command.args(cargo).current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    if !output.status.success() {
        return Err(format!("probe_cost failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let costs = parse(&String::from_utf8_lossy(&output.stdout))?;
    let mut measured = Measured::default();
    for cost in &costs {
        measured.raw.push(Row::of(format!("{}, without probes", cost.case), cost.off, "ns"));
        measured.raw.push(Row::of(format!("{}, with probes", cost.case), cost.on, "ns"));
        let limit = if cost.of_others() { OTHERS } else { WATCHED };
        let row = Row::of(format!("{}, added by the probes", cost.case), cost.on - cost.off, "ns");
        measured.rows.push(row.target(Target::AtMost(limit)));
    }
    Ok(measured)
}

/// Nanoseconds of one operation.
#[derive(Clone, Debug, PartialEq)]
struct Cost {
    case: String,
    off: f64,
    on: f64,
}

impl Cost {
    /// Whether it is what somebody pays who is not watched.
    fn of_others(&self) -> bool {
        ["unwatched", "not watched", "unrelated"].iter().any(|word| self.case.contains(word))
    }
}

/// Rows of `case,off_ns,on_ns`; other lines are for people.
fn parse(said: &str) -> Outcome<Vec<Cost>> {
    let mut costs = Vec::new();
    for line in said.lines() {
        // A case's own commas stand between quotes.
        let [on, off, case] =
            line.rsplitn(3, ',').map(|field| field.trim().trim_matches('"')).collect::<Vec<_>>()[..]
        else {
            continue;
        };
        let (Ok(off), Ok(on)) = (off.parse::<f64>(), on.parse::<f64>()) else { continue };
        if off <= 0.0 || on <= 0.0 {
            return Err(format!("probe_cost measured nothing: {line}").into());
        }
        costs.push(Cost { case: case.to_owned(), off, on });
    }
    if costs.is_empty() { Err("probe_cost has no rows `case,off_ns,on_ns`".into()) } else { Ok(costs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_a_row_of_zero_is_refused() {
        let costs = parse("attached\ncase,off_ns,on_ns\npread watched,310,420\ngetpid unrelated,60,75\n")
            .expect("rows");
        assert_eq!(costs.len(), 2);
        assert_eq!(costs[0], Cost { case: "pread watched".to_owned(), off: 310.0, on: 420.0 });
        assert!(costs[1].of_others() && !costs[0].of_others());
        assert!(parse("case,off_ns,on_ns\npread,0,420\n").is_err());
        assert!(parse("nothing\n").is_err());
    }
}
