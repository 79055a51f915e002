//! Keeps what is known of a server's catalog: reads it ahead, and looks up what was asked for and is not known.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use blameio_config::ComponentId;
use blameio_pipeline::WatchedServer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Said;
use crate::{catalog::CatalogReader, engine::Engine};

/// How long the first reading waits for the server to be found on this host.
const FOUND: Duration = Duration::from_secs(3);
/// How long names may be out of date after a rename.
const RELOAD: Duration = Duration::from_mins(10);
/// Interval of attempts to read the catalog, first and last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Files that become unknown at the same time are looked up together.
const GATHER: Duration = Duration::from_millis(50);
/// Look-ups take a tenth of the time at most, and are at most so far apart for it.
const PACE: (u32, Duration) = (9, Duration::from_millis(500));

/// Keeps the catalog of one server until `end`.
pub(crate) async fn catalog(
    id: ComponentId,
    engine: Arc<dyn Engine>,
    reader: CatalogReader,
    mut server: WatchedServer,
    end: CancellationToken,
) {
    let mut said = Said::default();
    let mut retry = RETRY.0;
    let mut load_at = Instant::now();
    let (mut followed, mut seen) = (true, None);
    // A server on this host may be reached only once it has been found.
    tokio::select! {
        () = end.cancelled() => return,
        _ = server.changed() => {}
        () = sleep(FOUND) => {}
    }
    loop {
        let (mut due, mut pause, begun) = (Vec::new(), None, Instant::now());
        if load_at > Instant::now() {
            (due, pause) = reader.take_due();
        }
        let done = async {
            if load_at <= Instant::now() {
                let result = engine.load_catalog().await;
                reader.refresh();
                (result, true)
            } else if due.is_empty() {
                (Ok(()), false)
            } else {
                let result = engine.look_up(due.clone()).await;
                reader.settle(&due);
                (result, false)
            }
        };
        let (result, loaded) = tokio::select! {
            () = end.cancelled() => break,
            done = done => done,
        };
        match result {
            Ok(()) if loaded => {
                said.success(&id, "reading the catalog");
                (retry, load_at) = (RETRY.0, Instant::now() + RELOAD);
                continue;
            }
            Err(error) if loaded => {
                said.failure_unless_told(&id, "reading the catalog", &error, engine.is_sampled());
                load_at = Instant::now() + retry;
                retry = (retry * 2).min(RETRY.1);
            }
            Err(error) => {
                reader.failed(&due);
                tracing::debug!(server = %id, "look-up: {error}");
            }
            Ok(()) => {}
        }
        let gather = (begun.elapsed() * PACE.0).clamp(GATHER, PACE.1);
        let wait = load_at.saturating_duration_since(Instant::now());
        let wait = pause.map_or(wait, |pause: Duration| pause.min(wait)).max(gather);
        tokio::select! {
            () = end.cancelled() => break,
            () = reader.wanted() => sleep(gather).await,
            () = sleep(wait) => {}
            alive = server.changed(), if followed => {
                followed = alive;
                let view = server.view();
                let now = view.identity.as_ref().map(|identity| (identity.instance_id, view.incarnation));
                if now != seen && seen.is_some() {
                    (retry, load_at) = (RETRY.0, Instant::now());
                }
                seen = now;
            }
        }
    }
}
