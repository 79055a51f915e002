//! The scrape page of the agent's own metrics, where `service::telemetry::metrics` wants one.

use std::net::TcpListener;

use blameio_config::{Endpoint, MetricsLevel, MetricsReader, Telemetry as Settings};
use blameio_exporters::prometheus::{Page, RenderOptions, render, serve};
use blameio_pipeline::telemetry::Telemetry;
use tokio_util::sync::CancellationToken;

/// Ports tried after the default one when a Collector on the same host already has it.
const MOVE_ASIDE: u16 = 10;

/// The pages; they end with `stop`.
#[derive(Debug)]
pub struct SelfMetrics {
    end: CancellationToken,
}

impl SelfMetrics {
    /// Serves a page for each reader that pulls.
    pub fn start(settings: &Settings, telemetry: &Telemetry) -> Self {
        let end = CancellationToken::new();
        if settings.metrics_level == MetricsLevel::None {
            return Self { end };
        }
        for reader in &settings.readers {
            let MetricsReader::Pull(endpoint) = reader else { continue };
            let endpoint = if settings.readers_configured { endpoint.clone() } else { free_near(endpoint) };
            tracing::info!(%endpoint, "serving the agent's own metrics at /metrics");
            let telemetry = telemetry.clone();
            let page = Page::new(true, move |format| {
                render(&telemetry.collect(), RenderOptions::own_telemetry(format))
            });
            let end = end.clone();
            tokio::spawn(async move {
                serve(
                    "the agent's own metrics",
                    "service::telemetry::metrics::readers",
                    &endpoint,
                    page,
                    end,
                )
                .await;
            });
        }
        Self { end }
    }

    /// Closes the pages.
    pub fn stop(&self) {
        self.end.cancel();
    }
}

/// Nobody asked for this port, so one that is taken is no error: the next free one is used, and said.
fn free_near(default: &Endpoint) -> Endpoint {
    let free = |port: u16| TcpListener::bind((default.host.as_str(), port)).is_ok();
    let port = (default.port..=default.port.saturating_add(MOVE_ASIDE)).find(|port| free(*port));
    match port {
        Some(port) if port != default.port => {
            tracing::warn!(
                "port {} is in use, so the agent's own metrics move to port {port}; \
                 set service::telemetry::metrics::readers to choose another",
                default.port
            );
            Endpoint { host: default.host.clone(), port }
        }
        _ => default.clone(),
    }
}
