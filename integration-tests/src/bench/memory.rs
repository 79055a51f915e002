//! Memory of the agent and of its kernel maps with a few, 10,000 and 100,000 relations, each of which it has seen written.

use std::time::Duration;

use blameio::lab::Lab;
use tokio::time::{Instant, sleep};

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{at_rest, lab, make_relations, operations, scanned, unsafe_but_quick},
    procfs::{Memory, forget_most_resident, most_resident},
    statistics::quantile,
};

const MIB: f64 = 1024.0 * 1024.0;

/// Relations, and the most memory with them in MiB.
const STEPS: [(u32, f64); 3] = [(0, 14.0), (10_000, 30.0), (100_000, 80.0)];

/// The same for a look whether it works.
const QUICK_STEPS: [(u32, f64); 3] = [(0, 14.0), (500, 30.0), (1_500, 80.0)];

/// Longer than the minute after which the agent does everything that it does at all.
const SPAN: Duration = Duration::from_secs(75);

const QUICK_SPAN: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    let lab = lab(options, scanned(), &unsafe_but_quick()).await?;
    let watched = Watched::replica(lab.replica().dsn(), lab.primary().dsn());
    let agent = AgentProcess::start(&options.agent, lab.dir(), &watched, "info").await?;
    let (steps, span) = if options.quick { (QUICK_STEPS, QUICK_SPAN) } else { (STEPS, SPAN) };
    let mut measured = Measured::default();
    let mut relations = 0;
    for (wanted, limit) in steps {
        let operations_before = operations(&agent).await?;
        if wanted > relations {
            make_relations(&lab, relations, wanted).await?;
            written(&lab, &agent, operations_before + f64::from(wanted - relations)).await?;
            relations = wanted;
        }
        let with = if wanted == 0 { "idle".to_owned() } else { format!("{wanted} relations") };
        let since_start = most_resident(agent.pid())?;
        let looks = looks(&agent, span).await?;
        let most = most_resident(agent.pid())?;
        let usual = |part: fn(&Memory) -> u64| -> Outcome<f64> {
            let bytes: Vec<f64> = looks.iter().map(|memory| part(memory) as f64).collect();
            Ok(quantile(&bytes, 0.5).ok_or("nothing was measured")? / MIB)
        };
        let maps = looks.iter().map(|memory| memory.maps).max().unwrap_or_default();
        let mut row = |what: &str, mib: f64, target: Target| {
            measured.rows.push(Row::of(format!("{what}, {with}"), mib, "MiB").target(target));
        };
        row("memory with maps, most", (most + maps) as f64 / MIB, Target::AtMost(limit));
        row("memory with maps, usually", usual(Memory::total)?, Target::None);
        row("of it resident", usual(|memory| memory.resident)?, Target::None);
        row("of that anonymous", usual(|memory| memory.anonymous)?, Target::None);
        row("kernel maps", usual(|memory| memory.maps)?, Target::None);
        let page = agent.scrape().await?;
        let lost = page.sum("blameio_file_lost_total", &[]).unwrap_or(0.0);
        let mut raw = |what: &str, value: f64, unit: &'static str| {
            measured.raw.push(Row::of(format!("{what}, {with}"), value, unit));
        };
        raw("most resident since the start", since_start as f64 / MIB, "MiB");
        raw("kernel memory of programs", usual(|memory| memory.programs)?, "MiB");
        raw("not kept by file so far, for want of room", lost, "events");
        raw("series", page.series() as f64, "");
    }
    agent.stop().await?;
    Ok(measured)
}

/// What the agent takes, again and again over a span. The kernel's own maximum begins anew with it.
async fn looks(agent: &AgentProcess, span: Duration) -> Outcome<Vec<Memory>> {
    forget_most_resident(agent.pid())?;
    let end = Instant::now() + span;
    let mut looks = Vec::new();
    while Instant::now() < end {
        looks.push(Memory::of(agent.pid())?);
        sleep(LOOK).await;
    }
    Ok(looks)
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
