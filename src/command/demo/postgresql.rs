//! The demo on `PostgreSQL`.

use std::{path::PathBuf, time::Duration};

use tokio::time::sleep;
use tokio_postgres::Client;

use super::{Stage, judge::Counters, scenario::Scenario};
use crate::{
    command::say,
    lab::{
        Binaries, Culprit, Lab, LabError, LabOptions, Limit, LockConflict, Scan, Schema, Storage, Throttle,
        Updates, Workload,
    },
};

/// What the rival reads, by how many sessions, and how much there is of it: more than the replica's memory keeps.
const ARCHIVE: &str = "archive";
const SESSIONS: u32 = 8;
const MEGABYTES: u32 = 160;
/// Cold pages that replay needs in a second where a rival reads, and what the disk gives: without the rival it is enough.
const READS: u32 = 100;
const DISK: Limit = Limit { read_iops: Some(400), read_bps: None, write_iops: None };
/// Until the agent has seen what a session is for.
const SEEN: Duration = Duration::from_secs(2);

/// What is held for as long as the injection lasts.
enum Held {
    Nothing,
    Lock { _held: LockConflict },
    Scan(Scan),
}

pub(super) struct PostgreSql {
    lab: Lab,
    scenario: Option<Scenario>,
    workload: Option<Workload>,
    held: Held,
}

impl PostgreSql {
    pub(super) async fn build(
        binaries: Option<PathBuf>,
        scenario: Option<Scenario>,
    ) -> Result<Self, LabError> {
        Binaries::find(binaries.as_deref())?;
        let options = LabOptions::default();
        let is_slow = scenario.map_or_else(|| Throttle::support().is_ok(), Scenario::is_slow);
        let storage = if is_slow { options.storage } else { Storage::Plain };
        let schema = match scenario {
            Some(Scenario::Rival) => options.schema.with_archive(ARCHIVE, MEGABYTES, SESSIONS),
            _ => options.schema,
        };
        let lab = Lab::build(LabOptions { binaries, storage, schema, ..LabOptions::default() }).await?;
        Ok(Self { lab, scenario, workload: None, held: Held::Nothing })
    }
}

impl Stage for PostgreSql {
    const COUNTERS: &'static str = "pg_statio blocks";
    /// Of the lag.
    const UNKNOWN: f64 = 0.05;

    fn ports(&self) -> (u16, u16) {
        (self.lab.primary().port(), self.lab.replica().port())
    }

    fn dsns(&self) -> (String, String) {
        (self.lab.primary().dsn(), self.lab.replica().dsn())
    }

    fn directory(&self) -> String {
        self.lab.dir().display().to_string()
    }

    fn culprit(&self) -> Option<Culprit> {
        self.scenario.map(|scenario| match scenario {
            Scenario::ColdIndex => Culprit::of("replay").table("orders").index(Schema::COLD_INDEX),
            Scenario::Lock => Culprit::of("lock").table("orders"),
            Scenario::Rival => Culprit::of("contention").table(ARCHIVE).role("client"),
        })
    }

    fn learning(&self) -> Duration {
        // What a read takes alone has to be seen often enough.
        Duration::from_secs(if self.scenario == Some(Scenario::Rival) { 16 } else { 8 })
    }

    async fn begin(&mut self) -> Result<u32, LabError> {
        let (updates, rate) = if self.scenario == Some(Scenario::Rival) {
            let parts = (0..SESSIONS).map(|part| format!("{ARCHIVE}_p{part}"));
            let cold: Vec<_> = parts.chain([Schema::COLD_INDEX.to_owned()]).collect();
            self.lab.keep_cold(&cold).await?;
            self.lab.limit(DISK)?;
            (Updates::new_orders(), READS)
        } else {
            (Updates::orders(), Lab::RATE)
        };
        self.workload = Some(self.lab.start_workload(&updates, rate).await?);
        Ok(rate)
    }

    async fn inject(&mut self) -> Result<(), LabError> {
        match self.scenario {
            None => {}
            Some(Scenario::ColdIndex) => {
                let (index, reads) = (Schema::COLD_INDEX, Lab::READ_IOPS);
                say(format!(
                    "\ninjected: {index} is out of memory, and the disk does {reads} reads a second\n"
                ));
                self.lab.inject_cold_index().await?;
            }
            Some(Scenario::Lock) => {
                say("\ninjected: a query on the replica holds a lock on orders that replay needs\n");
                self.held = Held::Lock { _held: self.lab.hold_lock("orders").await? };
            }
            Some(Scenario::Rival) => {
                let scan = Scan::connect(&self.lab.replica().dsn(), ARCHIVE, SESSIONS).await?;
                sleep(SEEN).await;
                say(format!(
                    "\ninjected: {SESSIONS} queries on the replica read {ARCHIVE} from the disk that replay reads from\n"
                ));
                scan.begin();
                self.held = Held::Scan(scan);
            }
        }
        Ok(())
    }

    async fn counters(&mut self) -> Result<Counters, LabError> {
        statio(self.lab.replica_client()).await
    }

    async fn end(&mut self) -> Result<(), LabError> {
        if let Held::Scan(scan) = std::mem::replace(&mut self.held, Held::Nothing) {
            scan.stop().await?;
        }
        match self.workload.take() {
            Some(workload) => workload.stop().await.map(drop),
            None => Ok(()),
        }
    }
}

/// Blocks that PostgreSQL says it read, on the replica.
async fn statio(client: &Client) -> Result<Counters, LabError> {
    let statement = "SELECT relname::text, ''::text, COALESCE(heap_blks_read, 0) FROM pg_statio_user_tables \
                     UNION ALL \
                     SELECT relname::text, indexrelname::text, COALESCE(idx_blks_read, 0) FROM pg_statio_user_indexes";
    let rows = client.query(statement, &[]).await.map_err(LabError::sql("read pg_statio"))?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}
