//! Exporter `debug`: shows what arrives, on standard error.
//!
//! As in the Collector it has no queue: it writes at once, and a batch is delivered once it is written.

mod text;

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use blameio_config::{Decode, Diagnostics, Node, Path, Signal, choices, settings};
use blameio_pipeline::{
    Batch, ComponentError, Context, ExportError, Exporter, Factory, Stability, telemetry::ComponentMetrics,
};

choices! {
    /// How much is shown of a batch.
    pub enum Verbosity {
        /// How much is in it.
        Basic = "basic",
        /// A line for each point, span or log record.
        Normal = "normal",
        /// Every field.
        Detailed = "detailed",
    }
}

settings! {
    /// Shows what arrives, on standard error.
    pub struct DebugSettings {
        /// How much is shown of a batch: basic, normal or detailed.
        pub verbosity: Verbosity = "basic",
        /// Batches that are shown in each second whatever their number.
        pub sampling_initial: usize = 2,
        /// After those, every how many-th batch of the second is shown; 1 for all, 0 for none.
        pub sampling_thereafter: usize = 1,
    }
}

/// What makes the exporter.
pub const FACTORY: Factory<dyn Exporter> = Factory {
    kind: "debug",
    summary: "Shows what arrives, on standard error",
    module: env!("CARGO_PKG_NAME"),
    signals: &[Signal::Metrics, Signal::Traces, Signal::Logs],
    stability: Stability::Alpha,
    fields: DebugSettings::FIELDS,
    validate,
    create,
};

fn validate(node: &Node, path: &Path, out: &mut Diagnostics) {
    // Whatever can be decoded is valid.
    DebugSettings::decode(node, path, out);
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of every factory")]
fn create(node: &Node, context: Context) -> Result<Box<dyn Exporter>, ComponentError> {
    let settings = context.settings::<DebugSettings>(node)?;
    let metrics = context.metrics.component("exporter", &context.id);
    Ok(Box::new(Debug::new(context.id.to_string(), settings, metrics, Box::new(io::stderr()))))
}

/// Counts the batches of the current second.
struct Sampler {
    second: Option<Instant>,
    seen: usize,
}

impl Sampler {
    fn shows(&mut self, settings: &DebugSettings, now: Instant) -> bool {
        let over = |start: Instant| now.saturating_duration_since(start) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            (self.second, self.seen) = (Some(now), 0);
        }
        self.seen += 1;
        let Some(after) = self.seen.checked_sub(settings.sampling_initial).filter(|after| *after > 0) else {
            return true;
        };
        settings.sampling_thereafter > 0 && after % settings.sampling_thereafter == 0
    }
}

struct Debug {
    id: String,
    settings: DebugSettings,
    metrics: ComponentMetrics,
    output: Mutex<(Sampler, Box<dyn Write + Send>)>,
}

impl Debug {
    fn new(
        id: String,
        settings: DebugSettings,
        metrics: ComponentMetrics,
        output: Box<dyn Write + Send>,
    ) -> Self {
        Self { id, settings, metrics, output: Mutex::new((Sampler { second: None, seen: 0 }, output)) }
    }
}

#[async_trait]
impl Exporter for Debug {
    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let items = batch.items();
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if output.0.shows(&self.settings, Instant::now()) {
            let text = text::batch(&batch, self.settings.verbosity, &self.id).map_err(crate::permanent)?;
            // One write, so that lines of others do not come between.
            if let Err(error) = output.1.write_all(text.as_bytes()) {
                tracing::debug!(exporter = %self.id, %error, "cannot write what arrived");
            }
        }
        self.metrics.sent(items);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
