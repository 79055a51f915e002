//! An OpenTelemetry Collector takes what the agent sends, and has it exactly.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use blameio::{
    cli::ConfigArgs,
    command::{
        agent::{Agent, More},
        config, logging,
    },
    lab::{Lab, LabOptions, Storage, Updates},
};
use blameio_integration_tests::scene::{DEADLINE, can_run, configuration, free_port};
use blameio_pipeline::{Batch, ExportError, Exporter};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::metric::Data,
};
use prost::Message;

use crate::exporter::{POINTS, SOON, Sender, batch, request};

/// Where scripts/collector puts it, or the one that is installed.
fn program() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let built = cache.map(|cache| cache.join("blameio/otelcol/otelcol"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("otelcol"));
    built.into_iter().chain(installed).find(|program| program.is_file())
}

fn found(test: &str) -> Option<PathBuf> {
    let program = program();
    if program.is_none() {
        eprintln!("SKIPPED {test}: no otelcol in the cache or on PATH; scripts/collector builds one");
    }
    program
}

/// A Collector that writes what it takes to a file. Killed when dropped.
struct Collector {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Collector {
    fn start(program: &Path, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}'{more}}}}}}}}}\n\
             exporters: {{file: {{path: '{}', format: proto}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n\
             \x20 pipelines: {{metrics: {{receivers: [otlp], exporters: [file]}}}}\n",
            dir.path().join("metrics").display()
        );
        let file = dir.path().join("config.yaml");
        fs::write(&file, text).expect("a file");
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a Collector");
        let mut collector = Self { child, port, dir };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = collector.child.try_wait().expect("its state");
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", collector.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        collector
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it in order, and reads what it wrote: each request after its length.
    fn end(mut self) -> Vec<ExportMetricsServiceRequest> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).expect("told to end");
        assert!(self.child.wait().expect("ends").success(), "{}", self.log());
        let written = fs::read(self.dir.path().join("metrics")).expect("what it wrote");
        let (mut rest, mut requests) = (written.as_slice(), Vec::new());
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (message, next) = after.split_at(u32::from_be_bytes(*length) as usize);
            requests.push(ExportMetricsServiceRequest::decode(message).expect("a request"));
            rest = next;
        }
        assert!(rest.is_empty(), "half a length at the end");
        requests
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Points by kind of metric.
fn counts(request: &ExportMetricsServiceRequest) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let (kind, points) = match &metric.data {
            Some(Data::Gauge(gauge)) => ("gauge", gauge.data_points.len()),
            Some(Data::Sum(sum)) => ("sum", sum.data_points.len()),
            Some(Data::ExponentialHistogram(histogram)) => {
                ("exponential histogram", histogram.data_points.len())
            }
            Some(Data::Histogram(histogram)) => ("histogram", histogram.data_points.len()),
            Some(Data::Summary(summary)) => ("summary", summary.data_points.len()),
            None => ("none", 0),
        };
        *counts.entry(kind).or_default() += points as u64;
    }
    counts
}

fn sum<'a>(
    requests: impl IntoIterator<Item = &'a ExportMetricsServiceRequest>,
) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    for (kind, points) in requests.into_iter().flat_map(counts) {
        *all.entry(kind).or_default() += points;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_has_every_point_as_it_was_sent() {
    let Some(program) = found("a_collector_has_every_point_as_it_was_sent") else { return };
    for compression in ["gzip", "zstd", "none"] {
        let collector = Collector::start(&program, "");
        // One at a time keeps the order.
        let more = format!("compression: {compression}, sending_queue: {{num_consumers: 1}}, {SOON}");
        let sender = Sender::to(collector.port, &more).await;
        for number in 0..100 {
            sender.send(batch(number)).await.expect("queued");
        }
        sender.shutdown().await;
        assert_eq!(sender.counter("otelcol_exporter_sent_metric_points"), 100 * POINTS);
        let written = collector.end();
        let sent: Vec<_> = (0..100).map(request).collect();
        assert_eq!(sum(&written), sum(&sent), "{compression}");
        for (written, sent) in written.iter().zip(&sent) {
            assert_eq!(written, sent, "{compression}");
        }
        println!("{compression}: {:?} points as they were sent", sum(&written));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_for_a_collector_is_given_up_with_the_remedy() {
    let Some(program) = found("a_batch_that_is_too_large_for_a_collector_is_given_up_with_the_remedy") else {
        return;
    };
    let collector = Collector::start(&program, ", max_recv_msg_size_mib: 1");
    let sender = Sender::to(collector.port, "sending_queue: {enabled: false}").await;
    let mut large = request(1);
    let one = large.resource_metrics[0].clone();
    large.resource_metrics.resize(10_000, one);
    let error = sender.send(Batch::metrics(large)).await.expect_err("too large");
    assert!(matches!(error, ExportError::Permanent { .. }), "{error}");
    assert!(error.to_string().contains("max_recv_msg_size_mib"), "{error}");
    sender.send(batch(1)).await.expect("the connection goes on");
    assert_eq!(collector.end(), [request(1)]);
}

/// Counts what the agent hands to its exporters.
#[derive(Default)]
struct Counting {
    given: std::sync::Mutex<Vec<ExportMetricsServiceRequest>>,
    histograms: AtomicU64,
}

#[async_trait]
impl Exporter for Counting {
    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request = batch.as_metrics().expect("metrics").clone();
        if counts(&request).contains_key("exponential histogram") {
            self.histograms.fetch_add(1, Ordering::Relaxed);
        }
        self.given.lock().unwrap().push(request);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_a_replica_delivers_every_point_to_a_collector() {
    let test = "an_agent_on_a_replica_delivers_every_point_to_a_collector";
    let Some(program) = found(test) else { return };
    if !can_run(test, false) {
        return;
    }
    let collector = Collector::start(&program, "");
    let lab = Lab::build(LabOptions { storage: Storage::Plain, ..LabOptions::default() })
        .await
        .expect("a laboratory");
    let usual = configuration(&lab.replica().dsn(), Some(&lab.primary().dsn()));
    let more = format!(
        "{{exporters: {{otlp_grpc: {{endpoint: '127.0.0.1:{}', tls: {{insecure: true}}, {SOON}}}}}, \
         service: {{pipelines: {{metrics: {{exporters: [otlp_grpc]}}}}}}}}",
        collector.port
    );
    logging::start(blameio_config::LogLevel::Warn);
    let configs = [usual, more].iter().map(|text| format!("yaml:{text}")).collect();
    let loaded = config::loaded(&ConfigArgs { configs, set: Vec::new() }).expect("a good configuration");
    let counting = Arc::new(Counting::default());
    let exporter: Arc<dyn Exporter> = Arc::clone(&counting) as Arc<dyn Exporter>;
    let more = More { exporter: Some(("counting".parse().expect("an id"), exporter)), ..More::default() };
    let agent = Agent::start(&loaded.configuration, more).await.expect("the agent starts");
    let workload = lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    let deadline = Instant::now() + DEADLINE;
    while counting.histograms.load(Ordering::Relaxed) < 10 {
        assert!(Instant::now() < deadline, "the agent has no histograms of file operations");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    workload.stop().await.expect("the workload ran");
    agent.shutdown().await;
    drop(lab);
    let written = collector.end();
    let given = counting.given.lock().unwrap().clone();
    let (given, written) = (sum(&given), sum(&written));
    println!("given {given:?}\nwritten {written:?}");
    assert_eq!(given, written);
    assert!(given["exponential histogram"] > 0 && given["gauge"] > 0 && given["sum"] > 0, "{given:?}");
}
