//! Exporter `otlp_grpc`: sends batches to an OpenTelemetry Collector, or to anything that takes OTLP over gRPC.
//!
//! Keys, defaults and verdicts are those of the Collector's exporter of this name. Queue, retries and timeout are
//! [`sending`](crate::sending)'s; here one attempt is made, over a connection that comes back by itself.

mod codec;
mod connect;
mod headers;
mod settings;
mod target;
mod tls;
mod unverified;
mod verdict;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use blameio_config::{Decode, Diagnostics, Node, Path, Signal};
use blameio_pipeline::{Batch, ComponentError, Context, ExportError, Exporter, Factory, Stability};
use bytes::Bytes;
use http::uri::PathAndQuery;
use opentelemetry::{KeyValue, metrics::Counter};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;
use tokio::time::{Instant, sleep};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Channel, Endpoint as ChannelSettings},
};

pub use self::settings::{Compression, KeepaliveSettings, OtlpGrpcSettings};
use self::{codec::EncodedRequest, connect::Connector};
use crate::sending::Sending;

/// The most that OTLP lets a client send in one request, before compression.
const LARGEST: usize = 64 << 20;

/// Time between two looks for a connection while a request waits for one.
const BETWEEN_CONNECTIONS: Duration = Duration::from_secs(1);

/// What makes the exporter.
pub const FACTORY: Factory<dyn Exporter> = Factory {
    kind: "otlp_grpc",
    summary: "Sends to an OpenTelemetry Collector, or to anything that takes OTLP over gRPC",
    module: env!("CARGO_PKG_NAME"),
    signals: &[Signal::Metrics, Signal::Traces, Signal::Logs],
    stability: Stability::Alpha,
    fields: OtlpGrpcSettings::FIELDS,
    validate,
    create,
};

fn validate(node: &Node, path: &Path, out: &mut Diagnostics) {
    if let Some(settings) = OtlpGrpcSettings::decode(node, path, out) {
        settings.validate(node, path, out);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of every factory")]
fn create(node: &Node, context: Context) -> Result<Box<dyn Exporter>, ComponentError> {
    let settings = context.settings::<OtlpGrpcSettings>(node)?;
    let wrong = |reason| ComponentError::new(&context.id, reason, "mend the configuration");
    let (channel, connector) = settings.connection().map_err(wrong)?;
    let sending = settings.sending();
    let rejected = context
        .metrics
        .meter()
        .u64_counter("blameio_exporter_rejected_items")
        .with_description("Items that the destination threw away of requests that it took")
        .build();
    let exporter = OtlpGrpc {
        id: context.id.to_string(),
        metadata: settings.headers.metadata(),
        settings,
        channel,
        connector: Arc::new(connector),
        client: Mutex::default(),
        rejected,
    };
    let metrics = context.metrics.component("exporter", &context.id);
    Ok(Box::new(Sending::wrap(&context.id, Arc::new(exporter), sending, metrics)))
}

struct OtlpGrpc {
    id: String,
    settings: OtlpGrpcSettings,
    metadata: MetadataMap,
    channel: ChannelSettings,
    connector: Arc<Connector>,
    /// From start to shutdown. The connection is closed with the last clone.
    client: Mutex<Option<Grpc<Channel>>>,
    rejected: Counter<u64>,
}

impl OtlpGrpc {
    fn client(&self) -> std::sync::MutexGuard<'_, Option<Grpc<Channel>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request over one connection.
    async fn request(
        &self,
        client: &mut Grpc<Channel>,
        signal: Signal,
        bytes: Bytes,
    ) -> Result<Option<ExportMetricsPartialSuccess>, Status> {
        let mut request = Request::new(bytes);
        *request.metadata_mut() = self.metadata.clone();
        if !self.settings.timeout.is_zero() {
            request.set_timeout(self.settings.timeout);
        }
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let response = client.unary(request, path(signal), EncodedRequest).await?;
        Ok(response.into_inner().partial_success)
    }

    /// The destination took a request, and not all that was in it.
    fn partial(&self, signal: Signal, partial: &ExportMetricsPartialSuccess) {
        let rejected = u64::try_from(partial.rejected_data_points).unwrap_or_default();
        if rejected == 0 && partial.error_message.is_empty() {
            return;
        }
        let labels =
            [KeyValue::new("exporter", self.id.clone()), KeyValue::new("otel.signal", signal.to_string())];
        self.rejected.add(rejected, &labels);
        tracing::warn!(
            exporter = %self.id, %signal, rejected_items = rejected,
            message = %crate::plain(&partial.error_message), "Partial success response"
        );
    }
}

fn path(signal: Signal) -> PathAndQuery {
    PathAndQuery::from_static(match signal {
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    })
}

#[async_trait]
impl Exporter for OtlpGrpc {
    /// Connects with the first batch, and again after every break.
    async fn start(&self) -> Result<(), ComponentError> {
        let connector = Arc::clone(&self.connector);
        let service = tower::service_fn(move |_| Arc::clone(&connector).connect());
        let mut client = Grpc::new(self.channel.connect_with_connector_lazy(service))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        client = match self.settings.compression {
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
            Compression::None => client,
        };
        *self.client() = Some(client);
        Ok(())
    }

    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let (signal, bytes) = (batch.signal(), batch.bytes());
        drop(batch);
        if bytes.is_empty() {
            return Ok(());
        }
        let size = bytes.len();
        if size > LARGEST {
            let reason = format!(
                "a request of {size} bytes is larger than OTLP allows ({LARGEST}); send less at once"
            );
            return Err(ExportError::Permanent { reason });
        }
        let Some(mut client) = self.client().clone() else {
            return Err(ExportError::Retry { reason: "not started".to_owned(), after: None });
        };
        let timeout = self.settings.timeout;
        let started = Instant::now();
        loop {
            let status = match self.request(&mut client, signal, bytes.clone()).await {
                Ok(partial) => {
                    if let Some(partial) = partial {
                        self.partial(signal, &partial);
                    }
                    return Ok(());
                }
                Err(status) => status,
            };
            // The last look is left out, so that the reason is why there is no connection and not the timeout.
            let time_left = timeout.is_zero() || started.elapsed() + BETWEEN_CONNECTIONS < timeout;
            if self.settings.wait_for_ready && time_left && verdict::unconnected(&status).is_some() {
                sleep(BETWEEN_CONNECTIONS).await;
                continue;
            }
            return Err(verdict::verdict(&status, size, timeout));
        }
    }

    async fn shutdown(&self) {
        drop(self.client().take());
    }
}

#[cfg(test)]
mod tests;
