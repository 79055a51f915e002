//! PostgreSQL: a primary, a replica, and a further one below either.

use std::{fs, time::Instant};

use tokio_postgres::Client;

use crate::{
    agent::Agent,
    cluster::{Cluster, Server, free_port, until, value, wire::Wire},
    stopped::Stopped,
    truth,
};

/// One more replica, gone when dropped.
struct Further<'a> {
    cluster: &'a Cluster,
    server: Server,
}

impl<'a> Further<'a> {
    fn below(cluster: &'a Cluster, upstream: &Server) -> Self {
        let directory = upstream.directory.with_file_name("further");
        let server = Server { directory, port: free_port() };
        let (to, from) = (server.directory.display().to_string(), upstream.port.to_string());
        let copy = ["-D", &to, "-R", "-X", "stream", "-c", "fast", "-h", "127.0.0.1", "-p", &from];
        cluster.run("pg_basebackup", &[&copy[..], &["-U", "postgres", "--no-sync"]].concat());
        cluster.configure(&server, "primary_slot_name = ''");
        cluster.up(&server);
        Self { cluster, server }
    }
}

impl Drop for Further<'_> {
    fn drop(&mut self) {
        let directory = self.server.directory.display().to_string();
        let stop = ["-D", &directory, "-w", "-m", "immediate", "stop"];
        drop(self.cluster.command("pg_ctl", &stop).output());
    }
}

fn postmaster(server: &Server) -> i32 {
    let file = fs::read_to_string(server.directory.join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

async fn probe(primary: &Client) {
    primary.batch_execute("CREATE TABLE IF NOT EXISTS probe (id bigint PRIMARY KEY)").await.unwrap();
    primary.batch_execute("INSERT INTO probe VALUES (0)").await.unwrap();
}

async fn is_true(agent: &Agent, primary: &Client, replica: &Client, names: (&str, &str)) {
    truth::is_met(
        agent,
        names,
        async |row| primary.batch_execute(&format!("INSERT INTO probe VALUES ({row})")).await.unwrap(),
        async || value(replica, "SELECT max(id) FROM probe").await,
    )
    .await;
}

async fn stream_from(replica: &Client, port: u16) {
    let upstream = format!("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={port} user=postgres'");
    for sql in [upstream.as_str(), "SELECT pg_reload_conf()"] {
        replica.batch_execute(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delay_is_true_at_rest_through_a_chain_and_grows_while_the_link_is_cut() {
    let Some(cluster) = Cluster::start("heartbeat of PostgreSQL") else { return };
    let further = Further::below(&cluster, &cluster.replica);
    let agent = Agent::start(
        "own",
        &[
            ("primary", cluster.primary.dsn("postgres")),
            ("replica", cluster.replica.dsn("postgres")),
            ("further", further.server.dsn("postgres")),
        ],
        "primaries: [database/primary], replicas: [database/replica, database/further], interval: 100ms, create: true",
    )
    .await;
    let (primary, replica) = (cluster.primary.sql("postgres").await, cluster.replica.sql("postgres").await);
    probe(&primary).await;
    cluster.caught_up().await;
    for name in ["replica", "further"] {
        agent.settles(name, "primary").await;
    }
    is_true(&agent, &primary, &replica, ("replica", "primary")).await;
    let below = further.server.sql("postgres").await;
    is_true(&agent, &primary, &below, ("further", "primary")).await;

    // A delay that is known.
    for sql in ["ALTER SYSTEM SET recovery_min_apply_delay = '60ms'", "SELECT pg_reload_conf()"] {
        replica.batch_execute(sql).await.unwrap();
    }
    agent.comes("the delay is told", "replica", "primary", |delay| delay > 0.055).await;
    is_true(&agent, &primary, &replica, ("replica", "primary")).await;
    for sql in ["ALTER SYSTEM RESET recovery_min_apply_delay", "SELECT pg_reload_conf()"] {
        replica.batch_execute(sql).await.unwrap();
    }

    // The link goes over a wire, and the wire is cut.
    let wire = Wire::to(cluster.primary.port).await;
    stream_from(&replica, wire.port).await;
    until("it streams over the wire", async || {
        let sql =
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_port = $1::int";
        let row = replica.query_one(sql, &[&i32::from(wire.port)]).await.unwrap();
        (row.get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    agent.settles("replica", "primary").await;
    wire.silence();
    let cut = Instant::now();
    for name in ["replica", "further"] {
        agent.comes("it grows", name, "primary", |delay| delay > 2.0).await;
        let (delay, most) = (agent.delay(name, "primary").unwrap(), cut.elapsed().as_secs_f64());
        assert!(most - 0.4 < delay && delay < most + 0.2, "{name}: {delay} s, cut {most} s ago");
        assert!(agent.is_fresh(name, "primary"), "it is known that the beats are missing");
    }
    primary
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'the: replica'")
        .await
        .unwrap();
    stream_from(&replica, cluster.primary.port).await;
    for name in ["replica", "further"] {
        agent.settles(name, "primary").await;
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_delays_nobody_and_its_delay_is_held_as_stale() {
    let Some(cluster) = Cluster::start("heartbeat of a hung PostgreSQL") else { return };
    let further = Further::below(&cluster, &cluster.primary);
    let agent = Agent::start(
        "own",
        &[
            ("primary", cluster.primary.dsn("postgres")),
            ("replica", cluster.replica.dsn("postgres")),
            ("further", further.server.dsn("postgres")),
        ],
        "primaries: [database/primary], replicas: [database/replica, database/further], interval: 100ms, create: true, \
         max_share: 1",
    )
    .await;
    for name in ["replica", "further"] {
        agent.settles(name, "primary").await;
    }
    let primary = cluster.primary.sql("postgres").await;
    let beats = async || value::<i64>(&primary, "SELECT max(number) FROM blameio.heartbeat").await;
    let stopped = Stopped::new(postmaster(&cluster.replica));
    let (begun, before) = (Instant::now(), beats().await);
    let mut worst = 0.0_f64;
    until("the one that hangs is stale", async || {
        worst = worst.max(agent.delay("further", "primary").unwrap());
        assert!(agent.is_fresh("further", "primary"));
        (!agent.is_fresh("replica", "primary")).then_some(())
    })
    .await;
    until("3 s are over", async || {
        worst = worst.max(agent.delay("further", "primary").unwrap());
        (begun.elapsed().as_secs() >= 3).then_some(())
    })
    .await;
    assert!(agent.delay("replica", "primary").is_some_and(|delay| delay > 0.0), "it is held");
    assert!(worst < 0.1, "the other one seemed {worst} s behind");
    let (written, due) = (beats().await - before, begun.elapsed().as_secs_f64() * 10.0);
    // A machine that is busy may lose some; a writer that waits for a replica would write three.
    assert!(written as f64 > due * 0.5, "{written} of {due} beats were written");
    drop(stopped);
    agent.settles("replica", "primary").await;

    // A primary that hangs: its replicas answer, and miss nothing that is known of.
    let stopped = Stopped::new(postmaster(&cluster.primary));
    until("nothing is measured", async || (!agent.is_fresh("further", "primary")).then_some(())).await;
    drop(stopped);
    agent.settles("further", "primary").await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_beats_go_on_where_the_primary_is_and_replicas_are_paired_with_it() {
    let Some(cluster) = Cluster::start("failover of PostgreSQL") else { return };
    let further = Further::below(&cluster, &cluster.replica);
    let agent = Agent::start(
        "own",
        &[
            ("primary", cluster.primary.dsn("postgres")),
            ("replica", cluster.replica.dsn("postgres")),
            ("further", further.server.dsn("postgres")),
        ],
        "primaries: [database/primary, database/replica], replicas: [database/primary, database/replica, database/further], \
         interval: 100ms, create: true",
    )
    .await;
    for name in ["replica", "further"] {
        agent.settles(name, "primary").await;
    }
    assert_eq!(agent.series("primary"), 0, "who is written to has no delay");
    cluster.down(&cluster.primary);
    cluster.promote(&cluster.replica);
    agent.settles("further", "replica").await;
    until("the old pairing is no more", async || {
        (agent.delay("further", "primary").is_none() && agent.series("replica") == 0).then_some(())
    })
    .await;
    let promoted = cluster.replica.sql("postgres").await;
    let writers: i64 = value(&promoted, "SELECT count(*) FROM blameio.heartbeat").await;
    assert_eq!(writers, 2, "each primary has a row of its own");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_write_to_one_primary_and_a_third_that_writes_nowhere_says_that_it_compares_clocks() {
    let Some(cluster) = Cluster::start("two agents") else { return };
    let databases =
        [("primary", cluster.primary.dsn("postgres")), ("replica", cluster.replica.dsn("postgres"))];
    let settings =
        "primaries: [database/primary], replicas: [database/replica], interval: 20ms, create: true";
    let (one, two) =
        tokio::join!(Agent::start("one", &databases, settings), Agent::start("two", &databases, settings));
    for agent in [&one, &two] {
        agent.settles("replica", "primary").await;
        assert_eq!(agent.by("replica", "primary", "wall"), None, "clocks are never mixed");
    }
    let sql = cluster.replica.sql("postgres").await;
    let numbers = async || {
        let rows = sql.query("SELECT number FROM blameio.heartbeat ORDER BY writer", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>()
    };
    let before = numbers().await;
    assert_eq!(before.len(), 2);
    until("both go on", async || {
        let now = numbers().await;
        now.iter().zip(&before).all(|(now, before)| *now > before + 20).then_some(())
    })
    .await;
    two.end().await;

    let reads = Agent::start("reads", &databases[1..], "replicas: [database/replica], interval: 20ms").await;
    let delay = until("it is measured by two clocks", async || reads.by("replica", "primary", "wall")).await;
    assert!(delay < 0.1, "both clocks are this host's: {delay}");
    assert_eq!(reads.delay("replica", "primary"), None);
    reads.end().await;
    one.end().await;
}
