//! CPU of the agent while clients of a watched replica read more than 50,000 pages a second through the page cache.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blameio::lab::{Lab, Settings, sql};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_postgres::Client;

use super::{
    Measured, Options, Outcome, Row, Target,
    agent::{AgentProcess, Watched},
    fixture::{PAGES, at_rest, counted, lab, read_by_server, scanned},
    procfs,
};

/// What the target speaks of.
const RATE: f64 = 50_000.0;

/// A tenth more is asked for, so that the target's rate is reached.
const PACE: f64 = 55_000.0;

const SESSIONS: usize = 4;

/// The kernel counts hundredths of a second, and an agent at rest takes hardly more in a second.
const SHORTEST_REST: Duration = Duration::from_secs(10);

/// Between two changes of a log that moves.
const MOVE: Duration = Duration::from_millis(50);

/// What blameio counted may differ so much from what the server counted.
const AGREEMENT: f64 = 0.01;

/// Sessions that scan in turn, at the pace.
struct Load {
    backends: Vec<i32>,
    scans: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Load {
    async fn start(lab: &Lab) -> Outcome<Self> {
        let (turn, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let mut load = Self { backends: Vec::new(), scans: JoinSet::new() };
        for _ in 0..SESSIONS {
            let client = sql::connect(&lab.replica().dsn()).await?;
            load.backends.push(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0));
            load.scans.spawn(scan(client, Arc::clone(&turn), begin));
        }
        Ok(load)
    }

    fn reads(&self) -> Outcome<u64> {
        let each: Result<Vec<u64>, _> = self.backends.iter().map(|pid| procfs::reads(*pid)).collect();
        Ok(each?.iter().sum())
    }

    /// Breaks off; the servers end the statements.
    async fn stop(mut self) {
        self.scans.shutdown().await;
    }
}

async fn scan(client: Client, turn: Arc<AtomicU64>, begin: Instant) -> Result<(), tokio_postgres::Error> {
    loop {
        let mine = turn.fetch_add(1, Ordering::Relaxed);
        sleep_until(begin + Duration::from_secs_f64(mine as f64 * f64::from(PAGES) / PACE)).await;
        client.query_one("SELECT count(*) FROM scanned", &[]).await?;
    }
}

pub(super) async fn measure(options: &Options) -> Outcome<Measured> {
    // With the laboratory's buffers a quarter of each scan would find its page there, and be no operation.
    let buffers = Settings::default().with("shared_buffers", "1MB");
    let setup = [scanned(), vec!["CREATE TABLE moved (n int)".to_owned()]].concat();
    let lab = lab(options, setup, &buffers).await?;
    let watched = Watched::replica(lab.replica().dsn(), lab.primary().dsn());
    let agent = AgentProcess::start(&options.agent, lab.dir(), &watched, "info").await?;
    let span = options.span();
    let mut measured = Measured::default();
    // Behind the work of the start.
    sleep(span / 4).await;
    let idle = cpu(&agent, (span / 2).max(SHORTEST_REST), "at rest", &mut measured).await?;

    // Positions that move are looked at more often.
    let moving = sql::connect(&lab.primary().dsn()).await?;
    let mut moves = JoinSet::new();
    moves.spawn(async move {
        while moving.batch_execute("INSERT INTO moved VALUES (1)").await.is_ok() {
            sleep(MOVE).await;
        }
    });
    sleep(span / 4).await;
    let writing = cpu(&agent, (span / 2).max(SHORTEST_REST), "while the log moves", &mut measured).await?;
    moves.shutdown().await;

    // One scan by ourselves, so that the page cache holds the table and the agent has its name.
    let client = lab.replica_client();
    client.query_one("SELECT count(*) FROM scanned", &[]).await?;
    let still = Duration::from_secs(3);
    let counted_before = at_rest("blameio's count", 0.0, still, async || counted(&agent).await).await?;
    let server_before =
        at_rest("the server's count", 0.0, still, async || read_by_server(client).await).await?;
    if counted_before == 0.0 {
        return Err("blameio has counted no read of the table".into());
    }

    let load = Load::start(&lab).await?;
    sleep(span / 4).await;
    let (begin, reads, seen) = (Instant::now(), load.reads()?, counted(&agent).await?);
    let busy = cpu(&agent, span, "under load", &mut measured).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let rate = (load.reads()? - reads) as f64 / seconds;
    let told = (counted(&agent).await? - seen) / seconds;
    load.stop().await;

    let all = at_rest("blameio's count", 0.0, still, async || counted(&agent).await).await? - counted_before;
    let server = at_rest("the server's count", 0.0, still, async || read_by_server(client).await).await?
        - server_before;
    let lost = agent.scrape().await?.sum("blameio_file_lost_total", &[]).unwrap_or(0.0);
    agent.stop().await?;
    if rate < RATE {
        return Err(
            format!("the sessions did only {rate:.0} reads/s: this machine is too slow or busy").into()
        );
    }
    if (all / server - 1.0).abs() > AGREEMENT {
        return Err(
            format!("blameio counted {all} reads, the server {server}; {lost} events were lost").into()
        );
    }
    let scaled = idle + (busy - idle).max(0.0) * RATE / rate;
    measured.rows = vec![
        Row::of("reads a second, by the kernel (/proc/PID/io)", rate, "1/s").target(Target::AtLeast(RATE)),
        Row::of("reads a second, by blameio's page", told, "1/s"),
        Row::of("reads in all, by the server (pg_statio)", server, ""),
        Row::of("reads in all, by blameio", all, ""),
        Row::of("agent CPU at rest", idle, "% of a core"),
        Row::of("agent CPU while the primary's log moves", writing, "% of a core"),
        Row::of("agent CPU under load", busy, "% of a core"),
        Row::of("agent CPU at 50,000 operations/s", scaled, "% of a core").target(Target::AtMost(1.0)),
    ];
    Ok(measured)
}

/// Share of a core over a span, in percent; each second of it goes to the raw rows.
async fn cpu(agent: &AgentProcess, span: Duration, when: &str, measured: &mut Measured) -> Outcome<f64> {
    let (begin, first) = (Instant::now(), procfs::cpu_seconds(agent.pid())?);
    let (mut at, mut spent) = (begin, first);
    while begin.elapsed() < span {
        sleep(Duration::from_secs(1)).await;
        let (now, total) = (Instant::now(), procfs::cpu_seconds(agent.pid())?);
        let share = (total - spent) / now.duration_since(at).as_secs_f64() * 100.0;
        measured.raw.push(Row::of(format!("agent CPU {when}, one second"), share, "% of a core"));
        (at, spent) = (now, total);
    }
    Ok((spent - first) / at.duration_since(begin).as_secs_f64() * 100.0)
}
