//! One look at the agent from outside: what it takes, and whether its account adds up.

use std::{collections::BTreeSet, fmt::Write as _};

use blameio::lab::sql;
use tokio_postgres::Client;

use crate::bench::{
    Outcome, procfs,
    scrape::{Page, scrape},
};

/// Heading of the CSV; the fields of [`Sample`] in order.
pub const HEADING: &str = "seconds,life,phase,rss_bytes,anonymous_bytes,map_bytes,program_bytes,fds,threads,\
    primary_connections,replica_connections,series,lag_seconds,blame_seconds,lost_events,most_owed_by\n";

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The agent's process.
    pub pid: u32,
    /// Port of its page.
    pub port: u16,
    /// How many agents there were before.
    pub life: u32,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Since the start of the soak.
    pub seconds: f64,
    /// Which agent it was.
    pub life: u32,
    /// What went on: `work`, `rest`, or a fault.
    pub phase: String,
    /// Resident memory, bytes.
    pub rss: u64,
    /// The agent's own part of it, bytes.
    pub anonymous: u64,
    /// Kernel maps, bytes.
    pub maps: u64,
    /// Kernel programs, bytes.
    pub programs: u64,
    /// Open files.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
    /// Of the agent on the primary; nothing while it does not answer.
    pub primary: Option<u64>,
    /// The same on the replica.
    pub replica: Option<u64>,
    /// On the page.
    pub series: usize,
    /// Seconds; nothing while the page has none.
    pub lag: Option<f64>,
    /// Sum of the rows, seconds.
    pub blame: Option<f64>,
    /// Events that the probes have lost so far.
    pub lost: f64,
    /// Cause and table of the largest row of blame; empty without lag.
    pub owed_by: String,
}

impl Sample {
    /// How far the rows are from the lag, as a share of it; of a tenth of a second where it is less, so that a
    /// millisecond of a replica in step is no drift.
    pub fn drift(&self) -> Option<f64> {
        let (lag, blame) = (self.lag?, self.blame.unwrap_or(0.0));
        Some((blame - lag).abs() / lag.max(0.1))
    }

    /// A line of the CSV.
    pub fn csv(&self) -> String {
        let some = |value: Option<String>| value.unwrap_or_default();
        let mut line = String::new();
        // Writing to a String cannot fail.
        let _unused = writeln!(
            line,
            "{:.1},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            self.seconds,
            self.life,
            self.phase,
            self.rss,
            self.anonymous,
            self.maps,
            self.programs,
            self.fds,
            self.threads,
            some(self.primary.map(|count| count.to_string())),
            some(self.replica.map(|count| count.to_string())),
            self.series,
            some(self.lag.map(|lag| format!("{lag:.6}"))),
            some(self.blame.map(|blame| format!("{blame:.6}"))),
            self.lost,
            self.owed_by
        );
        line
    }
}

/// Counts the agent's connections; connects anew when the server went away.
#[derive(Debug)]
pub struct Counter {
    dsn: String,
    client: Option<Client>,
}

impl Counter {
    /// Of a server.
    pub fn of(dsn: String) -> Self {
        Self { dsn, client: None }
    }

    /// Now; nothing when the server does not answer.
    pub async fn count(&mut self) -> Option<u64> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => sql::connect(&self.dsn).await.ok()?,
        };
        let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blameio'";
        let count: i64 = client.query_one(query, &[]).await.ok()?.get(0);
        self.client = Some(client);
        u64::try_from(count).ok()
    }
}

/// Looks once; what the process and its page say. Who asks adds when and meanwhile.
pub async fn look(subject: Subject, primary: &mut Counter, replica: &mut Counter) -> Outcome<Sample> {
    let memory = procfs::Memory::of(subject.pid)?;
    let page = whole(subject.port).await?;
    Ok(Sample {
        life: subject.life,
        rss: memory.resident,
        anonymous: memory.anonymous,
        maps: memory.maps,
        programs: memory.programs,
        fds: procfs::descriptors(subject.pid)?,
        threads: procfs::threads(subject.pid)?,
        primary: primary.count().await,
        replica: replica.count().await,
        series: page.series(),
        lag: one_lag(&page)?,
        blame: page.sum(BLAME, &[]),
        lost: page.sum("blameio_file_lost_total", &[]).unwrap_or(0.0),
        owed_by: owed_by(&page),
        ..Sample::default()
    })
}

fn owed_by(page: &Page) -> String {
    let rows = page.of(BLAME).filter(|row| row.value > 0.0);
    let Some(most) = rows.max_by(|left, right| left.value.total_cmp(&right.value)) else {
        return String::new();
    };
    let label = |name| most.label(name).unwrap_or_default();
    format!("{} {}", label("blameio_blame_cause"), label("db_table")).trim_end().replace(',', " ")
}

const LAG: &str = "blameio_replication_lag_seconds";
const BLAME: &str = "blameio_lag_blame_seconds";

/// A page whose lag and blame are of the same tick.
async fn whole(port: u16) -> Outcome<Page> {
    let page = scrape(port).await?;
    let at: BTreeSet<Option<i64>> = page.of(LAG).chain(page.of(BLAME)).map(|sample| sample.at).collect();
    if at.len() > 1 {
        return Err(format!("lag and blame are of different moments: {at:?}").into());
    }
    Ok(page)
}

/// There is one channel, so there is one lag.
fn one_lag(page: &Page) -> Outcome<Option<f64>> {
    let lags: Vec<f64> = page.of(LAG).map(|sample| sample.value).collect();
    match lags[..] {
        [] => Ok(None),
        [lag] => Ok(Some(lag)),
        _ => Err(format!("one channel has {} lags: {lags:?}", lags.len()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_does_not_add_up_drifts() {
        let sample = |lag, blame| Sample { lag, blame, ..Sample::default() };
        assert_eq!(sample(Some(10.0), Some(10.0)).drift(), Some(0.0));
        assert!(sample(Some(10.0), Some(9.0)).drift().is_some_and(|drift| drift > 0.09));
        assert!(sample(Some(10.0), None).drift().is_some_and(|drift| drift > 0.99));
        assert_eq!(sample(None, Some(1.0)).drift(), None);
    }

    #[test]
    fn a_line_has_as_many_fields_as_the_heading() {
        let fields = |line: &str| line.split(',').count();
        assert_eq!(fields(&Sample::default().csv()), fields(HEADING));
    }
}
