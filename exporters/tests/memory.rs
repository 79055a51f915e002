//! What a queue holds while nobody is there to take it, in memory of this process. One test: it is alone in its process.

use std::fs;

use blameio_config::{Diagnostics, Path, parse};
use blameio_exporters::OTLP_GRPC;
use blameio_pipeline::{Batch, Context, ExportError, metrics::key_value, telemetry::Telemetry};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value,
    },
};

const MIB: usize = 1 << 20;
const LIMIT: usize = 64 * MIB;

/// A thousand points with the attributes of a table's.
fn batch(number: usize) -> Batch {
    let point = |of: usize| NumberDataPoint {
        attributes: vec![
            key_value("db.system.name", "postgresql"),
            key_value("db.namespace", "shop"),
            key_value("blameio.db.schema", "public"),
            key_value("db.collection.name", format!("orders_{of}")),
            key_value("blameio.db.index", format!("orders_{of}_customer_id_created_at_index")),
            key_value("blameio.db.file.kind", "relation"),
            key_value("blameio.io.operation", "read"),
            key_value("blameio.process.role", "startup"),
        ],
        start_time_unix_nano: 1_700_000_000_000_000_000,
        time_unix_nano: 1_700_000_000_000_000_000 + number as u64,
        value: Some(Value::AsDouble(number as f64)),
        ..NumberDataPoint::default()
    };
    let gauge = Gauge { data_points: (0..1000).map(point).collect() };
    let metrics = vec![Metric {
        name: "blameio.file.io".to_owned(),
        data: Some(Data::Gauge(gauge)),
        ..Metric::default()
    }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    Batch::metrics(ExportMetricsServiceRequest { resource_metrics })
}

/// Resident memory of this process.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

#[tokio::test]
async fn an_outage_cannot_grow_the_agent_beyond_a_queue_of_bytes() {
    let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).expect("telemetry");
    // Nobody listens there.
    let text = format!(
        "{{endpoint: '127.0.0.1:1', tls: {{insecure: true}}, \
         sending_queue: {{sizer: bytes, queue_size: {LIMIT}, num_consumers: 4}}}}"
    );
    let node = parse(&text).expect("YAML");
    let mut found = Diagnostics::new();
    (OTLP_GRPC.validate)(&node, &Path::root().key("otlp_grpc"), &mut found);
    assert_eq!(found.to_string(), "");
    let context = Context {
        id: "otlp_grpc".parse().expect("an id"),
        host: std::sync::Arc::default(),
        metrics: telemetry.metrics().clone(),
    };
    let exporter = (OTLP_GRPC.create)(&node, context).expect("an exporter");
    exporter.start().await.expect("starts");
    // What making and sending one takes is not the queue's.
    exporter.export(batch(0)).await.expect("queued");
    let (before, size) = (resident().expect("known"), batch(0).bytes().len());
    let mut queued = 1;
    let refused = loop {
        match exporter.export(batch(queued)).await {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        assert!(queued * size <= LIMIT, "{queued} batches of {size} bytes");
    };
    let grown = resident().expect("known").saturating_sub(before);
    println!("{queued} batches of {size} bytes, {} MiB: {} MiB more", queued * size / MIB, grown / MIB);
    assert!(matches!(&refused, ExportError::Retry { reason, .. } if reason == "sending queue is full"));
    assert!((queued + 1) * size > LIMIT, "{queued} batches of {size} bytes are not full");
    // A tenth for what the allocator cannot use.
    assert!(grown < LIMIT + LIMIT / 10, "{} MiB", grown / MIB);
}
