//! The agent's own metrics, under the Collector's names so that its dashboards work unchanged.
//!
//! They are read on demand (for the scrape page, which the command serves) and pushed by OTLP where
//! `service::telemetry::metrics::readers` says so. Labels are component ids only: bounded by the configuration.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use blameio_config::{ComponentId, MetricsReader, Secret, Telemetry as Settings};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter, MeterProvider as _},
};
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, ManualReader, PeriodicReader, Pipeline, SdkMeterProvider, Temporality,
        data::ResourceMetrics, reader::MetricReader,
    },
};
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap};

mod process;

/// The agent's own telemetry cannot be set up.
#[derive(Debug, Error)]
#[error(
    "service::telemetry::metrics::readers: cannot push to {endpoint}: {source}; check endpoint and protocol"
)]
pub struct TelemetryError {
    endpoint: String,
    source: opentelemetry_otlp::ExporterBuildError,
}

/// Lets the scrape page and the meter provider share one reader.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: std::sync::Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// The meter provider and the reader of the scrape page; clones share them. The pushing readers end with `shutdown`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    provider: SdkMeterProvider,
    reader: SharedReader,
    metrics: AgentMetrics,
}

impl Telemetry {
    /// Sets up the provider and its readers. Pushing readers need a running tokio runtime.
    pub fn new(settings: &Settings) -> Result<Self, TelemetryError> {
        let reader = SharedReader(Arc::new(ManualReader::builder().build()));
        let resource = Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", "blameio"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attributes(
                settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
            )
            .build();
        let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone());
        for push in &settings.readers {
            if let MetricsReader::Push { endpoint, interval, headers, .. } = push {
                let failed = |source| TelemetryError { endpoint: endpoint.clone(), source };
                let exporter = MetricExporter::builder()
                    .with_tonic()
                    .with_endpoint(endpoint)
                    .with_metadata(metadata(headers))
                    .build()
                    .map_err(failed)?;
                builder =
                    builder.with_reader(PeriodicReader::builder(exporter).with_interval(*interval).build());
            }
        }
        let provider = builder.build();
        let metrics = AgentMetrics::new(&provider.meter("blameio"));
        Ok(Self { provider, reader, metrics })
    }

    /// The instruments.
    pub fn metrics(&self) -> &AgentMetrics {
        &self.metrics
    }

    /// Everything that is known now.
    pub fn collect(&self) -> ExportMetricsServiceRequest {
        let mut metrics = ResourceMetrics::default();
        if let Err(error) = self.reader.collect(&mut metrics) {
            tracing::debug!(%error, "own metrics cannot be read");
        }
        ExportMetricsServiceRequest::from(&metrics)
    }

    /// Pushes what is left and ends.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "own metrics were not flushed");
        }
    }
}

fn metadata(headers: &BTreeMap<String, Secret>) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (key, value) in headers {
        match (MetadataKey::<Ascii>::from_bytes(key.as_bytes()), value.expose().parse()) {
            (Ok(key), Ok(value)) => drop(metadata.insert(key, value)),
            _ => tracing::warn!(header = %key, "not a header that gRPC can carry; left out"),
        }
    }
    metadata
}

struct Instruments {
    meter: Meter,
    receiver_accepted: Counter<u64>,
    receiver_refused: Counter<u64>,
    processor_incoming: Counter<u64>,
    processor_outgoing: Counter<u64>,
    exporter_sent: Counter<u64>,
    exporter_failed: Counter<u64>,
    exporter_enqueue_failed: Counter<u64>,
    exporter_queue_size: Gauge<u64>,
    exporter_queue_capacity: Gauge<u64>,
}

/// All instruments of the agent; cheap to clone.
#[derive(Clone)]
pub struct AgentMetrics(Arc<Instruments>);

impl fmt::Debug for AgentMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentMetrics")
    }
}

impl AgentMetrics {
    fn new(meter: &Meter) -> Self {
        process::observe(meter);
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build()
        };
        let gauge = |name: &'static str, description: &'static str| {
            meter.u64_gauge(name).with_description(description).build()
        };
        Self(Arc::new(Instruments {
            receiver_accepted: counter(
                "otelcol_receiver_accepted_metric_points",
                "Metric points that the pipelines accepted from a receiver",
            ),
            receiver_refused: counter(
                "otelcol_receiver_refused_metric_points",
                "Metric points that a pipeline refused",
            ),
            processor_incoming: counter("otelcol_processor_incoming_items", "Items that entered a processor"),
            processor_outgoing: counter("otelcol_processor_outgoing_items", "Items that left a processor"),
            exporter_sent: counter("otelcol_exporter_sent_metric_points", "Metric points delivered"),
            exporter_failed: counter(
                "otelcol_exporter_send_failed_metric_points",
                "Metric points given up after all retries",
            ),
            exporter_enqueue_failed: counter(
                "otelcol_exporter_enqueue_failed_metric_points",
                "Metric points refused by a full queue",
            ),
            exporter_queue_size: gauge(
                "otelcol_exporter_queue_size",
                "What is in the sending queue, in what its sizer counts",
            ),
            exporter_queue_capacity: gauge(
                "otelcol_exporter_queue_capacity",
                "What the sending queue can hold, in what its sizer counts",
            ),
            meter: meter.clone(),
        }))
    }

    /// Instruments that are of one component only, such as what a probe lost.
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// The instruments of one component, labelled `role` (receiver, processor, exporter) with its id.
    pub fn component(&self, role: &'static str, id: &ComponentId) -> ComponentMetrics {
        ComponentMetrics {
            instruments: self.clone(),
            labels: Arc::from([KeyValue::new(role, id.to_string())]),
        }
    }
}

/// The instruments of one component.
#[derive(Clone)]
pub struct ComponentMetrics {
    instruments: AgentMetrics,
    labels: Arc<[KeyValue]>,
}

impl fmt::Debug for ComponentMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.labels.iter()).finish()
    }
}

impl ComponentMetrics {
    /// A receiver handed on `items`, and they were accepted or refused.
    pub fn received(&self, items: usize, accepted: bool) {
        let instruments = &self.instruments.0;
        let counter = if accepted { &instruments.receiver_accepted } else { &instruments.receiver_refused };
        counter.add(items as u64, &self.labels);
    }

    /// A processor took in and gave out.
    pub fn processed(&self, incoming: usize, outgoing: usize) {
        self.instruments.0.processor_incoming.add(incoming as u64, &self.labels);
        self.instruments.0.processor_outgoing.add(outgoing as u64, &self.labels);
    }

    /// An exporter delivered.
    pub fn sent(&self, items: usize) {
        self.instruments.0.exporter_sent.add(items as u64, &self.labels);
    }

    /// An exporter gave up.
    pub fn send_failed(&self, items: usize) {
        self.instruments.0.exporter_failed.add(items as u64, &self.labels);
    }

    /// A full queue refused.
    pub fn enqueue_failed(&self, items: usize) {
        self.instruments.0.exporter_enqueue_failed.add(items as u64, &self.labels);
    }

    /// Fill of the sending queue, in what its sizer counts.
    pub fn queue(&self, size: usize, capacity: usize) {
        self.instruments.0.exporter_queue_size.record(size as u64, &self.labels);
        self.instruments.0.exporter_queue_capacity.record(capacity as u64, &self.labels);
    }
}
