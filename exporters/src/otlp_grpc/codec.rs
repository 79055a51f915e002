//! gRPC over bytes that are encoded already: a batch goes out as it came in.

use bytes::{BufMut, Bytes};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Sends encoded requests and reads responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedRequest;

impl Codec for EncodedRequest {
    type Encode = Bytes;
    /// The responses of the three signals are the same on the wire: a count of what was rejected, and a text.
    type Decode = ExportMetricsServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for EncodedRequest {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, request: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(request.len());
        to.put(request);
        Ok(())
    }
}

impl Decoder for EncodedRequest {
    type Item = ExportMetricsServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        // Permanent: the request may have been taken, and sending it again would double it.
        let response = ExportMetricsServiceResponse::decode(from);
        response.map(Some).map_err(|error| Status::internal(format!("the response cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
        trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    };

    use super::*;

    #[test]
    fn the_responses_of_all_signals_are_read_alike() {
        let error_message = "no".to_owned();
        let logs = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 7,
                error_message: error_message.clone(),
            }),
        };
        let traces = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess { rejected_spans: 7, error_message }),
        };
        for encoded in [logs.encode_to_vec(), traces.encode_to_vec()] {
            let read = ExportMetricsServiceResponse::decode(encoded.as_slice()).unwrap();
            let partial = read.partial_success.unwrap();
            assert_eq!((partial.rejected_data_points, partial.error_message.as_str()), (7, "no"));
        }
    }
}
