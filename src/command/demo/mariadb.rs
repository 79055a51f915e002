//! The demo on `MariaDB`.

use std::time::Duration;

use super::{Stage, judge::Counters, scenario::Scenario};
use crate::{
    command::say,
    lab::{
        Culprit, LabError, Limit, Storage, Throttle,
        mariadb::{MariaLab, MariaOptions, MariaUpdates, MariaWorkload, RowLock, program, sql},
    },
};

/// Changes a second, and reads that the replica gets once it is slow: a new order needs one.
const RATE: u32 = 200;
const READ_IOPS: u64 = 40;

pub(super) struct MariaDb {
    lab: MariaLab,
    scenario: Option<Scenario>,
    workload: Option<MariaWorkload>,
    held: Option<RowLock>,
}

impl MariaDb {
    pub(super) async fn build(scenario: Option<Scenario>) -> Result<Self, LabError> {
        program()?;
        let is_slow = scenario.map_or_else(|| Throttle::support().is_ok(), Scenario::is_slow);
        let usual = MariaOptions::default();
        let storage = if is_slow { usual.storage } else { Storage::Plain };
        // Off by default; the agent does without, and what it counts is printed beside.
        let replica = vec!["--performance-schema=ON"];
        let lab = MariaLab::build(MariaOptions { storage, replica, ..usual }).await?;
        Ok(Self { lab, scenario, workload: None, held: None })
    }
}

impl Stage for MariaDb {
    const COUNTERS: &'static str = "table_io_waits time";
    /// What the applier waits for inside the server, as for a free page of the buffer pool, has no name yet.
    const UNKNOWN: f64 = 0.15;

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
        match self.scenario? {
            Scenario::ColdIndex => Some(Culprit::of("replay").table("orders").index("reference")),
            Scenario::Lock => Some(Culprit::of("lock").table("customers")),
            Scenario::Rival => None,
        }
    }

    fn learning(&self) -> Duration {
        // Until the server has each of its 128 rollback segments in memory twice their pages are read too.
        Duration::from_secs(14)
    }

    async fn begin(&mut self) -> Result<u32, LabError> {
        let updates = match self.scenario {
            Some(Scenario::ColdIndex) => MariaUpdates::orders(),
            _ => MariaUpdates::customers(),
        };
        self.workload = Some(self.lab.start_workload(updates, RATE).await?);
        Ok(RATE)
    }

    async fn inject(&mut self) -> Result<(), LabError> {
        match self.scenario {
            None | Some(Scenario::Rival) => {}
            Some(Scenario::ColdIndex) => {
                say(format!(
                    "\ninjected: index reference of orders is larger than the buffer pool, and the disk does {READ_IOPS} reads a second\n"
                ));
                self.lab.limit(Limit::reads(READ_IOPS))?;
            }
            Some(Scenario::Lock) => {
                say("\ninjected: a transaction on the replica holds rows of customers that replay changes\n");
                self.held = Some(RowLock::hold(&self.lab.replica().access(), "shop.customers").await?);
            }
        }
        Ok(())
    }

    async fn counters(&mut self) -> Result<Counters, LabError> {
        sql::table_io_waits(self.lab.replica_client()).await
    }

    async fn end(&mut self) -> Result<(), LabError> {
        self.held = None;
        match self.workload.take() {
            Some(workload) => workload.stop().await.map(drop),
            None => Ok(()),
        }
    }
}
