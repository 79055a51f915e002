//! From a file operation to its point on the scrape page, at moments spread over the window.

use std::time::Duration;

use blameio::lab::Settings;
use tokio::time::{Instant, sleep};

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{PAGES, at_rest, counted, lab, scanned},
    statistics::quantile,
};

/// Collection interval of the receivers.
const WINDOW: f64 = 1.0;

/// What may come on top.
const LIMIT: f64 = 0.2;

/// Between two looks at the page: what the result is sure to.
const LOOK: Duration = Duration::from_millis(10);

/// More than the replica's buffers can hold of a stretch, and read within a millisecond.
const STRETCH: u32 = 64;

const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    let lab = lab(options, scanned(), &Settings::default()).await?;
    let watched = Watched::replica(lab.replica().dsn(), lab.primary().dsn());
    let agent = AgentProcess::start(&options.agent, lab.dir(), &watched, "info").await?;
    let client = lab.replica_client();
    client.query_one("SELECT count(*) FROM scanned", &[]).await?;
    let mut measured = Measured::default();
    let mut taken = Vec::new();
    for turn in 0..if options.quick { 5 } else { 50_u32 } {
        let still = Duration::from_millis(1_200);
        let before = at_rest("blameio's count", 0.0, still, async || counted(&agent).await).await?;
        // Every part of the window in turn.
        sleep(Duration::from_millis(u64::from(turn * 137 % 1000))).await;
        // Stretches that are far apart; a whole scan lies between two uses of one.
        let first = turn * 997 % (PAGES - STRETCH);
        let query = format!(
            "SELECT count(*) FROM scanned WHERE ctid >= '({first},0)' AND ctid < '({},0)'",
            first + STRETCH
        );
        let asked = Instant::now();
        client.query_one(query.as_str(), &[]).await?;
        while counted(&agent).await? <= before {
            if asked.elapsed() > DEADLINE {
                return Err(
                    format!("reads of pages {first} and on were not on the page in {DEADLINE:?}").into()
                );
            }
            sleep(LOOK).await;
        }
        let seconds = asked.elapsed().as_secs_f64();
        measured.raw.push(Row::of("from operation to point", seconds, "s"));
        taken.push(seconds);
    }
    agent.stop().await?;
    let part = |share| quantile(&taken, share).ok_or("nothing was measured");
    measured.rows = vec![
        Row::of("from operation to point, median", part(0.5)?, "s"),
        Row::of("from operation to point, longest", part(1.0)?, "s").target(Target::AtMost(WINDOW + LIMIT)),
        Row::of("of it beyond the window, longest", part(1.0)? - WINDOW, "s"),
    ];
    Ok(measured)
}
