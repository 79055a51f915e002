//! The task that looks for beats on one replica.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use blameio_databases::DatabaseError;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{HeartbeatSettings, published::Writers, replica::Replica};

/// A look that takes longer than this is of no use.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// First and longest pause after a look that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A table that is about to be made on the primary is there by this attempt.
const MADE_BY: u32 = 4;

pub(super) async fn run(
    replica: Arc<Replica>,
    writers: Arc<Writers>,
    settings: HeartbeatSettings,
    end: CancellationToken,
) {
    let reader = replica.database.beat_reader(&settings.schema);
    let mut bell = writers.bell();
    let mut failing: Option<String> = None;
    let mut failures = 0_u32;
    // While the replica does not answer, it is not the beats that say when to look.
    let mut not_before: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let due = not_before.unwrap_or_else(|| replica.due(now));
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            () = sleep_until(due.into()) => {}
            // Another beat is on its way.
            Ok(()) = bell.changed(), if not_before.is_none() => continue,
        }
        let asked = Instant::now();
        let looked = tokio::select! {
            () = end.cancelled() => return,
            looked = timeout(LOOK_TIMEOUT, reader.read()) => looked,
        };
        let error = match looked {
            Ok(Ok(seen)) => {
                replica.looked(&seen, asked.elapsed());
                (failures, not_before) = (0, None);
                if failing.take().is_some() {
                    tracing::info!(database = %replica.database.id(), "beats can be read again");
                }
                continue;
            }
            Ok(Err(error)) => {
                let error = error.root();
                let may_come = settings.create && failures < MADE_BY;
                (!may_come || !matches!(error, DatabaseError::Heartbeat { .. })).then(|| error.to_string())
            }
            Err(_) => Some(format!("no answer within {LOOK_TIMEOUT:?}; the server or the network is stuck")),
        };
        let pause = PAUSE.0.saturating_mul(1 << failures.min(16)).min(PAUSE.1);
        failures = failures.saturating_add(1);
        not_before = Some(Instant::now() + pause);
        if let Some(error) = error
            && failing.as_ref() != Some(&error)
        {
            tracing::warn!(
                database = %replica.database.id(), %error,
                "beats cannot be read; the delay is held and marked stale"
            );
            failing = Some(error);
        }
    }
}
