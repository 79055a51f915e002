//! pgbench on a primary that is watched, with its replica, and on the same one unwatched; in turn, so that drift of the
//! machine meets both alike.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use blameio::lab::{Binaries, Lab, Settings};
use tokio::{process::Command, time::timeout};

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{lab, operations},
    statistics::paired_ratio,
};

/// Rows of pgbench_accounts by the hundred thousand: more than the replica's buffers, less than the primary's.
const SCALE: u32 = 10;

const CLIENTS: u32 = 4;

/// What a run may take beyond its time.
const GRACE: Duration = Duration::from_mins(1);

/// A slow-down of one percent is the most.
const RATIO: f64 = 0.99;

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    let program = program(options)?;
    let lab = lab(options, Vec::new(), &Settings::default()).await?;
    let initialise = ["-i", "-q", "-s", &SCALE.to_string()].map(str::to_owned);
    run(&program, &lab, &initialise, GRACE * 5).await?;
    let seconds = options.span().as_secs();
    let pairs = if options.quick { 2 } else { options.pairs };
    // Both copies of the data become warm; its figure is nobody's.
    transactions(&program, &lab, seconds).await?;
    let mut measured = Measured::default();
    let mut runs = Vec::new();
    for pair in 0..pairs {
        // Who is first changes with every pair.
        let watched_first = pair % 2 == 0;
        let (mut with, mut without) = (0.0, 0.0);
        for watched in [watched_first, !watched_first] {
            lab.primary_client().batch_execute("CHECKPOINT").await?;
            lab.wait_caught_up(GRACE).await?;
            let (tps, name) = if watched {
                with = watched_run(options, &program, &lab, seconds).await?;
                (with, "watched")
            } else {
                without = transactions(&program, &lab, seconds).await?;
                (without, "unwatched")
            };
            measured.raw.push(Row::of(format!("pair {pair}, {name}"), tps, "transactions/s"));
        }
        runs.push((with, without));
    }
    let ratio = paired_ratio(&runs).ok_or("a run did no transaction")?;
    let mean = |part: fn(&(f64, f64)) -> f64| runs.iter().map(part).sum::<f64>() / runs.len() as f64;
    measured.rows = vec![
        Row::of("transactions a second, unwatched, mean", mean(|run| run.1), "1/s"),
        Row::of("transactions a second, watched, mean", mean(|run| run.0), "1/s"),
        Row::of(format!("watched to unwatched, {pairs} pairs"), ratio.mean, "")
            .target(Target::AtLeast(RATIO)),
        Row::of("95 % confidence, from", ratio.low, ""),
        Row::of("95 % confidence, to", ratio.high, ""),
    ];
    Ok(measured)
}

/// One run under the agent, which must have seen the work.
async fn watched_run(options: &Options, program: &Path, lab: &Lab, seconds: u64) -> Outcome<f64> {
    let watched = Watched {
        servers: vec![
            ("primary", lab.primary().dsn(), None),
            ("replica", lab.replica().dsn(), Some(lab.primary().dsn())),
        ],
        ready_when: "blameio_replication_lag_seconds",
    };
    let agent = AgentProcess::start(&options.agent, lab.dir(), &watched, "info").await?;
    let before = operations(&agent).await?;
    let tps = transactions(program, lab, seconds).await?;
    if operations(&agent).await? <= before {
        return Err("the agent counted no file operation of the watched run".into());
    }
    agent.stop().await?;
    Ok(tps)
}

async fn transactions(program: &Path, lab: &Lab, seconds: u64) -> Outcome<f64> {
    // Without the updates of few hot rows, whose locks would be what is measured.
    let arguments =
        ["-n", "-N", "-c", &CLIENTS.to_string(), "-j", "2", "-T", &seconds.to_string()].map(str::to_owned);
    let said = run(program, lab, &arguments, GRACE + Duration::from_secs(seconds)).await?;
    let tps = parse(&said).filter(|tps| *tps > 0.0);
    Ok(tps.ok_or_else(|| format!("pgbench did no transaction: {said}"))?)
}

async fn run(program: &Path, lab: &Lab, arguments: &[String], deadline: Duration) -> Outcome<String> {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &lab.primary().port().to_string()]);
    let output = command.args(arguments).arg("postgres").kill_on_drop(true).output();
    let output = timeout(deadline, output).await.map_err(|_| "pgbench does not end")??;
    if !output.status.success() {
        return Err(format!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `tps = 1234.5 (without initial connection time)`; before 14 there are two such lines, the last without connecting.
fn parse(said: &str) -> Option<f64> {
    said.lines().rev().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
}

/// Beside the server's programs, else on the path.
fn program(options: &Options) -> Outcome<PathBuf> {
    let beside = Binaries::find(options.postgresql_bin.as_deref())?.dir().join("pgbench");
    if beside.is_file() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("pgbench")).find(|file| file.is_file());
    Ok(found.ok_or("no pgbench beside the server's programs or on the path")?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_figure_is_read_from_what_pgbench_says() {
        let said =
            "number of failed transactions: 0 (0.000%)\ntps = 812.25 (without initial connection time)\n";
        assert_eq!(super::parse(said), Some(812.25));
        assert_eq!(super::parse("nothing"), None);
    }
}
