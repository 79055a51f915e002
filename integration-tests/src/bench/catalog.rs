//! How long the first load of a large catalog takes, and what it leaves in the server's backend.

use std::{fs, time::Duration};

use blameio::lab::{Lab, sql};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{lab, make_relations, unsafe_but_quick},
    procfs,
};

const MIB: f64 = 1024.0 * 1024.0;

const RELATIONS: u32 = 100_000;

const QUICK_RELATIONS: u32 = 1_500;

/// Between two looks: what the time is sure to.
const LOOK: Duration = Duration::from_millis(5);

const DEADLINE: Duration = Duration::from_mins(1);

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    let lab = lab(options, Vec::new(), &unsafe_but_quick()).await?;
    let relations = if options.quick { QUICK_RELATIONS } else { RELATIONS };
    make_relations(&lab, 0, relations).await?;
    // As autovacuum would.
    for table in ["pg_class", "pg_index"] {
        sql::execute(lab.primary_client(), &format!("VACUUM (ANALYZE) {table}")).await?;
    }
    lab.wait_caught_up(DEADLINE).await?;
    // A backend that has done nothing yet, to compare with.
    let fresh = sql::connect(&lab.replica().dsn()).await?;
    let before = own_memory(fresh.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))?;

    let watched = Watched::replica(lab.replica().dsn(), lab.primary().dsn());
    let begin = Instant::now();
    let starting = AgentProcess::start(&options.agent, lab.dir(), &watched, "debug");
    let (agent, looked) = tokio::join!(starting, look(&lab, begin, relations));
    let (agent, looked) = (agent?, looked?);
    agent.stop().await?;
    let mut measured = Measured::default();
    measured.raw.push(Row::of("own memory of a fresh backend", before / MIB, "MiB"));
    measured.rows = vec![
        Row::of(format!("from the agent's start until {relations} relations are read"), looked.seconds, "s")
            .target(Target::AtMost(2.0)),
        Row::of("left in the server's backend", (looked.memory - before) / MIB, "MiB")
            .target(Target::AtMost(2.0)),
        Row::of("CPU time of that backend", looked.cpu, "s").target(Target::AtMost(0.1)),
    ];
    Ok(measured)
}

/// What was seen from outside while the agent loaded.
struct Looked {
    seconds: f64,
    memory: f64,
    cpu: f64,
}

/// Watches the backends of the agent until its log says that the catalog is read.
async fn look(lab: &Lab, begin: Instant, relations: u32) -> Outcome<Looked> {
    let client = sql::connect(&lab.replica().dsn()).await?;
    let log = lab.dir().join("agent.log");
    let mut looked = Looked { seconds: 0.0, memory: 0.0, cpu: 0.0 };
    loop {
        note(&client, &mut looked).await?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        let read = said.lines().filter(|line| line.contains("catalog read")).filter_map(count).max();
        if read.is_some_and(|read| read >= u64::from(relations)) {
            looked.seconds = begin.elapsed().as_secs_f64();
            note(&client, &mut looked).await?;
            return Ok(looked);
        }
        if begin.elapsed() > DEADLINE {
            return Err(
                format!("no catalog of {relations} relations was read in {DEADLINE:?}: {read:?}").into()
            );
        }
        sleep(LOOK).await;
    }
}

/// `relations=N` of a log line.
fn count(line: &str) -> Option<u64> {
    line.split("relations=").nth(1)?.split(' ').next()?.parse().ok()
}

/// The largest of what the agent's backends have of their own.
async fn note(client: &Client, looked: &mut Looked) -> Outcome<()> {
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'blameio'";
    for row in client.query(query, &[]).await? {
        let pid: i32 = row.get(0);
        // It may have ended since.
        if let (Ok(memory), Ok(cpu)) = (own_memory(pid), procfs::seconds_run(pid.unsigned_abs())) {
            looked.memory = looked.memory.max(memory);
            looked.cpu = looked.cpu.max(cpu);
        }
    }
    Ok(())
}

/// Without what it shares with other backends.
fn own_memory(pid: i32) -> Outcome<f64> {
    Ok(procfs::Memory::of(pid.unsigned_abs())?.anonymous as f64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_of_relations_is_read_from_the_log() {
        let line = "2026-01-01T00:00:00Z DEBUG catalog read database_oid=5 relations=1543 complete=true";
        assert_eq!(super::count(line), Some(1543));
        assert_eq!(super::count("catalog read"), None);
    }
}
