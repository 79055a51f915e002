//! The agent's own metrics: on its scrape page under the Collector's names, and pushed over OTLP where asked for.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use blameio::lab::Recorder;
use blameio_integration_tests::scene::{free_port, start_agent};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A database that nobody serves: the agent has metrics of its own all the same.
fn configuration(readers: &str) -> String {
    format!(
        "extensions: {{database/nobody: {{dsn: 'postgresql://127.0.0.1:1/postgres'}}}}\n\
         receivers: {{replication: }}\n\
         exporters: {{debug: }}\n\
         service:\n\
         \x20 extensions: [database/nobody]\n\
         \x20 telemetry: {{metrics: {{readers: {readers}}}}}\n\
         \x20 pipelines: {{metrics: {{receivers: [replication], exporters: [debug]}}}}\n"
    )
}

struct Sink(mpsc::Sender<ExportMetricsServiceRequest>);

#[async_trait::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn names(request: &ExportMetricsServiceRequest) -> Vec<&str> {
    request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .map(|metric| metric.name.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_metrics_are_pushed_over_otlp_when_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, mut received) = mpsc::channel(16);
    let server = tokio::spawn(
        Server::builder()
            .add_service(MetricsServiceServer::new(Sink(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let readers = format!(
        "[{{periodic: {{interval: 200, exporter: {{otlp: {{protocol: grpc, endpoint: 'http://127.0.0.1:{port}'}}}}}}}}]"
    );
    let agent = start_agent(&[configuration(&readers)], &Arc::new(Recorder::default())).await;
    let pushed = timeout(Duration::from_secs(20), received.recv()).await.expect("in time").expect("a push");
    assert!(names(&pushed).contains(&"otelcol_process_uptime"), "{:?}", names(&pushed));
    assert!(names(&pushed).contains(&"otelcol_process_memory_rss"), "{:?}", names(&pushed));
    agent.shutdown().await;
    server.abort();
}

fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_metrics_are_scrapeable_under_the_collectors_names() {
    let port = free_port();
    let readers = format!("[{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {port}}}}}}}}}]");
    let agent = start_agent(&[configuration(&readers)], &Arc::new(Recorder::default())).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let page = loop {
        if let Some(page) = scrape(port).filter(|page| page.contains("otelcol_process_uptime")) {
            break page;
        }
        assert!(Instant::now() < deadline, "the page does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for name in ["otelcol_process_uptime", "otelcol_process_cpu_seconds", "otelcol_process_memory_rss"] {
        assert!(
            page.lines()
                .any(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"))),
            "{name} in\n{page}"
        );
    }
    agent.shutdown().await;
}
