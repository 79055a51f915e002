//! What a failed request means: whether it may be sent again, and when. The table is OTLP's.

use std::{error::Error, time::Duration};

use blameio_pipeline::ExportError;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use super::connect::ConnectFailed;

/// What a gRPC client and server say of a message that is larger than the server takes.
const TOO_LARGE: [&str; 3] =
    ["larger than max", "message length too large", "exceeded while decompressing message"];

/// What tonic says of a response that ended before its status.
const CUT_OFF: [&str; 2] = ["missing grpc-status trailer", "Unexpected EOF decoding stream"];

/// Why there is no connection, if that is why the request failed.
pub(super) fn unconnected(status: &Status) -> Option<&ConnectFailed> {
    cause(status)
}

fn cause<T: Error + 'static>(status: &Status) -> Option<&T> {
    let mut next: Option<&(dyn Error + 'static)> = Some(status);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The verdict on a request of `size` bytes.
pub(super) fn verdict(status: &Status, size: usize, timeout: Duration) -> ExportError {
    let (code, message) = (status.code(), status.message());
    if let Some(failed) = unconnected(status) {
        return ExportError::Retry { reason: failed.to_string(), after: None };
    }
    if cause::<TimeoutExpired>(status).is_some() {
        let reason = format!("no answer within the timeout of {timeout:?}");
        return ExportError::Retry { reason, after: None };
    }
    // It comes from this side of the wire: the connection broke before the server had answered.
    if status.source().is_some() || CUT_OFF.iter().any(|text| message.contains(text)) {
        let detail = status.source().map(chain).unwrap_or_default();
        let reason = format!("the connection broke before the answer: {message}{detail}");
        return ExportError::Retry { reason, after: None };
    }
    let reason = format!("rpc error: code = {} desc = {message}", name(code));
    if matches!(code, Code::ResourceExhausted | Code::OutOfRange)
        && TOO_LARGE.iter().any(|text| message.contains(text))
    {
        // Never smaller by itself, whatever the code says of others.
        let remedy =
            "raise the receiver's limit (max_recv_msg_size_mib in a Collector), or send less at once";
        return ExportError::Permanent {
            reason: format!(
                "a request of {size} bytes is larger than the receiver takes: {reason}; {remedy}"
            ),
        };
    }
    let told = status.get_details_retry_info();
    let again = match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // It recovers only if the server says when.
        Code::ResourceExhausted => told.is_some(),
        _ => false,
    };
    if again {
        ExportError::Retry { reason, after: told.and_then(|told| told.retry_delay) }
    } else {
        ExportError::Permanent { reason }
    }
}

/// The causes below an error, whose own text is often no more than `transport error`.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

/// As the Collector writes it.
fn name(code: Code) -> String {
    match code {
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn judged(status: &Status) -> (bool, Option<Duration>, String) {
        match verdict(status, 1000, Duration::from_secs(5)) {
            ExportError::Retry { reason, after } => (true, after, reason),
            ExportError::Permanent { reason } => (false, None, reason),
        }
    }

    #[test]
    fn every_code_has_the_verdict_that_otlp_gives_it() {
        let again = [1, 4, 10, 11, 14, 15];
        for code in 1..=16 {
            let status = Status::new(Code::from_i32(code), "no");
            let (retry, after, reason) = judged(&status);
            assert_eq!(retry, again.contains(&code), "{code}: {reason}");
            assert_eq!(after, None);
            assert!(reason.starts_with("rpc error: code = ") && reason.ends_with(" desc = no"), "{reason}");
        }
    }

    #[test]
    fn an_exhausted_server_is_asked_again_only_if_it_says_when() {
        let delay = Duration::from_secs(7);
        let told =
            |code| Status::with_error_details(code, "busy", ErrorDetails::with_retry_info(Some(delay)));
        assert!(judged(&told(Code::ResourceExhausted)).0);
        assert_eq!(judged(&told(Code::ResourceExhausted)).1, Some(delay));
        assert_eq!(judged(&told(Code::Unavailable)).1, Some(delay));
        assert!(!judged(&told(Code::InvalidArgument)).0);
        let empty =
            Status::with_error_details(Code::ResourceExhausted, "busy", ErrorDetails::with_retry_info(None));
        assert!(judged(&empty).0);
    }

    #[test]
    fn a_message_that_is_too_large_is_not_sent_again_and_the_remedy_is_named() {
        for status in [
            Status::resource_exhausted("grpc: received message larger than max (1000 vs. 500)"),
            Status::resource_exhausted("grpc: received message after decompression larger than max 500"),
            Status::out_of_range(
                "Error, decoded message length too large: found 1000 bytes, the limit is: 500 bytes",
            ),
        ] {
            let (retry, _, reason) = judged(&status);
            assert!(
                !retry && reason.contains("1000 bytes") && reason.contains("max_recv_msg_size_mib"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_connection_that_breaks_is_not_the_servers_verdict() {
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert_eq!(broken.code(), Code::Unknown);
        assert!(judged(&broken).0);
        let cut = "protocol error: missing grpc-status trailer, stream was terminated without a final status";
        assert!(judged(&Status::unknown(cut)).0);
    }
}
