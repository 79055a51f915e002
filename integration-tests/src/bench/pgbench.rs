//! pgbench on a primary that is watched, with its replica, and on the same one unwatched; in turn, so that drift of the
//! machine meets both alike.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use blameio::lab::{Binaries, Lab};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{lab, operations, unsafe_but_quick},
    statistics::paired_ratio,
};

/// Rows of pgbench_accounts by the hundred thousand: more than the replica's buffers, less than the primary's.
const SCALE: u32 = 10;

const CLIENTS: u32 = 4;

/// What a step may take beyond its time.
const GRACE: Duration = Duration::from_mins(1);

/// pgbench tells its rate once a second. The line that spans a start or an end of the agent is nobody's, nor is the next.
const SKIPPED: u32 = 2;

/// Both copies of the data become warm, and what is written out once is.
const WARM_UP: u32 = 20;

/// A slow-down of one percent is the most.
const RATIO: f64 = 0.99;

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    let program = program(options)?;
    // No disk is waited for, and no checkpoint comes: each would make a difference of tens of percent to whose turn it is.
    let settings = unsafe_but_quick().with("checkpoint_timeout", "1d").with("max_wal_size", "100GB");
    let lab = lab(options, Vec::new(), &settings).await?;
    initialise(&program, &lab).await?;
    let (pairs, seconds) = if options.quick { (2, 3) } else { (options.pairs, options.pgbench_seconds) };
    let mut load = Load::start(&program, &lab)?;
    load.rate(WARM_UP).await?;
    let mut measured = Measured::default();
    let mut runs = Vec::new();
    for pair in 0..pairs {
        // Who is first changes with every pair.
        let watched_first = pair % 2 == 0;
        let (mut with, mut without) = (0.0, 0.0);
        for watched in [watched_first, !watched_first] {
            let (tps, name) = if watched {
                with = watched_rate(options, &lab, &mut load, seconds).await?;
                (with, "watched")
            } else {
                without = load.rate(seconds).await?;
                (without, "unwatched")
            };
            measured.raw.push(Row::of(format!("pair {pair}, {name}"), tps, "transactions/s"));
        }
        runs.push((with, without));
    }
    load.stop().await?;
    let ratio = paired_ratio(&runs).ok_or("a run did no transaction")?;
    let mean = |part: fn(&(f64, f64)) -> f64| runs.iter().map(part).sum::<f64>() / runs.len() as f64;
    measured.rows = vec![
        Row::of("transactions a second, unwatched, mean", mean(|run| run.1), "1/s"),
        Row::of("transactions a second, watched, mean", mean(|run| run.0), "1/s"),
        Row::of(format!("watched to unwatched, {pairs} pairs of {seconds} s"), ratio.mean, "")
            .target(Target::AtLeast(RATIO)),
        Row::of("95 % confidence, from", ratio.low, ""),
        Row::of("95 % confidence, to", ratio.high, ""),
    ];
    Ok(measured)
}

/// The rate under the agent, which must have seen the work.
async fn watched_rate(options: &Options, lab: &Lab, load: &mut Load, seconds: u32) -> Outcome<f64> {
    let watched = Watched {
        servers: vec![
            ("primary", lab.primary().dsn(), None),
            ("replica", lab.replica().dsn(), Some(lab.primary().dsn())),
        ],
        ready_when: "blameio_replication_lag_seconds",
    };
    let agent = AgentProcess::start(&options.agent, lab.dir(), &watched, "info").await?;
    let before = operations(&agent).await?;
    let tps = load.rate(seconds).await?;
    if operations(&agent).await? <= before {
        return Err("the agent counted no file operation of the watched run".into());
    }
    agent.stop().await?;
    Ok(tps)
}

/// A pgbench that runs all the time.
struct Load {
    child: Child,
    progress: Lines<BufReader<ChildStderr>>,
}

impl Load {
    fn start(program: &Path, lab: &Lab) -> Outcome<Self> {
        // Without the updates of few hot rows, whose locks would be what is measured.
        let mut child = pgbench(program, lab)
            .args(["-n", "-N", "-c", &CLIENTS.to_string(), "-j", "2", "-T", "86400", "-P", "1", "postgres"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("pgbench has no stderr")?;
        Ok(Self { child, progress: BufReader::new(stderr).lines() })
    }

    /// Mean transactions a second over so many seconds from now.
    async fn rate(&mut self, seconds: u32) -> Outcome<f64> {
        // What was told while nobody asked.
        while let Ok(line) = timeout(Duration::ZERO, self.progress.next_line()).await {
            line?.ok_or("pgbench has ended")?;
        }
        for _ in 0..SKIPPED {
            self.second().await?;
        }
        let mut sum = 0.0;
        for _ in 0..seconds {
            sum += self.second().await?;
        }
        let rate = sum / f64::from(seconds);
        if rate > 0.0 { Ok(rate) } else { Err("pgbench did no transaction".into()) }
    }

    /// The rate of the next second.
    async fn second(&mut self) -> Outcome<f64> {
        let line = timeout(GRACE, self.progress.next_line()).await.map_err(|_| "pgbench says nothing")??;
        let line = line.ok_or("pgbench has ended")?;
        Ok(parse(&line).ok_or_else(|| format!("pgbench says: {line}"))?)
    }

    async fn stop(mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }
}

async fn initialise(program: &Path, lab: &Lab) -> Outcome<()> {
    let mut command = pgbench(program, lab);
    let output = command.args(["-i", "-q", "-s", &SCALE.to_string(), "postgres"]).output();
    let output = timeout(GRACE * 5, output).await.map_err(|_| "pgbench -i does not end")??;
    if !output.status.success() {
        return Err(format!("pgbench -i failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

fn pgbench(program: &Path, lab: &Lab) -> Command {
    let mut command = Command::new(program);
    let port = lab.primary().port().to_string();
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]).kill_on_drop(true);
    command
}

/// `progress: 1.0 s, 812.2 tps, lat 4.9 ms stddev 1.2, 0 failed`
fn parse(line: &str) -> Option<f64> {
    line.strip_prefix("progress: ")?.split(", ").find_map(|part| part.strip_suffix(" tps")?.parse().ok())
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
    fn the_rate_is_read_from_what_pgbench_says() {
        let line = "progress: 1.0 s, 812.2 tps, lat 4.910 ms stddev 1.211, 0 failed";
        assert_eq!(super::parse(line), Some(812.2));
        assert_eq!(super::parse("pgbench (15.18)"), None);
    }
}
