//! Queue, retries and timeout, written once and put around every exporter that pushes.
//!
//! The keys, defaults and log lines are the Collector's. What an attempt is, and whether a failed one may
//! succeed later, only the exporter knows.

mod queue;
mod retry;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use blameio_config::ComponentId;
use blameio_pipeline::{Batch, ComponentError, ExportError, Exporter, telemetry::ComponentMetrics};
use tokio_util::sync::CancellationToken;

pub use self::settings::{QueueSettings, RetrySettings, SendingSettings, Sizer};
use self::{queue::Queue, retry::Attempts};

/// An exporter with queue, retries and timeout around it.
pub struct Sending {
    attempts: Arc<Attempts>,
    metrics: ComponentMetrics,
    queue: Option<Queue>,
}

impl Sending {
    /// Puts the settings around `inner`, whose `export` makes one attempt. `id` names it in the log.
    pub fn wrap(
        id: &ComponentId,
        inner: Arc<dyn Exporter>,
        settings: SendingSettings,
        metrics: ComponentMetrics,
    ) -> Self {
        let SendingSettings { timeout, retry_on_failure, sending_queue } = settings;
        let attempts = Attempts {
            exporter: inner,
            timeout,
            settings: retry_on_failure,
            draining: CancellationToken::new(),
            who: id.to_string(),
        };
        let queue =
            sending_queue.enabled.then(|| Queue::new(&sending_queue, id.to_string(), metrics.clone()));
        Self { attempts: Arc::new(attempts), metrics, queue }
    }
}

/// Counts what became of a batch.
fn counted(
    metrics: &ComponentMetrics,
    batch: &Batch,
    outcome: Result<(), ExportError>,
) -> Result<(), ExportError> {
    match outcome {
        Ok(()) => metrics.sent(batch.items()),
        Err(_) => metrics.send_failed(batch.items()),
    }
    outcome
}

#[async_trait]
impl Exporter for Sending {
    async fn start(&self) -> Result<(), ComponentError> {
        self.attempts.exporter.start().await?;
        if let Some(queue) = &self.queue {
            queue.start(&self.attempts);
        }
        Ok(())
    }

    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        match &self.queue {
            Some(queue) => queue.put(batch).await,
            None => counted(&self.metrics, &batch, self.attempts.deliver(&batch).await),
        }
    }

    /// From here on every batch gets one more attempt, at once.
    fn drain(&self) {
        self.attempts.draining.cancel();
    }

    /// Sends what is left. The caller sets the deadline by dropping this.
    async fn shutdown(&self) {
        self.drain();
        if let Some(queue) = &self.queue {
            queue.drain().await;
        }
        self.attempts.exporter.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
