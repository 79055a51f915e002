//! `Database`: the handle of one declared or discovered server, and the workers behind it.
//!
//! The handle is cheap to clone and holds the server's connections. The workers end with the
//! extension; clones that are still held then see the last view and get errors from samplers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use blameio_config::ComponentId;
use blameio_pipeline::{ServerPublisher, WatchedServer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{CatalogReader, Object},
    check::Finding,
    discover::discover_in_background,
    engine::Engine,
    engines::Made,
    error::DatabaseError,
    follow,
    heartbeat::{BeatReader, BeatTable, BeatWriter},
    identity::ClusterId,
    positions::{PrimarySampler, ReplicaSampler},
    work::LogReader,
};

struct Inner {
    id: ComponentId,
    server: WatchedServer,
    publisher: Arc<ServerPublisher>,
    catalog: CatalogReader,
    engine: Arc<dyn Engine>,
    primary: Option<Arc<dyn Engine>>,
    /// The cluster of the server, which its primary must be of too.
    cluster: Arc<ClusterId>,
    end: CancellationToken,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// One database server.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl Database {
    pub(crate) fn new(id: ComponentId, made: Made) -> Self {
        let Made { engine, catalog, primary, cluster } = made;
        let (publisher, server) = WatchedServer::new(id.clone());
        Self(Arc::new(Inner {
            id,
            server,
            publisher: Arc::new(publisher),
            catalog,
            engine,
            primary,
            cluster,
            end: CancellationToken::new(),
            workers: Mutex::default(),
        }))
    }

    /// The extension that declares it.
    pub fn id(&self) -> &ComponentId {
        &self.0.id
    }

    /// Its identity and processes, as a value that changes.
    pub fn server(&self) -> WatchedServer {
        self.0.server.clone()
    }

    /// Which object a file belongs to.
    pub fn catalog(&self) -> CatalogReader {
        self.0.catalog.clone()
    }

    /// Asks it, as a replica, for its positions. All samplers share one connection.
    pub fn replica(&self) -> ReplicaSampler {
        ReplicaSampler { engine: Arc::clone(&self.0.engine) }
    }

    /// Reads its log from its files, where it is on this host.
    pub fn log(&self) -> LogReader {
        LogReader { server: self.server(), reader: self.0.engine.log() }
    }

    /// Writes beats on it, over a session of its own that is opened when it is needed.
    pub fn beat_writer(&self, table: BeatTable) -> BeatWriter {
        BeatWriter { writer: self.0.engine.beats(table) }
    }

    /// Reads the beats that it shows, on the session that samplers share.
    pub fn beat_reader(&self, schema: &str) -> BeatReader {
        BeatReader { engine: Arc::clone(&self.0.engine), schema: schema.into() }
    }

    /// Tables that have no key by which a row to be changed is found; it is not for asking often.
    pub async fn tables_without_key(&self) -> Result<Vec<Object>, DatabaseError> {
        self.0.engine.tables_without_key().await
    }

    /// Asks its primary for its position, where `primary_dsn` is set.
    pub fn primary(&self) -> Option<PrimarySampler> {
        self.0.primary.as_ref().map(|engine| PrimarySampler { engine: Arc::clone(engine) })
    }

    /// Looks at everything the agent needs of the server, for the operator.
    pub async fn check(&self) -> Vec<Finding> {
        // Nobody may have looked for it yet: a check needs no running workers.
        let found = discover_in_background().await;
        let located = self.0.engine.locate(&found).await;
        let mut findings = self.0.engine.check().await;
        if let Some(primary) = &self.0.primary {
            let known = located.ok().flatten().and_then(|server| server.system_identifier);
            let known = match known {
                Some(identifier) => Some(identifier),
                None => self.0.engine.system_identifier().await.ok().flatten(),
            };
            self.0.cluster.set(known);
            findings.push(match primary.flushed().await {
                Ok(_) => Finding::good("the primary answers"),
                Err(error)
                    if matches!(
                        error.root(),
                        DatabaseError::AnotherCluster { .. }
                            | DatabaseError::InRecovery { .. }
                            | DatabaseError::NotUpstream { .. }
                    ) =>
                {
                    Finding::missing(error.root().to_string(), "point primary_dsn at this replica's primary")
                }
                Err(error) => Finding::missing(
                    format!("the primary cannot be asked for its position: {error}"),
                    "correct primary_dsn; without it transport lag is unknown",
                ),
            });
        }
        findings
    }

    /// Starts the workers; a second call does nothing.
    pub(crate) fn start(&self) {
        let mut workers = self.0.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.is_empty() && !self.0.end.is_cancelled() {
            let (id, engine, end) = (self.0.id.clone(), Arc::clone(&self.0.engine), self.0.end.clone());
            let publisher = Arc::clone(&self.0.publisher);
            let primary = self.0.primary.clone();
            workers.push(tokio::spawn(follow::server(
                id.clone(),
                Arc::clone(&engine),
                primary,
                publisher,
                Arc::clone(&self.0.cluster),
                end.clone(),
            )));
            let catalog = self.0.catalog.clone();
            workers.push(tokio::spawn(follow::catalog(id, engine, catalog, self.0.server.clone(), end)));
        }
    }

    /// Ends the workers and closes every connection.
    pub(crate) async fn close(&self) {
        self.0.end.cancel();
        let workers = std::mem::take(&mut *self.0.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            if let Err(error) = worker.await
                && error.is_panic()
            {
                tracing::error!(server = %self.0.id, "a worker ended by a panic");
            }
        }
        self.0.engine.close(false).await;
        if let Some(primary) = &self.0.primary {
            primary.close(false).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
