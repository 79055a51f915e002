//! MariaDB: a primary and a replica, over a wire that is cut, and with their roles exchanged.

use std::time::Instant;

use mysql_async::{Conn, prelude::Queryable};

use crate::{
    agent::Agent,
    cluster::{until, wire::Wire},
    mariadb_cluster::{Cluster, Server},
    stopped::Stopped,
    truth,
};

async fn run(sql: &mut Conn, statements: &[&str]) {
    for statement in statements {
        sql.query_drop(*statement).await.unwrap();
    }
}

async fn start(cluster: &Cluster) -> Agent {
    let databases = [("primary", cluster.primary.dsn()), ("replica", cluster.replica.dsn())];
    let settings = "primaries: [database/primary, database/replica], replicas: [database/primary, database/replica], \
                    interval: 100ms, create: true";
    Agent::start("own", &databases, settings).await
}

async fn answer(server: &Server, sql: &str) -> String {
    server.sql().await.query_first(sql).await.unwrap().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delay_is_true_at_rest_grows_while_the_link_is_cut_and_is_held_while_the_replica_hangs() {
    let Some(cluster) = Cluster::start("heartbeat of MariaDB").await else { return };
    let (mut primary, mut replica) = (cluster.primary.sql().await, cluster.replica.sql().await);
    run(
        &mut primary,
        &["CREATE TABLE shop.probe (id BIGINT PRIMARY KEY)", "INSERT INTO shop.probe VALUES (0)"],
    )
    .await;
    cluster.caught_up().await;
    let agent = start(&cluster).await;
    agent.settles("replica", "primary").await;
    truth::is_met(
        &agent,
        ("replica", "primary"),
        async |row| primary.query_drop(format!("INSERT INTO shop.probe VALUES ({row})")).await.unwrap(),
        async || replica.query_first("SELECT MAX(id) FROM shop.probe").await.unwrap().unwrap(),
    )
    .await;

    let wire = Wire::to(cluster.primary.port).await;
    let over = format!("CHANGE MASTER TO MASTER_PORT={}, MASTER_USE_GTID=slave_pos", wire.port);
    run(&mut replica, &["STOP SLAVE", &over, "START SLAVE"]).await;
    until("it streams over the wire", async || (wire.open() > 0).then_some(())).await;
    agent.settles("replica", "primary").await;
    wire.silence();
    let cut = Instant::now();
    let delay = agent.comes("it grows", "replica", "primary", |delay| delay > 2.0).await;
    let most = cut.elapsed().as_secs_f64();
    assert!(most - 0.4 < delay && delay < most + 0.2, "{delay} s, cut {most} s ago");
    assert!(agent.is_fresh("replica", "primary"));
    run(&mut replica, &["STOP SLAVE", "START SLAVE"]).await;
    agent.settles("replica", "primary").await;

    let stopped = Stopped::new(i32::try_from(cluster.replica.pid()).unwrap());
    until("it is stale", async || (!agent.is_fresh("replica", "primary")).then_some(())).await;
    assert!(agent.delay("replica", "primary").is_some_and(|delay| delay > 0.0), "it is held");
    drop(stopped);
    agent.settles("replica", "primary").await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_follow_the_role_of_primary_and_leave_no_transaction_on_a_replica() {
    let Some(mut cluster) = Cluster::start("failover of MariaDB").await else { return };
    // What a replica logs of its own would be seen beside what it logs of its primary's.
    cluster.replica.down().await;
    cluster.replica.arguments.push("--log-slave-updates".to_owned());
    cluster.replica.up().await;
    let agent = start(&cluster).await;
    agent.settles("replica", "primary").await;
    let (mut old, mut new) = (cluster.primary.sql().await, cluster.replica.sql().await);
    let logged = "SELECT @@gtid_binlog_state";
    assert!(!answer(&cluster.replica, logged).await.contains("-102-"), "the replica has written");

    // The roles are exchanged, as an operator does it.
    run(&mut old, &["SET GLOBAL read_only = 1"]).await;
    cluster.caught_up().await;
    run(&mut new, &["STOP SLAVE", "RESET SLAVE ALL", "CREATE USER repl2@'127.0.0.1' IDENTIFIED BY 'x'"])
        .await;
    run(&mut new, &["GRANT REPLICATION SLAVE ON *.* TO repl2@'127.0.0.1'"]).await;
    let source = format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl2', MASTER_PASSWORD='x', \
         MASTER_USE_GTID=slave_pos",
        cluster.replica.port
    );
    let position = answer(&cluster.primary, "SELECT @@gtid_binlog_pos").await;
    let position = format!("SET GLOBAL gtid_slave_pos = '{position}'");
    run(&mut old, &[&position, &source, "START SLAVE", "SET GLOBAL read_only = 0"]).await;
    agent.settles("primary", "replica").await;
    until("the old pairing is no more", async || {
        (agent.delay("replica", "primary").is_none() && agent.series("replica") == 0).then_some(())
    })
    .await;

    // What was the primary takes writes from everybody, and has had none since.
    let own = answer(&cluster.primary, logged).await;
    until("a second of beats has come", async || {
        let before = answer(&cluster.primary, "SELECT MAX(number) FROM blameio.heartbeat").await;
        agent.next().await;
        (before != answer(&cluster.primary, "SELECT MAX(number) FROM blameio.heartbeat").await).then_some(())
    })
    .await;
    assert_eq!(
        answer(&cluster.primary, logged).await,
        own,
        "it has written, and logs nothing of the other's"
    );
    agent.end().await;
}
