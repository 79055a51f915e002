//! Where a component hands batches on: bounded, acknowledged once the far side has accepted.

use std::fmt;

use blameio_config::{PipelineId, Signal};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{Batch, telemetry::ComponentMetrics};

/// Batches that wait before a pipeline; small, since whoever sends also waits for the acknowledgement.
pub(crate) const PIPELINE_DEPTH: usize = 16;

/// A pipeline did not accept a batch.
#[derive(Clone, Debug, Error)]
#[error("pipeline {pipeline} refused: {reason}")]
pub struct Refused {
    /// Which pipeline.
    pub pipeline: PipelineId,
    /// Why.
    pub reason: String,
    /// Whether the same batch would be refused again.
    pub permanent: bool,
}

/// A batch on its way into a pipeline, with the one who waits to hear of it.
pub(crate) struct Delivery {
    pub(crate) batch: Batch,
    pub(crate) answer: oneshot::Sender<Result<(), Refused>>,
}

/// One pipeline's entrance.
#[derive(Clone)]
pub(crate) struct Inlet {
    pub(crate) pipeline: PipelineId,
    pub(crate) sender: mpsc::Sender<Delivery>,
}

/// A receiver's way into all of its pipelines. Dropping the last clone lets the pipelines end.
#[derive(Clone)]
pub struct Output {
    inlets: Vec<Inlet>,
    metrics: ComponentMetrics,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.inlets.iter().map(|inlet| inlet.pipeline.to_string())).finish()
    }
}

impl Output {
    pub(crate) fn new(inlets: Vec<Inlet>, metrics: ComponentMetrics) -> Self {
        Self { inlets, metrics }
    }

    /// Whether any pipeline of this signal wants data.
    pub fn wants(&self, signal: Signal) -> bool {
        self.inlets.iter().any(|inlet| inlet.pipeline.signal == signal)
    }

    /// Hands a batch to every pipeline of its signal and waits until all have accepted it. When one refuses,
    /// the others still have it.
    pub async fn send(&self, batch: Batch) -> Result<(), Refused> {
        let items = batch.items();
        let mut answers = Vec::with_capacity(self.inlets.len());
        for inlet in self.inlets.iter().filter(|inlet| inlet.pipeline.signal == batch.signal()) {
            let (answer, heard) = oneshot::channel();
            let delivery = Delivery { batch: batch.clone(), answer };
            // A closed pipeline drops `delivery`, which the loop below hears as a refusal.
            if inlet.sender.send(delivery).await.is_err() {
                tracing::debug!(pipeline = %inlet.pipeline, "pipeline has ended");
            }
            answers.push((&inlet.pipeline, heard));
        }
        drop(batch);
        let mut outcome = Ok(());
        for (pipeline, heard) in answers {
            let result = heard.await.unwrap_or_else(|_| {
                Err(Refused {
                    pipeline: pipeline.clone(),
                    reason: "it has ended".to_owned(),
                    permanent: false,
                })
            });
            outcome = outcome.and(result);
        }
        self.metrics.received(items, outcome.is_ok());
        outcome
    }
}
