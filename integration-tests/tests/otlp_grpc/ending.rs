//! The end of an agent with a destination that is there and one that is not.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use blameio_config::{Signal, Sources, load};
use blameio_exporters::OTLP_GRPC;
use blameio_pipeline::{
    ComponentError, Components, Control, Factory, Output, Receiver as Source, Stability, graph::Graph,
    telemetry::Telemetry,
};
use tonic::Status;

use crate::{
    delivery::numbers,
    exporter::{batch, until},
    receiver::{Answer, Options, Receiver, Server},
};

const BATCHES: u64 = 50;

/// The default of `sending_queue::num_consumers`.
const CONSUMERS: usize = 10;

/// The agent's, see `SHUTDOWN` there.
const DEADLINE: Duration = Duration::from_secs(10);

/// Hands on numbered batches, and then waits for the end.
struct Feed;

#[async_trait]
impl Source for Feed {
    async fn run(self: Box<Self>, output: Output, control: Control) -> Result<(), ComponentError> {
        for number in 0..BATCHES {
            drop(output.send(batch(number)).await);
        }
        control.drain.cancelled().await;
        Ok(())
    }
}

const COMPONENTS: Components = Components {
    receivers: &[Factory {
        kind: "feed",
        summary: "",
        module: "test",
        signals: &[Signal::Metrics],
        stability: Stability::Development,
        fields: &[],
        validate: |_, _, _| {},
        create: |_, _| Ok(Box::new(Feed)),
    }],
    processors: &[],
    exporters: &[OTLP_GRPC],
    extensions: &[],
};

/// Two pipelines: one to a destination that takes connections and never answers, with `gone` in its settings; one to a
/// destination that answers, but has put off every consumer for an hour. Returns what the latter has after the end, and
/// how long that took.
async fn shut_down(gone: &str) -> (BTreeSet<u64>, Duration) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("bound").port();
    let receiver = Receiver::answering((0..CONSUMERS).map(|_| Answer::Status(Status::unavailable("later"))));
    let server = Server::start(&receiver, Options::default());
    let hour = "retry_on_failure: {initial_interval: 1h, max_interval: 1h, max_elapsed_time: 0}";
    let text = format!(
        "yaml:{{receivers: {{feed/a: , feed/b: }}, exporters: {{\
         otlp_grpc/a: {{endpoint: '127.0.0.1:{silent_port}', tls: {{insecure: true}}, {gone}}}, \
         otlp_grpc/b: {{endpoint: '127.0.0.1:{}', tls: {{insecure: true}}, {hour}}}}}, \
         service: {{pipelines: {{metrics/a: {{receivers: [feed/a], exporters: [otlp_grpc/a]}}, \
         metrics/b: {{receivers: [feed/b], exporters: [otlp_grpc/b]}}}}}}}}",
        server.port
    );
    let loaded = load(&Sources { configs: &[text], set: &[], env: &|_| None }).expect("a good configuration");
    let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).expect("telemetry");
    let graph = Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics()).expect("built");
    let running = graph.start().await.expect("starts");
    until("not every consumer is put off", || receiver.attempts().len() == CONSUMERS).await;
    assert!(receiver.taken().is_empty());
    let started = Instant::now();
    running.shutdown(DEADLINE).await;
    (numbers(&receiver), started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_gone_takes_no_time_from_one_that_is_there() {
    let (taken, took) = shut_down("timeout: 5s").await;
    assert_eq!(taken.len() as u64, BATCHES, "not everything arrived");
    assert!(took < DEADLINE + Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_is_blocked_leaves_time_to_deliver_what_others_accepted() {
    let (taken, took) = shut_down("timeout: 0, sending_queue: {enabled: false}").await;
    assert_eq!(taken.len() as u64, BATCHES, "not everything arrived");
    assert!(took < DEADLINE, "{took:?}");
}
