//! The exporter as Prometheus meets it: over a socket of the loopback.

use blameio_config::parse;
use blameio_pipeline::metrics::key_value;
use opentelemetry_proto::tonic::{
    metrics::v1::{AggregationTemporality, Gauge, Sum, metric::Data},
    resource::v1::Resource,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::*;
use crate::testing::{Agent, gauges, metric, point, request};

async fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Asks until there is an answer that fits.
async fn answer(port: u16, request: &str, fits: impl Fn(&str) -> bool) -> String {
    let wait = async {
        loop {
            match ask(port, request).await {
                Ok(answer) if fits(&answer) => break answer,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("no such answer")
}

fn exporter(agent: &Agent, port: u16) -> Box<dyn Exporter> {
    let node = parse(&format!("endpoint: localhost:{port}")).unwrap();
    (FACTORY.create)(&node, agent.context("prometheus")).unwrap()
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn batch() -> Batch {
    Batch::metrics(gauges(Resource::default(), &[(1.5, vec![key_value("db.table", "orders")])]))
}

#[tokio::test]
async fn series_are_served_at_metrics_and_other_paths_say_where() {
    let (agent, port) = (Agent::new(), free_port().await);
    let exporter = exporter(&agent, port);
    exporter.start().await.unwrap();
    exporter.export(batch()).await.unwrap();
    let page = answer(port, "GET /metrics HTTP/1.1", |answer| answer.starts_with("HTTP/1.1 200")).await;
    assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
    assert!(page.ends_with("test_gauge_seconds{db_table=\"orders\"} 1.5\n"), "{page}");
    let open = ask(port, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text").await.unwrap();
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(open.ends_with("# EOF\n"));
    let head = ask(port, "HEAD /metrics HTTP/1.1").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let other = ask(port, "GET / HTTP/1.1").await.unwrap();
    assert!(other.starts_with("HTTP/1.1 404") && other.contains("/metrics"), "{other}");
    assert!(ask(port, "POST /metrics HTTP/1.1").await.unwrap().starts_with("HTTP/1.1 405"));
    exporter.shutdown().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert_eq!(agent.counter("otelcol_exporter_sent_metric_points"), 1);
}

#[tokio::test]
async fn a_port_in_use_is_served_once_it_is_free() {
    let agent = Agent::new();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let exporter = exporter(&agent, port);
    exporter.start().await.unwrap();
    exporter.export(batch()).await.unwrap();
    let nobody = timeout(Duration::from_millis(100), ask(port, "GET /metrics HTTP/1.1")).await;
    assert!(nobody.is_err(), "the port is somebody else's");
    drop(other);
    answer(port, "GET /metrics HTTP/1.1", |answer| answer.contains("test_gauge_seconds")).await;
    exporter.shutdown().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_port() {
    let agent = Agent::new();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exporter = exporter(&agent, other.local_addr().unwrap().port());
    exporter.start().await.unwrap();
    timeout(Duration::from_millis(500), exporter.shutdown()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_scraped_is_counted() {
    let agent = Agent::new();
    let exporter = exporter(&agent, 0);
    let gauge = Data::Gauge(Gauge { data_points: vec![point(1.0, 1, vec![])] });
    let sum = |temporality: AggregationTemporality| {
        let data_points = vec![point(1.0, 1, vec![]), point(2.0, 1, vec![key_value("a", "b")])];
        Data::Sum(Sum { data_points, aggregation_temporality: temporality as i32, is_monotonic: true })
    };
    let metrics = vec![
        metric("a_total", "", "", gauge),
        metric("a", "", "", sum(AggregationTemporality::Cumulative)),
        metric("b", "", "", sum(AggregationTemporality::Delta)),
        metric("target.info", "", "", sum(AggregationTemporality::Cumulative)),
    ];
    exporter.export(Batch::metrics(request(Resource::default(), metrics))).await.unwrap();
    assert_eq!(agent.counter("otelcol_exporter_sent_metric_points"), 3);
    assert_eq!(agent.counter("otelcol_exporter_send_failed_metric_points"), 4);
}

#[tokio::test]
async fn a_page_is_written_without_the_lock() {
    let agent = Agent::new();
    let metrics = agent.exporter(&"prometheus".parse().unwrap());
    let exporter = Prometheus::new("prometheus".to_owned(), PrometheusSettings::default(), metrics);
    let age = exporter.settings.metric_expiration;
    exporter.export(batch()).await.unwrap();
    let families = snapshot(&exporter.held, age, Instant::now());
    assert!(exporter.held.try_lock().is_ok());
    let newer = gauges(Resource::default(), &[(2.5, vec![key_value("db.table", "orders")])]);
    exporter.export(Batch::metrics(newer)).await.unwrap();
    let page = |families: &[Frozen]| text::page(families, TextFormat::Prometheus, false);
    assert!(page(&families).ends_with(" 1.5\n"));
    assert!(page(&snapshot(&exporter.held, age, Instant::now())).ends_with(" 2.5\n"));
    // Expired: nothing of it is left, not even its header.
    assert_eq!(page(&snapshot(&exporter.held, age, Instant::now() + age)), "");
    assert_eq!(exporter.held.lock().unwrap().store.len(), 0);
}

#[test]
fn settings_are_checked() {
    let check = |text: &str| {
        let mut out = Diagnostics::new();
        (FACTORY.validate)(&parse(text).unwrap(), &Path::root(), &mut out);
        out.to_string()
    };
    assert_eq!(check("{}"), "");
    assert!(check("metric_expiration: 0").contains("`metric_expiration` must be positive"));
    assert!(check("endpiont: x:1").contains("endpoint"));
}
