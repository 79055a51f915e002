//! Reads the log of one replica as it is received, and enters what it asks of replay into the channel's account.

use std::time::{Duration, Instant, SystemTime};

use blameio_databases::{Database, LogError, LogLook, LogPositions, LogReader};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    channel::{Shared, lock},
    work::Ledger,
};

/// How often the log is looked at.
const LOOKS: Duration = Duration::from_millis(200);
/// Between two looks when there is more than one look reads, which is 4 MiB: at most 64 MiB a second.
const NEXT: Duration = Duration::from_millis(62);
/// After a failure. A server that is being started again is not here for a while.
const AGAIN: Duration = Duration::from_secs(1);
/// That a part was not read is told at most so often.
const SKIPPED: Duration = Duration::from_mins(10);
/// So many failures in a row are told.
const FAILURES: u32 = 10;

/// Follows the log of one replica until `end`.
pub(super) async fn follow(database: Database, shared: Shared, end: CancellationToken) {
    let mut reading: Option<(Uuid, LogReader)> = None;
    let mut told = Told::default();
    let mut pause = LOOKS;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep(pause) => {}
        }
        pause = LOOKS;
        let Some(identity) = database.server().view().identity.clone() else { continue };
        let positions = lock(&shared).last.as_ref().filter(|sample| sample.in_recovery).map(|sample| {
            LogPositions { received: sample.received, replayed: sample.replayed, timeline: sample.timeline }
        });
        let Some(positions) = positions else { continue };
        let instance = identity.instance_id;
        // Another data directory has another log.
        let (_, reader) = match &mut reading {
            Some(reading) if reading.0 == instance => reading,
            _ => reading.insert((instance, database.log())),
        };
        match reader.look(positions).await {
            Ok(look) => {
                told.success(&database, look.skipped);
                if look.has_more {
                    pause = NEXT;
                }
                enter(&shared, instance, look);
                ask_for_keys(&database, &shared).await;
            }
            Err(LogError::Unsupported) => return,
            Err(error) => {
                told.failure(&database, &error);
                pause = AGAIN;
            }
        }
    }
}

fn enter(shared: &Shared, instance: Uuid, look: LogLook) {
    let mut channel = lock(shared);
    let now = Instant::now();
    if channel.work.as_ref().is_none_or(|work| work.instance != instance) {
        channel.work = Some(Ledger::new(instance, now, SystemTime::now()));
    }
    if let Some(work) = &mut channel.work {
        work.received(look, now);
    }
}

/// Asks which tables have no key, where the applier is at some of which that is not known.
async fn ask_for_keys(database: &Database, shared: &Shared) {
    let wants = lock(shared).work.as_ref().is_some_and(|work| work.wants_keys(Instant::now()));
    if !wants {
        return;
    }
    let without = database.tables_without_key().await;
    if let Err(error) = &without {
        tracing::debug!(database = %database.id(), %error, "which tables have no primary key is not known");
    }
    if let Some(work) = &mut lock(shared).work {
        work.keys(without.ok(), Instant::now());
    }
}

/// Says what changed, once a change.
#[derive(Default)]
struct Told {
    failures: u32,
    error: Option<LogError>,
    skipped: Option<Instant>,
}

impl Told {
    fn success(&mut self, database: &Database, skipped: u64) {
        self.failures = 0;
        if self.error.take().is_some() {
            tracing::info!(database = %database.id(), "its log is read");
        }
        if skipped > 0 && self.skipped.is_none_or(|told| told.elapsed() > SKIPPED) {
            self.skipped = Some(Instant::now());
            tracing::info!(
                database = %database.id(),
                bytes = skipped,
                "a part of its log was not read: it is too far behind, removed, compressed, or no log; work is counted of what was"
            );
        }
    }

    fn failure(&mut self, database: &Database, error: &LogError) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES && self.error.as_ref() != Some(error) {
            tracing::info!(
                database = %database.id(), %error,
                "processor time and demand are not split by table"
            );
            self.error = Some(error.clone());
        }
    }
}
