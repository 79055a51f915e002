//! Memory of the agent and of its kernel maps with a few, 10,000 and 100,000 relations, each of which it has seen written.

use std::time::Duration;

use blameio::lab::Lab;

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{at_rest, lab, make_relations, operations, scanned},
    procfs::Memory,
};

const MIB: f64 = 1024.0 * 1024.0;

/// Memory that moves by less has settled.
const SLACK: f64 = MIB / 4.0;

/// Relations, and the most memory with them in MiB.
const STEPS: [(u32, f64); 3] = [(0, 14.0), (10_000, 30.0), (100_000, 80.0)];

/// The same for a look whether it works.
const QUICK_STEPS: [(u32, f64); 3] = [(0, 14.0), (500, 30.0), (1_500, 80.0)];

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    let lab = lab(options, scanned()).await?;
    let watched = Watched::replica(lab.replica().dsn(), lab.primary().dsn());
    let agent = AgentProcess::start(&options.agent, lab.dir(), &watched, "info").await?;
    let still = Duration::from_secs(if options.quick { 2 } else { 15 });
    let mut measured = Measured::default();
    let mut relations = 0;
    for (wanted, limit) in if options.quick { QUICK_STEPS } else { STEPS } {
        let operations_before = operations(&agent).await?;
        if wanted > relations {
            make_relations(&lab, relations, wanted).await?;
            written(&lab, &agent, operations_before + f64::from(wanted - relations)).await?;
            relations = wanted;
        }
        let look = async || Ok(Memory::of(agent.pid())?.total() as f64);
        at_rest("the agent's memory", SLACK, still, look).await?;
        let memory = Memory::of(agent.pid())?;
        let with = if wanted == 0 { "idle".to_owned() } else { format!("{wanted} relations") };
        let mib = |bytes: u64| bytes as f64 / MIB;
        let target = Target::AtMost(limit);
        measured
            .rows
            .push(Row::of(format!("memory with maps, {with}"), mib(memory.total()), "MiB").target(target));
        measured.rows.push(Row::of(format!("resident, {with}"), mib(memory.resident), "MiB"));
        measured.rows.push(Row::of(format!("of it anonymous, {with}"), mib(memory.anonymous), "MiB"));
        measured.rows.push(Row::of(format!("kernel maps, {with}"), mib(memory.maps), "MiB"));
        let page = agent.scrape().await?;
        let lost = page.sum("blameio_file_lost_total", &[]).unwrap_or(0.0);
        measured.raw.push(Row::of(format!("kernel memory of programs, {with}"), mib(memory.programs), "MiB"));
        measured.raw.push(Row::of(format!("events lost so far, {with}"), lost, ""));
        measured.raw.push(Row::of(format!("series, {with}"), page.series() as f64, ""));
        // What a relation costs is nothing when events of its files were lost.
        if lost > 0.0 {
            println!("memory: {lost} events were lost with {with}: a map is full");
        }
    }
    agent.stop().await?;
    Ok(measured)
}

/// Waits until the agent has counted so many operations: a write to each new relation's file at least.
async fn written(lab: &Lab, agent: &AgentProcess, least: f64) -> Outcome<()> {
    // What waits in the replica's buffers is written now.
    lab.primary_client().batch_execute("CHECKPOINT").await?;
    lab.wait_caught_up(Duration::from_mins(1)).await?;
    lab.replica_client().batch_execute("CHECKPOINT").await?;
    let still = Duration::from_secs(3);
    // Other work of the servers goes on: only a rush is waited for.
    let seen = at_rest("the agent's count", 100.0, still, async || operations(agent).await).await?;
    if seen < least {
        return Err(format!("the agent has counted {seen} operations of at least {least}").into());
    }
    Ok(())
}
