//! The exporter as the agent makes it, with the agent's own counters; and batches to send.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use blameio_config::{Diagnostics, Path, Signal, parse};
use blameio_exporters::OTLP_GRPC;
use blameio_pipeline::{Batch, Context, ExportError, Exporter, metrics::number_points, telemetry::Telemetry};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
        metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

/// Retries come soon, so that tests do not wait.
pub const SOON: &str = "retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}";

pub struct Sender {
    telemetry: Telemetry,
    exporter: Box<dyn Exporter>,
}

impl Sender {
    /// An exporter with these settings, started.
    pub async fn start(settings: &str) -> Self {
        let node = parse(&format!("{{{settings}}}")).expect("YAML");
        let mut found = Diagnostics::new();
        (OTLP_GRPC.validate)(&node, &Path::root().key("otlp_grpc"), &mut found);
        assert_eq!(found.to_string(), "", "{settings}");
        let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).expect("telemetry");
        let context = Context {
            id: "otlp_grpc".parse().expect("an id"),
            host: Arc::default(),
            metrics: telemetry.metrics().clone(),
        };
        let exporter = (OTLP_GRPC.create)(&node, context).expect("an exporter");
        exporter.start().await.expect("starts, whoever is there");
        Self { telemetry, exporter }
    }

    /// One without TLS, whose retries come soon.
    pub async fn to(port: u16, more: &str) -> Self {
        let settings = format!("endpoint: '127.0.0.1:{port}', tls: {{insecure: true}}, {more}");
        Self::start(&settings).await
    }

    pub async fn send(&self, batch: Batch) -> Result<(), ExportError> {
        self.exporter.export(batch).await
    }

    pub async fn shutdown(&self) {
        self.exporter.shutdown().await;
    }

    /// One of the agent's own metrics, summed over its points.
    pub fn counter(&self, name: &str) -> i64 {
        let request = self.telemetry.collect();
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == name);
        let values = metrics.flat_map(number_points).filter_map(|point| match point.value? {
            number_data_point::Value::AsInt(value) => Some(value),
            number_data_point::Value::AsDouble(_) => None,
        });
        values.sum()
    }
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn resource() -> Resource {
    Resource { attributes: vec![attribute("service.name", "orders")], ..Resource::default() }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: "s".to_owned(), data: Some(data), ..Metric::default() }
}

fn point(number: u64, at: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("db.table", "shop.public.orders")],
        start_time_unix_nano: 1,
        time_unix_nano: at,
        value: Some(number_data_point::Value::AsInt(number.cast_signed())),
        ..NumberDataPoint::default()
    }
}

/// Metrics that tell their number: a gauge, a sum of two points and an exponential histogram; four points in all.
pub fn request(number: u64) -> ExportMetricsServiceRequest {
    let cumulative = AggregationTemporality::Cumulative as i32;
    let histogram = ExponentialHistogramDataPoint {
        attributes: vec![attribute("blameio.io.operation", "read")],
        start_time_unix_nano: 1,
        time_unix_nano: number + 2,
        count: 10 + number,
        sum: Some(0.5 * number as f64),
        scale: 3,
        zero_count: 4,
        positive: Some(Buckets { offset: -80, bucket_counts: vec![1, 0, 5, number] }),
        // A Collector writes it, and the scope, even where there is nothing in it.
        negative: Some(Buckets::default()),
        zero_threshold: 1e-9,
        ..ExponentialHistogramDataPoint::default()
    };
    let metrics = vec![
        metric("test.gauge", Data::Gauge(Gauge { data_points: vec![point(number, number + 2)] })),
        metric(
            "test.sum",
            Data::Sum(Sum {
                data_points: vec![point(1, number + 2), point(2, number + 3)],
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
        ),
        metric(
            "test.histogram",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![histogram],
                aggregation_temporality: cumulative,
            }),
        ),
    ];
    let scope = Some(InstrumentationScope { name: "test".to_owned(), ..InstrumentationScope::default() });
    let scope_metrics = vec![ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource()),
            scope_metrics,
            ..ResourceMetrics::default()
        }],
    }
}

/// Points of [`request`].
pub const POINTS: i64 = 4;

pub fn batch(number: u64) -> Batch {
    Batch::metrics(request(number))
}

/// The number of a request that was taken.
pub fn number(body: &[u8]) -> u64 {
    let request = ExportMetricsServiceRequest::decode(body).expect("a request");
    match &request.resource_metrics[0].scope_metrics[0].metrics[0].data {
        Some(Data::Gauge(gauge)) => gauge.data_points[0].time_unix_nano - 2,
        data => panic!("not a batch of these tests: {data:?}"),
    }
}

pub fn spans() -> Batch {
    let spans =
        vec![Span { name: "lag".to_owned(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() }];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource()), scope_spans, ..ResourceSpans::default() }];
    Batch::traces(ExportTraceServiceRequest { resource_spans })
}

pub fn records() -> Batch {
    let log_records =
        vec![LogRecord { severity_text: "WARN".to_owned(), time_unix_nano: 7, ..LogRecord::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource()), scope_logs, ..ResourceLogs::default() }];
    Batch::logs(ExportLogsServiceRequest { resource_logs })
}

/// A batch of each signal.
pub fn all_signals() -> [(Signal, Batch); 3] {
    [(Signal::Metrics, batch(1)), (Signal::Traces, spans()), (Signal::Logs, records())]
}
