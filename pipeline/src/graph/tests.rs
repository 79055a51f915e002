use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use blameio_config::{Loaded, Node, Sources, load};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::*;
use crate::{Batch, ExportError, Processor, Refusal, Stability, telemetry::Telemetry};

/// What happened, in order. One per test, found through the extension that holds it.
#[derive(Debug, Default)]
struct Journal(Mutex<Vec<String>>);

impl Journal {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Journal>);

#[async_trait]
impl Extension for Shared {
    async fn start(&self) -> Result<(), ComponentError> {
        self.0.write("extension started");
        Ok(())
    }

    async fn shutdown(&self) {
        self.0.write("extension shut down");
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn journal(context: &Context) -> Arc<Journal> {
    let (_, extension) = context.host.extensions().next().unwrap();
    Arc::clone(&extension.as_any().downcast_ref::<Shared>().unwrap().0)
}

/// Sends three batches, says whether each was accepted, and waits to be drained.
struct Source(Arc<Journal>);

#[async_trait]
impl Receiver for Source {
    async fn run(self: Box<Self>, output: Output, control: Control) -> Result<(), ComponentError> {
        for n in 0..3 {
            let accepted = output.send(Batch::metrics(ExportMetricsServiceRequest::default())).await.is_ok();
            self.0.write(format!("batch {n} accepted: {accepted}"));
        }
        control.drain.cancelled().await;
        let last = output.send(Batch::metrics(ExportMetricsServiceRequest::default())).await.is_ok();
        self.0.write(format!("last batch accepted: {last}"));
        Ok(())
    }
}

struct Pass;

impl Processor for Pass {
    fn process(&mut self, batch: Batch) -> Result<Vec<Batch>, Refusal> {
        Ok(vec![batch])
    }
}

struct Sink {
    name: String,
    journal: Arc<Journal>,
}

#[async_trait]
impl Exporter for Sink {
    async fn start(&self) -> Result<(), ComponentError> {
        self.journal.write(format!("{} started", self.name));
        Ok(())
    }

    async fn export(&self, _: Batch) -> Result<(), ExportError> {
        if self.name == "sink/broken" {
            return Err(ExportError::Permanent { reason: "broken".into() });
        }
        self.journal.write(format!("{} got a batch", self.name));
        if self.name == "sink/blocked" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn drain(&self) {
        self.journal.write(format!("{} draining", self.name));
    }

    async fn shutdown(&self) {
        match self.name.as_str() {
            "sink/a_stuck" => std::future::pending().await,
            "sink/slow" => tokio::time::sleep(Duration::from_secs(4)).await,
            _ => {}
        }
        self.journal.write(format!("{} shut down", self.name));
    }
}

fn nothing_wrong(_: &Node, _: &Path, _: &mut Diagnostics) {}

macro_rules! factory {
    ($kind:literal, $signals:expr, $create:expr) => {
        Factory {
            kind: $kind,
            summary: "",
            module: "test",
            signals: $signals,
            stability: Stability::Development,
            fields: &[],
            validate: nothing_wrong,
            create: $create,
        }
    };
}

const COMPONENTS: Components = Components {
    receivers: &[factory!("source", &[Signal::Metrics], |_, context| Ok(Box::new(Source(journal(
        &context
    )))))],
    processors: &[factory!("pass", &[Signal::Metrics], |_, _| Ok(Box::new(Pass)))],
    exporters: &[factory!("sink", &[Signal::Metrics], |_, context| Ok(Box::new(Sink {
        name: context.id.to_string(),
        journal: journal(&context)
    })))],
    extensions: &[factory!("journal", &[], |_, _| Ok(Box::new(Shared::default())))],
};

fn configuration(yaml: &str) -> Loaded {
    let configs = [format!("yaml:{yaml}")];
    load(&Sources { configs: &configs, set: &[], env: &|_| None }).unwrap()
}

const GOOD: &str = "
extensions: {journal: }
receivers: {source: }
processors: {pass: }
exporters: {sink/a: , sink/broken: }
service:
  extensions: [journal]
  pipelines:
    metrics/good: {receivers: [source], processors: [pass], exporters: [sink/a]}
";

async fn run(yaml: &str) -> Vec<String> {
    run_until(yaml, "batch 2").await
}

/// Runs until a line that begins so, and shuts down in 10 s.
async fn run_until(yaml: &str, line: &str) -> Vec<String> {
    let configuration = configuration(yaml).configuration;
    let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).unwrap();
    let graph = Graph::build(&configuration, &COMPONENTS, telemetry.metrics()).unwrap();
    let context = Context {
        id: "test".parse().unwrap(),
        host: Arc::clone(&graph.host),
        metrics: telemetry.metrics().clone(),
    };
    let journal = journal(&context);
    let running = graph.start().await.unwrap();
    let seen = async {
        while !journal.lines().iter().any(|seen| seen.starts_with(line)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    assert_eq!(running.late(), Vec::new());
    running.shutdown(Duration::from_secs(10)).await;
    journal.lines()
}

#[tokio::test]
async fn receivers_start_last_and_end_first_and_nothing_accepted_is_lost() {
    let lines = run(GOOD).await;
    assert_eq!(lines[..2], ["extension started", "sink/a started"]);
    assert_eq!(
        lines[lines.len() - 3..],
        ["last batch accepted: true", "sink/a shut down", "extension shut down"]
    );
    assert_eq!(lines.iter().filter(|line| *line == "sink/a got a batch").count(), 4);
}

#[tokio::test]
async fn a_batch_is_acknowledged_only_when_every_exporter_has_accepted_it() {
    let lines = run(&GOOD.replace("exporters: [sink/a]", "exporters: [sink/broken, sink/a]")).await;
    assert!(lines.contains(&"batch 0 accepted: false".to_owned()), "{lines:?}");
    // The one that works has its batches all the same.
    assert_eq!(lines.iter().filter(|line| *line == "sink/a got a batch").count(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_does_not_end_takes_no_time_from_the_others() {
    let yaml = GOOD.replace("sink/a: ", "sink/a_stuck: , sink/slow: ");
    let started = Instant::now();
    let lines = run(&yaml.replace("[sink/a]", "[sink/a_stuck, sink/slow]")).await;
    assert!(lines.contains(&"sink/slow shut down".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"sink/a_stuck shut down".to_owned()), "{lines:?}");
    assert!(started.elapsed() < Duration::from_secs(11), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_blocked_pipeline_leaves_the_exporters_half_of_the_time() {
    let yaml = GOOD.replace("sink/a: ", "sink/blocked: , sink/slow: ");
    let yaml = yaml.replace("[sink/a]", "[sink/slow, sink/blocked]");
    let lines = run_until(&yaml, "sink/blocked got").await;
    assert!(lines.contains(&"sink/slow shut down".to_owned()), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "extension shut down");
}

#[tokio::test]
async fn exporters_know_of_the_end_before_the_receivers_hand_on_their_last() {
    let lines = run(GOOD).await;
    let at = |wanted: &str| lines.iter().position(|line| line == wanted).unwrap();
    assert!(at("sink/a draining") < at("last batch accepted: true"), "{lines:?}");
}

#[test]
fn an_unknown_type_is_told_with_its_place_and_the_valid_ones() {
    let loaded = configuration(&GOOD.replace("sink/broken: ", "nosuch: "));
    let found = validate(&loaded.configuration, &COMPONENTS).to_string();
    assert!(found.contains("unknown type: \"nosuch\" for id: \"nosuch\" (valid values: [sink])"), "{found}");
    assert!(found.contains(":5:"), "{found}");
}

#[test]
fn a_signal_that_a_component_does_not_support_is_told() {
    let loaded = configuration(&GOOD.replace("metrics/good", "traces"));
    let found = validate(&loaded.configuration, &COMPONENTS).to_string();
    assert!(found.contains("receiver \"source\" does not support traces"), "{found}");
}
