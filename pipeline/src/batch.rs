//! `Batch`: one signal's OTLP request. It keeps the encoded bytes beside the decoded form and decodes only
//! when a component reads it, so that an unmodified batch is sent on without being encoded again.

use std::sync::{Arc, OnceLock};

use blameio_config::Signal;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use prost::Message;
use thiserror::Error;

use crate::metrics::point_count;

/// A batch cannot be read as what it is used for.
#[derive(Debug, Error)]
pub enum BatchError {
    /// The bytes are not an OTLP request.
    #[error("not an OTLP {signal} request: {source}; check what the sender exports")]
    Decode {
        /// Signal that was expected.
        signal: Signal,
        /// What the decoder found.
        source: prost::DecodeError,
    },
    /// A batch of another signal.
    #[error("expected a batch of {expected}, got one of {found}")]
    Signal {
        /// Signal that was asked for.
        expected: Signal,
        /// Signal of the batch.
        found: Signal,
    },
}

#[derive(Debug)]
enum Decoded {
    Metrics(ExportMetricsServiceRequest),
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
}

#[derive(Debug)]
struct Inner {
    signal: Signal,
    encoded: OnceLock<Bytes>,
    decoded: OnceLock<Decoded>,
    /// Counted once, so that asking again does not decode again.
    items: OnceLock<usize>,
}

/// One OTLP request, cheap to clone: clones share the content.
#[derive(Clone, Debug)]
pub struct Batch(Arc<Inner>);

impl Batch {
    /// A batch that arrived encoded. Nothing is decoded.
    pub fn from_bytes(signal: Signal, bytes: Bytes) -> Self {
        Self(Arc::new(Inner {
            signal,
            encoded: OnceLock::from(bytes),
            decoded: OnceLock::new(),
            items: OnceLock::new(),
        }))
    }

    /// A batch of metrics.
    pub fn metrics(request: ExportMetricsServiceRequest) -> Self {
        Self::decoded(Signal::Metrics, Decoded::Metrics(request))
    }

    /// A batch of traces.
    pub fn traces(request: ExportTraceServiceRequest) -> Self {
        Self::decoded(Signal::Traces, Decoded::Traces(request))
    }

    /// A batch of log records.
    pub fn logs(request: ExportLogsServiceRequest) -> Self {
        Self::decoded(Signal::Logs, Decoded::Logs(request))
    }

    fn decoded(signal: Signal, decoded: Decoded) -> Self {
        Self(Arc::new(Inner {
            signal,
            encoded: OnceLock::new(),
            decoded: OnceLock::from(decoded),
            items: OnceLock::new(),
        }))
    }

    /// Which signal this is.
    pub fn signal(&self) -> Signal {
        self.0.signal
    }

    /// The encoded request; encoded at most once.
    pub fn bytes(&self) -> Bytes {
        self.0
            .encoded
            .get_or_init(|| match self.0.decoded.get() {
                Some(Decoded::Metrics(request)) => request.encode_to_vec().into(),
                Some(Decoded::Traces(request)) => request.encode_to_vec().into(),
                Some(Decoded::Logs(request)) => request.encode_to_vec().into(),
                None => Bytes::new(),
            })
            .clone()
    }

    /// The same batch without its decoded form, which takes several times the memory of the bytes. Shares the bytes.
    #[must_use]
    pub fn encoded(&self) -> Self {
        Self(Arc::new(Inner {
            signal: self.0.signal,
            encoded: OnceLock::from(self.bytes()),
            decoded: OnceLock::new(),
            items: OnceLock::from(self.items()),
        }))
    }

    fn read(&self) -> Result<&Decoded, BatchError> {
        if let Some(decoded) = self.0.decoded.get() {
            return Ok(decoded);
        }
        let signal = self.0.signal;
        let decoded = decode(signal, self.bytes()).map_err(|source| BatchError::Decode { signal, source })?;
        Ok(self.0.decoded.get_or_init(|| decoded))
    }

    fn mismatch(&self, expected: Signal) -> BatchError {
        BatchError::Signal { expected, found: self.0.signal }
    }

    /// The decoded metrics.
    pub fn as_metrics(&self) -> Result<&ExportMetricsServiceRequest, BatchError> {
        match self.read()? {
            Decoded::Metrics(request) => Ok(request),
            _ => Err(self.mismatch(Signal::Metrics)),
        }
    }

    /// The decoded traces.
    pub fn as_traces(&self) -> Result<&ExportTraceServiceRequest, BatchError> {
        match self.read()? {
            Decoded::Traces(request) => Ok(request),
            _ => Err(self.mismatch(Signal::Traces)),
        }
    }

    /// The decoded log records.
    pub fn as_logs(&self) -> Result<&ExportLogsServiceRequest, BatchError> {
        match self.read()? {
            Decoded::Logs(request) => Ok(request),
            _ => Err(self.mismatch(Signal::Logs)),
        }
    }

    /// The metrics by value: moved when nobody else holds the batch, copied otherwise.
    pub fn into_metrics(self) -> Result<ExportMetricsServiceRequest, BatchError> {
        self.as_metrics()?;
        match Arc::try_unwrap(self.0) {
            Ok(inner) => match inner.decoded.into_inner() {
                Some(Decoded::Metrics(request)) => Ok(request),
                _ => Err(BatchError::Signal { expected: Signal::Metrics, found: inner.signal }),
            },
            Err(shared) => Self(shared).as_metrics().cloned(),
        }
    }

    /// Data points, spans or log records in the batch; 0 when it cannot be decoded.
    pub fn items(&self) -> usize {
        *self.0.items.get_or_init(|| self.count())
    }

    fn count(&self) -> usize {
        match self.read() {
            Ok(Decoded::Metrics(request)) => point_count(request),
            Ok(Decoded::Traces(request)) => request
                .resource_spans
                .iter()
                .flat_map(|resource| &resource.scope_spans)
                .map(|scope| scope.spans.len())
                .sum(),
            Ok(Decoded::Logs(request)) => request
                .resource_logs
                .iter()
                .flat_map(|resource| &resource.scope_logs)
                .map(|scope| scope.log_records.len())
                .sum(),
            Err(_) => 0,
        }
    }
}

fn decode(signal: Signal, bytes: Bytes) -> Result<Decoded, prost::DecodeError> {
    Ok(match signal {
        Signal::Metrics => Decoded::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
        Signal::Traces => Decoded::Traces(ExportTraceServiceRequest::decode(bytes)?),
        Signal::Logs => Decoded::Logs(ExportLogsServiceRequest::decode(bytes)?),
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
    };

    use super::*;

    fn one_point() -> ResourceMetrics {
        let gauge = Gauge { data_points: vec![NumberDataPoint::default()] };
        let metrics = vec![Metric { data: Some(Data::Gauge(gauge)), ..Metric::default() }];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }
    }

    #[test]
    fn bytes_that_arrived_are_sent_on_as_they_were() {
        // An unknown field survives only when nothing is encoded again.
        let bytes = Bytes::from_static(&[0xfa, 0x06, 0x01, 0x61]);
        let batch = Batch::from_bytes(Signal::Metrics, bytes.clone());
        assert_eq!(batch.items(), 0);
        assert_eq!(batch.bytes(), bytes);
    }

    #[test]
    fn garbage_is_an_error_that_says_what_was_expected() {
        let batch = Batch::from_bytes(Signal::Logs, Bytes::from_static(b"\xff\xff"));
        assert!(batch.as_logs().unwrap_err().to_string().contains("not an OTLP logs request"));
    }

    #[test]
    fn a_shared_batch_is_copied_and_the_other_holder_keeps_it() {
        let batch = Batch::metrics(ExportMetricsServiceRequest::default());
        let other = batch.clone();
        assert!(batch.into_metrics().is_ok());
        assert!(other.as_metrics().is_ok());
    }

    #[test]
    fn an_encoded_batch_is_the_same_and_nothing_is_decoded_to_count_it() {
        let resource_metrics = vec![one_point(), one_point()];
        let batch = Batch::metrics(ExportMetricsServiceRequest { resource_metrics });
        let encoded = batch.encoded();
        assert_eq!((encoded.items(), encoded.signal(), encoded.bytes()), (2, Signal::Metrics, batch.bytes()));
        assert!(encoded.0.decoded.get().is_none());
        assert_eq!(encoded.encoded().bytes().as_ptr(), batch.bytes().as_ptr(), "the bytes are held twice");
        assert_eq!(encoded.as_metrics().unwrap(), batch.as_metrics().unwrap());
    }

    #[test]
    fn a_batch_of_another_signal_is_refused() {
        let batch = Batch::traces(ExportTraceServiceRequest::default());
        assert!(batch.into_metrics().unwrap_err().to_string().contains("expected a batch of metrics"));
    }
}
