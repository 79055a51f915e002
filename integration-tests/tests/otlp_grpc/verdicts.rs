//! What a receiver answers is understood: sent again, given up, waited for, or counted as thrown away.

use std::time::Duration;

use blameio_pipeline::ExportError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    exporter::{POINTS, Sender, batch},
    receiver::{Answer, Options, Receiver, Server},
};

/// Without a queue, so that the outcome of a batch is seen.
const AT_ONCE: &str =
    "sending_queue: {enabled: false}, retry_on_failure: {initial_interval: 10ms, max_interval: 20ms}";

struct Outcome {
    result: Result<(), ExportError>,
    receiver: Receiver,
    sender: Sender,
}

/// One batch to a receiver that answers so once, and then takes everything.
async fn outcome(answer: Answer, options: Options) -> Outcome {
    let receiver = Receiver::answering([answer]);
    let server = Server::start(&receiver, options);
    let sender = Sender::to(server.port, AT_ONCE).await;
    let result = sender.send(batch(1)).await;
    sender.shutdown().await;
    Outcome { result, receiver, sender }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_is_sent_again_or_given_up_as_otlp_says() {
    let again = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    for code in (1..=16).map(Code::from_i32) {
        let Outcome { result, receiver, sender } =
            outcome(Answer::Status(Status::new(code, "told to")), Options::default()).await;
        let failed = sender.counter("otelcol_exporter_send_failed_metric_points");
        if again.contains(&code) {
            result.unwrap_or_else(|error| panic!("{code:?}: {error}"));
            assert_eq!((receiver.attempts().len(), receiver.taken().len(), failed), (2, 1, 0), "{code:?}");
        } else {
            let error = result.expect_err("permanent");
            assert!(matches!(error, ExportError::Permanent { .. }), "{code:?}: {error}");
            assert!(error.to_string().starts_with("not retryable error: rpc error: code = "), "{error}");
            assert!(error.to_string().ends_with("desc = told to"), "{error}");
            assert_eq!(
                (receiver.attempts().len(), receiver.taken().len(), failed),
                (1, 0, POINTS),
                "{code:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_delay_that_a_receiver_asks_for_is_kept() {
    let delay = Duration::from_millis(800);
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let details = ErrorDetails::with_retry_info(Some(delay));
        let status = Status::with_error_details(code, "busy", details);
        let Outcome { result, receiver, .. } = outcome(Answer::Status(status), Options::default()).await;
        result.expect("delivered");
        let attempts = receiver.attempts();
        assert_eq!(attempts.len(), 2, "{code:?}");
        assert!(attempts[1] - attempts[0] >= delay, "{code:?}: {:?}", attempts[1] - attempts[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_throws_away_is_counted_and_not_sent_again() {
    let Outcome { result, receiver, sender } =
        outcome(Answer::Partial(3, "too many series"), Options::default()).await;
    result.expect("taken");
    assert_eq!(receiver.attempts().len(), 1);
    assert_eq!(sender.counter("blameio_exporter_rejected_items"), 3);
    // As in a Collector: the request was delivered.
    assert_eq!(sender.counter("otelcol_exporter_sent_metric_points"), POINTS);
    let Outcome { sender, .. } = outcome(Answer::Partial(0, "a warning only"), Options::default()).await;
    assert_eq!(sender.counter("blameio_exporter_rejected_items"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_for_a_receiver_is_given_up_with_the_remedy() {
    let limited = Options { limit: 100, ..Options::default() };
    let Outcome { result, sender, .. } = outcome(Answer::Slow(Duration::ZERO), limited).await;
    let error = result.expect_err("too large");
    assert!(matches!(error, ExportError::Permanent { .. }), "{error}");
    let size = batch(1).bytes().len();
    for part in [&format!("a request of {size} bytes"), "max_recv_msg_size_mib", "100 bytes"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), POINTS);
}
