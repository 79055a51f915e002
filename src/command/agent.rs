//! A configuration at work: telemetry, graph, the page of the agent's own metrics, and an orderly end.

use std::{sync::Arc, time::Duration};

use blameio_config::{ComponentId, Configuration};
use blameio_pipeline::{
    Exporter,
    graph::{Graph, Running},
    telemetry::Telemetry,
};

use super::self_metrics::SelfMetrics;
use crate::components::COMPONENTS;

/// Time for everything to hand on what it has.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Between two looks at the workers' heartbeats.
pub const WATCHDOG: Duration = Duration::from_secs(15);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    telemetry: Telemetry,
    page: SelfMetrics,
}

impl Agent {
    /// Starts a configuration that was found good.
    pub async fn start(configuration: &Configuration) -> Result<Self, String> {
        Self::start_with(configuration, None).await
    }

    /// The same, with an exporter that was made in code beside those of the configuration.
    pub async fn start_with(
        configuration: &Configuration,
        exporter: Option<(ComponentId, Arc<dyn Exporter>)>,
    ) -> Result<Self, String> {
        let settings = &configuration.service.telemetry;
        let telemetry = Telemetry::new(settings).map_err(|error| error.to_string())?;
        let mut graph = Graph::build(configuration, &COMPONENTS, telemetry.metrics())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        if let Some((id, exporter)) = &exporter {
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

/// Resolves when the process is told to end.
pub async fn end_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        _ => drop(tokio::signal::ctrl_c().await),
    }
}
