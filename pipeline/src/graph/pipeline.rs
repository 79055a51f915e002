//! One pipeline's task: takes batches in, runs the processors, hands the results to the exporters, and only then
//! acknowledges.

use std::{sync::Arc, time::Duration};

use blameio_config::{ComponentId, PipelineId};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Batch, ExportError, Exporter, Processor,
    health::Heartbeat,
    output::{Delivery, Refused},
    telemetry::ComponentMetrics,
};

/// Longest silence of a healthy pipeline: it beats on every tick, and waits for an exporter at most this long.
pub(super) const HEARTBEAT: Duration = Duration::from_mins(1);

const TICK: Duration = Duration::from_secs(1);

/// A pipeline that was made and does not run yet.
pub(super) struct Plan {
    pub(super) id: PipelineId,
    pub(super) processors: Vec<(ComponentId, Box<dyn Processor>)>,
    pub(super) exporters: Vec<ComponentId>,
}

pub(super) struct Stage {
    pub(super) id: ComponentId,
    pub(super) processor: Box<dyn Processor>,
    pub(super) metrics: ComponentMetrics,
}

type Outlets = Vec<(ComponentId, Arc<dyn Exporter>)>;

pub(super) async fn run(
    id: PipelineId,
    mut stages: Vec<Stage>,
    outlets: Outlets,
    mut inbox: mpsc::Receiver<Delivery>,
    heartbeat: Heartbeat,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            delivery = inbox.recv() => {
                let Some(Delivery { batch, answer }) = delivery else { break };
                let result = take(&id, &mut stages, &outlets, batch).await;
                // A receiver that no longer waits has been drained; there is nobody to tell.
                drop(answer.send(result));
            }
            _ = ticks.tick() => tick(&id, &mut stages, &outlets).await,
        }
        heartbeat.beat();
    }
    tick(&id, &mut stages, &outlets).await;
}

async fn take(id: &PipelineId, stages: &mut [Stage], outlets: &Outlets, batch: Batch) -> Result<(), Refused> {
    let batches = process(id, stages, vec![batch])?;
    export(id, outlets, batches).await
}

async fn tick(id: &PipelineId, stages: &mut [Stage], outlets: &Outlets) {
    for first in 0..stages.len() {
        let due = stages[first].processor.tick();
        if due.is_empty() {
            continue;
        }
        let outcome = match process(id, &mut stages[first + 1..], due) {
            Ok(batches) => export(id, outlets, batches).await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = outcome {
            tracing::warn!(%refused, "what a processor had due was lost");
        }
    }
}

fn process(id: &PipelineId, stages: &mut [Stage], mut batches: Vec<Batch>) -> Result<Vec<Batch>, Refused> {
    for Stage { id: stage, processor, metrics } in stages {
        let mut next = Vec::with_capacity(batches.len());
        for batch in batches {
            let incoming = batch.items();
            let produced = processor.process(batch).map_err(|refusal| Refused {
                pipeline: id.clone(),
                reason: format!("processor {stage}: {}", refusal.reason),
                permanent: refusal.permanent,
            })?;
            metrics.processed(incoming, produced.iter().map(Batch::items).sum());
            next.extend(produced);
        }
        batches = next;
    }
    Ok(batches)
}

async fn export(id: &PipelineId, outlets: &Outlets, batches: Vec<Batch>) -> Result<(), Refused> {
    let mut outcome = Ok(());
    for batch in batches {
        for (exporter, outlet) in outlets {
            if let Err(error) = outlet.export(batch.clone()).await {
                outcome = Err(Refused {
                    pipeline: id.clone(),
                    reason: format!("exporter {exporter}: {error}"),
                    permanent: matches!(error, ExportError::Permanent { .. }),
                });
            }
        }
    }
    outcome
}
