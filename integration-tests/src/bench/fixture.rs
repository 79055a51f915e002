//! The laboratory of the benchmarks: a table that is read through the page cache, one file operation a page.

use std::time::Duration;

use blameio::lab::{Binaries, Lab, LabOptions, Schema, Settings, Storage, sql};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::{Options, Outcome, agent::AgentProcess};

/// Pages of `scanned`: four times the buffers that the laboratory gives a replica.
pub(super) const PAGES: u32 = 8_192;

/// No state of rest takes longer to come.
const REST: Duration = Duration::from_mins(2);

/// A primary and a replica on plain storage; autovacuum off, commits that do not wait for the disk. `also` holds settings
/// of both servers.
pub(super) async fn lab(options: &Options, setup: Vec<String>, also: &Settings) -> Outcome<Lab> {
    let binaries = Binaries::find(options.postgresql_bin.as_deref())?;
    let mut servers = Settings::default()
        .with("autovacuum", "off")
        .with("synchronize_seqscans", "off")
        .with("max_parallel_workers_per_gather", "0");
    if binaries.major() >= 17 {
        // One page an operation, as before 17.
        servers = servers.with("io_combine_limit", "8kB");
    }
    let servers = servers.and(also);
    let options = LabOptions {
        binaries: options.postgresql_bin.clone(),
        storage: Storage::Plain,
        schema: Schema { setup, cold: Vec::new() },
        primary: servers.clone().with("synchronous_commit", "off"),
        replica: servers,
        ..LabOptions::default()
    };
    Ok(Lab::build(options).await?)
}

/// `scanned`: a row fills a page, so that the time of a scan is spent on reading.
pub(super) fn scanned() -> Vec<String> {
    vec![
        "CREATE TABLE scanned (filler text)".to_owned(),
        "ALTER TABLE scanned ALTER filler SET STORAGE PLAIN".to_owned(),
        format!("INSERT INTO scanned SELECT repeat('x', 8000) FROM generate_series(1, {PAGES})"),
        // Hint bits and the visibility map now, on the primary: a replica cannot write them.
        "VACUUM (FREEZE, ANALYZE) scanned".to_owned(),
    ]
}

/// Reads of `scanned` that the agent has counted.
pub(super) async fn counted(agent: &AgentProcess) -> Outcome<f64> {
    let page = agent.scrape().await?;
    let labels = [("db_table", "scanned"), ("blameio_io_operation", "read")];
    Ok(page.sum("blameio_file_operations_total", &labels).unwrap_or(0.0))
}

/// The same by the server: pages of `scanned` that were not in its buffers.
pub(super) async fn read_by_server(client: &Client) -> Outcome<f64> {
    let query = "SELECT heap_blks_read FROM pg_statio_user_tables WHERE relname = 'scanned'";
    let blocks: i64 = client.query_one(query, &[]).await?.get(0);
    Ok(blocks as f64)
}

/// Operations of all kinds on all files that the agent has counted.
pub(super) async fn operations(agent: &AgentProcess) -> Outcome<f64> {
    Ok(agent.scrape().await?.sum("blameio_file_operations_total", &[]).unwrap_or(0.0))
}

/// Waits until a figure has stayed within `slack` for `still`, and returns it.
pub(super) async fn at_rest<F>(what: &str, slack: f64, still: Duration, mut look: F) -> Outcome<f64>
where
    F: AsyncFnMut() -> Outcome<f64>,
{
    let end = Instant::now() + REST;
    let mut value = look().await?;
    let mut since = Instant::now();
    while since.elapsed() < still {
        if Instant::now() > end {
            return Err(format!("{what} does not come to rest in {REST:?}; it is at {value}").into());
        }
        sleep(Duration::from_millis(250)).await;
        let now = look().await?;
        if (now - value).abs() > slack {
            (value, since) = (now, Instant::now());
        }
    }
    Ok(value)
}

/// For a laboratory with very many files: what it writes may be lost with the host, so no file is waited for.
pub(super) fn unsafe_but_quick() -> Settings {
    Settings::default().with("fsync", "off")
}

/// Makes relations `from + 1` to `to`, tables of schema `many` and their primary keys in turn, each with a row, so that
/// the replica writes to its file. Both numbers are even.
pub(super) async fn make_relations(lab: &Lab, from: u32, to: u32) -> Outcome<()> {
    sql::execute(lab.primary_client(), "CREATE SCHEMA IF NOT EXISTS many").await?;
    // Few in a transaction: each keeps locks until its end.
    let block = format!(
        "DO $$ BEGIN FOR i IN {}..{} LOOP \
           EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY)', i); \
           EXECUTE format('INSERT INTO many.t%s VALUES (1)', i); \
           IF i % 100 = 0 THEN COMMIT; END IF; \
         END LOOP; END $$",
        from / 2 + 1,
        to / 2
    );
    // On a connection that ends with it: a backend keeps what it knows of every relation.
    let client = sql::connect(&lab.primary().dsn()).await?;
    sql::execute(&client, &block).await?;
    Ok(lab.wait_caught_up(REST * 5).await?)
}
