//! A configuration at work: telemetry, graph, the page of the agent's own metrics, and an orderly end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use blameio_config::{ComponentId, Configuration};
use blameio_pipeline::{
    Exporter, Extension,
    graph::{Graph, Running},
    telemetry::Telemetry,
};

use super::self_metrics::SelfMetrics;
use crate::components::COMPONENTS;

/// Time for everything to hand on what it has.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Between two looks at the workers' heartbeats.
pub const WATCHDOG: Duration = Duration::from_secs(15);

/// Components that were made in code.
#[derive(Default)]
pub struct More {
    /// Servers that were found on this host.
    pub extensions: BTreeMap<ComponentId, Arc<dyn Extension>>,
    /// One more exporter for every pipeline of metrics.
    pub exporter: Option<(ComponentId, Arc<dyn Exporter>)>,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    telemetry: Telemetry,
    page: SelfMetrics,
}

impl Agent {
    /// Starts a configuration that was found good, with what was made in code beside it.
    pub async fn start(configuration: &Configuration, more: More) -> Result<Self, String> {
        let settings = &configuration.service.telemetry;
        let telemetry = Telemetry::new(settings).map_err(|error| error.to_string())?;
        let mut graph =
            Graph::build_with(configuration, &COMPONENTS, telemetry.metrics(), more.extensions)
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        if let Some((id, exporter)) = &more.exporter {
            graph.attach(id, exporter);
        }
        let running = graph.start().await.map_err(|error| error.to_string())?;
        let page = SelfMetrics::start(settings, &telemetry);
        tracing::info!("Everything is ready. Begin running and processing data.");
        Ok(Self { running, telemetry, page })
    }

    /// Says which workers are late or gone; silence is health.
    pub fn complain_of_late_workers(&self) {
        for late in self.running.late() {
            tracing::error!(
                worker = late.worker,
                silent_for = ?late.silence,
                "a worker is late or has ended; what it does is not done. Look for its errors above"
            );
        }
    }

    /// Drains and ends.
    pub async fn shutdown(self) {
        let Self { running, telemetry, page } = self;
        tracing::info!("Starting shutdown...");
        running.shutdown(SHUTDOWN).await;
        page.stop();
        // Pushing what is left blocks; the runtime goes on meanwhile.
        tokio::task::block_in_place(|| telemetry.shutdown());
        tracing::info!("Shutdown complete.");
    }
}

/// Resolves when the process is told to end; listens from the call on, within a runtime. A hang-up is said and outlived:
/// who sends one expects a reload.
pub fn end_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = signals else {
            drop(tokio::signal::ctrl_c().await);
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading the configuration is not supported yet; restart to change it");
                }
            }
        }
    }
}
