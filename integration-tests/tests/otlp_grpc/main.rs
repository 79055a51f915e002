//! The exporter `otlp_grpc` against receivers that answer as they are told, and against an OpenTelemetry Collector.

mod collector;
mod delivery;
mod ending;
mod exporter;
mod proxy;
mod receiver;
mod secure;
mod verdicts;

use blameio::components::COMPONENTS;
use blameio_config::{Sources, load};
use blameio_pipeline::{
    graph::{self, Graph},
    telemetry::Telemetry,
};

/// Everything that is wrong with an exporter's settings in a configuration with the agent's own receivers.
fn findings(exporter: &str) -> String {
    let text = format!(
        "yaml:{{extensions: {{database/orders: {{dsn: 'postgresql://127.0.0.1:1/postgres'}}}}, \
         receivers: {{file_io: , replication: }}, processors: {{db_resolver: , lag_attribution: {{state_directory: ''}}}}, \
         exporters: {{otlp_grpc: {exporter}}}, service: {{extensions: [database/orders], pipelines: {{metrics: \
         {{receivers: [file_io, replication], processors: [db_resolver, lag_attribution], exporters: [otlp_grpc]}}}}}}}}"
    );
    let loaded = match load(&Sources { configs: &[text], set: &[], env: &|_| None }) {
        Ok(loaded) => loaded,
        Err(found) => return found.to_string(),
    };
    let found = graph::validate(&loaded.configuration, &COMPONENTS);
    if found.has_errors() {
        return found.to_string();
    }
    let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).expect("telemetry");
    Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics())
        .expect("what is valid can be built");
    found.to_string()
}

#[test]
fn the_agents_receivers_to_otlp_grpc_are_a_valid_configuration() {
    assert_eq!(findings("{endpoint: 'collector:4317'}"), "");
    assert_eq!(findings("{endpoint: 'unix:///run/otel.sock', tls: {insecure: true}}"), "");
    let wrong = findings("{endpoint: 'collector', compresion: gzip}");
    assert!(
        wrong.contains("the port is missing") && wrong.contains("did you mean \"compression\""),
        "{wrong}"
    );
}
