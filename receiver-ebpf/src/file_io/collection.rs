//! One collection after the other: the kernel is told what to watch, everything is read and made into points.

use std::time::{Duration, Instant};

use blameio_config::ComponentId;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::{budget::Budget, emit::Emitter, losses::Losses, watch::Watch};
use crate::{CostRow, ProbeError, Probes};

/// A row is swept when it did not move for so many collections and nobody can write to it, or for a tenth of them when
/// its file is gone or the maps fill up.
const IDLE_COLLECTIONS: u64 = 600;

/// Between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// The same while there is much to remove, or little room.
const CROWDED_SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What is kept from one collection to the next.
pub(super) struct Collection {
    receiver: ComponentId,
    probes: Probes,
    watch: Watch,
    emitter: Emitter,
    losses: Losses,
    budget: Budget,
    sweep_due: Instant,
    /// As last read.
    costs: Vec<CostRow>,
}

/// What one collection gives.
pub(super) struct Taken {
    pub(super) request: ExportMetricsServiceRequest,
    /// Critical threads that have ended.
    pub(super) exited: Vec<u32>,
    /// What the probes take of the host's processors, in percent, if that is too much.
    pub(super) too_much: Option<f64>,
}

impl Collection {
    pub(super) fn new(receiver: &ComponentId, probes: Probes, watch: Watch, budget: Budget) -> Self {
        Self {
            receiver: receiver.clone(),
            probes,
            watch,
            emitter: Emitter::new(receiver),
            losses: Losses::default(),
            budget,
            sweep_due: Instant::now() + SWEEP_INTERVAL,
            costs: Vec::new(),
        }
    }

    pub(super) fn receiver(&self) -> &ComponentId {
        &self.receiver
    }

    /// Waits until what is to be watched changes.
    pub(super) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Tells the kernel what is to be watched.
    pub(super) fn apply(&mut self) {
        self.watch.apply(&mut self.probes);
    }

    pub(super) fn take(&mut self) -> Result<Taken, ProbeError> {
        let sweep = Instant::now() >= self.sweep_due;
        if sweep {
            self.sweep_due = Instant::now() + SWEEP_INTERVAL;
            self.watch.compare(&self.probes.watched_processes(), &self.probes.given_roles());
        }
        self.apply();
        if sweep {
            // Right before a snapshot, which tells what is not there any more.
            let Self { probes, emitter, watch, .. } = self;
            if probes.sweep(IDLE_COLLECTIONS, |file| emitter.is_gone(file, watch))?.more {
                self.sweep_due = Instant::now() + CROWDED_SWEEP_INTERVAL;
            }
        }
        let snapshot = self.probes.snapshot()?;
        self.losses.tell(&self.receiver, &snapshot.lost);
        let request = self.emitter.emit(&snapshot, &self.watch, &mut self.probes);
        let too_much = self.budget.exceeded(Instant::now(), &snapshot.costs);
        self.costs = snapshot.costs;
        Ok(Taken { request, exited: snapshot.exited_threads, too_much })
    }

    /// What the probes take of the host's processors, in percent, if that is too much.
    pub(super) fn too_much(&mut self) -> Option<f64> {
        let costs = self.probes.costs().ok()?;
        let too_much = self.budget.exceeded(Instant::now(), &costs);
        self.costs = costs;
        too_much
    }

    /// The last times of threads that have ended were handed on.
    pub(super) fn handed_on(&mut self, exited: &[u32]) {
        self.watch.exited(exited, &mut self.probes);
    }

    /// Detaches the probes. The end of every series, and what goes on without them.
    pub(super) fn detach(self) -> (ExportMetricsServiceRequest, Detached) {
        let Self { probes, watch, mut emitter, costs, .. } = self;
        drop(probes);
        (emitter.end(&costs, &watch), Detached { emitter })
    }
}

/// A collection without probes.
pub(super) struct Detached {
    emitter: Emitter,
}

impl Detached {
    pub(super) fn take(&mut self) -> ExportMetricsServiceRequest {
        self.emitter.detached()
    }
}
