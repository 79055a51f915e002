//! The promises of the wrapper, against an exporter that fails as it is told, on paused time.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use blameio_config::Signal;
use blameio_pipeline::metrics::{key_value, number, number_points};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;
use crate::testing::{Agent, gauges};

/// What the exporter answers to the next attempt; `Ok` once nothing is left.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<(), ExportError>>>,
    delivered: Mutex<Vec<f64>>,
    attempts: Mutex<Vec<Instant>>,
    /// How long an attempt takes.
    takes: Duration,
}

#[async_trait]
impl Exporter for Scripted {
    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        self.attempts.lock().unwrap().push(Instant::now());
        sleep(self.takes).await;
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()));
        if answer.is_ok() {
            let metrics = batch.as_metrics().unwrap();
            let metric = &metrics.resource_metrics[0].scope_metrics[0].metrics[0];
            self.delivered.lock().unwrap().push(number(&number_points(metric)[0]).unwrap());
        }
        answer
    }
}

impl Scripted {
    fn delivered(&self) -> Vec<f64> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn attempts(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }
}

fn retry(after: Option<Duration>) -> Result<(), ExportError> {
    Err(ExportError::Retry { reason: "down".to_owned(), after })
}

fn batch(value: f64) -> Batch {
    let resource = Resource { attributes: vec![key_value("service.name", "test")], ..Resource::default() };
    Batch::metrics(gauges(resource, &[(value, vec![])]))
}

fn batch_of(points: usize) -> Batch {
    Batch::metrics(gauges(Resource::default(), &vec![(1.0, vec![]); points]))
}

struct Fixture {
    agent: Agent,
    inner: Arc<Scripted>,
    sending: Sending,
}

fn fixture(inner: Scripted, change: impl FnOnce(&mut SendingSettings)) -> Fixture {
    let mut settings = SendingSettings::default();
    settings.sending_queue.num_consumers = 1;
    change(&mut settings);
    let (agent, inner) = (Agent::new(), Arc::new(inner));
    let id = "otlp/test".parse().unwrap();
    let sending = Sending::wrap(&id, Arc::<Scripted>::clone(&inner), settings, agent.exporter(&id));
    Fixture { agent, inner, sending }
}

fn failing(answers: impl IntoIterator<Item = Result<(), ExportError>>) -> Scripted {
    Scripted { answers: Mutex::new(answers.into_iter().collect()), ..Scripted::default() }
}

/// Waits for a condition in the exporter's time.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_hours(1), wait).await.expect("the condition never came true");
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_sent_again_until_it_is_delivered() {
    let f = fixture(failing([retry(None), retry(None)]), |_| {});
    f.sending.start().await.unwrap();
    f.sending.export(batch(1.0)).await.unwrap();
    until(|| !f.inner.delivered().is_empty()).await;
    assert_eq!(f.inner.attempts(), 3);
    f.sending.shutdown().await;
    assert_eq!(f.agent.counter("otelcol_exporter_sent_metric_points"), 1);
    assert_eq!(f.agent.counter("otelcol_exporter_send_failed_metric_points"), 0);
    assert_eq!(f.agent.counter("otelcol_exporter_queue_size"), 0);
    assert_eq!(f.agent.counter("otelcol_exporter_queue_capacity"), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_the_destination_asks_for_is_kept() {
    let f = fixture(failing([retry(Some(Duration::from_mins(1)))]), |_| {});
    f.sending.start().await.unwrap();
    f.sending.export(batch(1.0)).await.unwrap();
    until(|| !f.inner.delivered().is_empty()).await;
    let attempts = f.inner.attempts.lock().unwrap().clone();
    assert!(attempts[1] - attempts[0] >= Duration::from_mins(1));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_given_up_at_once() {
    let permanent = Err(ExportError::Permanent { reason: "bad data".to_owned() });
    let f = fixture(failing([permanent]), |settings| settings.sending_queue.wait_for_result = true);
    f.sending.start().await.unwrap();
    let error = f.sending.export(batch(1.0)).await.unwrap_err();
    assert_eq!(error.to_string(), "not retryable error: bad data");
    assert!(matches!(error, ExportError::Permanent { .. }));
    assert_eq!(f.inner.attempts(), 1);
    assert_eq!(f.agent.counter("otelcol_exporter_send_failed_metric_points"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_given_up_when_its_time_is_over() {
    let f = fixture(failing(std::iter::repeat_n(retry(None), 1000)), |settings| {
        settings.sending_queue.wait_for_result = true;
    });
    f.sending.start().await.unwrap();
    let started = Instant::now();
    let error = f.sending.export(batch(1.0)).await.unwrap_err();
    assert_eq!(error.to_string(), "no more retries left: down");
    assert!(started.elapsed() <= Duration::from_mins(5), "{:?}", started.elapsed());
    assert!(f.inner.attempts() > 5);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_answer_is_ended_and_repeated() {
    let slow = Scripted { takes: Duration::from_hours(1), ..Scripted::default() };
    let f = fixture(slow, |settings| {
        settings.sending_queue.enabled = false;
        settings.retry_on_failure.max_elapsed_time = Duration::from_secs(40);
    });
    let error = f.sending.export(batch(1.0)).await.unwrap_err();
    assert!(error.to_string().contains("no answer within the timeout of 5s"), "{error}");
    assert!(f.inner.attempts() > 1);
}

#[tokio::test(start_paused = true)]
async fn without_retries_one_failure_is_the_end() {
    let f = fixture(failing([retry(None)]), |settings| {
        settings.retry_on_failure.enabled = false;
        settings.sending_queue.enabled = false;
    });
    let error = f.sending.export(batch(1.0)).await.unwrap_err();
    assert_eq!(error.to_string(), "retry_on_failure is not enabled: down");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_counts() {
    let slow = Scripted { takes: Duration::from_secs(1), ..Scripted::default() };
    let f = fixture(slow, |settings| settings.sending_queue.queue_size = 2);
    f.sending.start().await.unwrap();
    f.sending.export(batch(1.0)).await.unwrap();
    f.sending.export(batch(2.0)).await.unwrap();
    let error = f.sending.export(batch(3.0)).await.unwrap_err();
    assert_eq!(error.to_string(), "sending queue is full");
    assert_eq!(f.agent.counter("otelcol_exporter_enqueue_failed_metric_points"), 1);
    assert_eq!(f.agent.counter("otelcol_exporter_queue_size"), 2);
    advance(Duration::from_secs(1)).await;
    until(|| f.inner.delivered().len() == 1).await;
    f.sending.export(batch(4.0)).await.unwrap();
}

/// Three points, and three more are refused by a queue of `size` that has room for them only once.
async fn holds_once(sizer: Sizer, size: usize, taken: i64) {
    let slow = Scripted { takes: Duration::from_secs(1), ..Scripted::default() };
    let f = fixture(slow, |settings| {
        settings.sending_queue.sizer = sizer;
        settings.sending_queue.queue_size = size;
    });
    f.sending.start().await.unwrap();
    f.sending.export(batch_of(3)).await.unwrap();
    assert_eq!(f.agent.counter("otelcol_exporter_queue_size"), taken, "{sizer}");
    let error = f.sending.export(batch_of(3)).await.unwrap_err();
    assert_eq!(error.to_string(), "sending queue is full", "{sizer}");
    until(|| f.inner.delivered().len() == 1).await;
    f.sending.export(batch_of(3)).await.unwrap();
    let error = f.sending.export(batch_of(1000)).await.unwrap_err();
    if sizer == Sizer::Requests {
        assert_eq!(error.to_string(), "sending queue is full");
    } else {
        // Nobody needs to offer it again.
        assert!(matches!(&error, ExportError::Permanent { .. }), "{error}");
        assert!(error.to_string().starts_with("element size too large"), "{error}");
    }
    f.sending.shutdown().await;
    assert_eq!(f.agent.counter("otelcol_exporter_sent_metric_points"), 6);
    assert_eq!(f.agent.counter("otelcol_exporter_enqueue_failed_metric_points"), 1003);
    assert_eq!(f.agent.counter("otelcol_exporter_queue_size"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_as_large_as_its_sizer_counts() {
    let bytes = batch_of(3).bytes().len();
    holds_once(Sizer::Requests, 1, 1).await;
    holds_once(Sizer::Items, 5, 3).await;
    holds_once(Sizer::Bytes, 2 * bytes - 1, i64::try_from(bytes).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_wait_where_told_and_keeps_the_order() {
    let slow = Scripted { takes: Duration::from_secs(1), ..Scripted::default() };
    let f = fixture(slow, |settings| {
        settings.sending_queue.queue_size = 1;
        settings.sending_queue.block_on_overflow = true;
    });
    f.sending.start().await.unwrap();
    let started = Instant::now();
    for value in 0..5 {
        f.sending.export(batch(f64::from(value))).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_secs(4));
    f.sending.shutdown().await;
    assert_eq!(f.inner.delivered(), [0.0, 1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test(start_paused = true)]
async fn consumers_send_at_the_same_time() {
    let slow = Scripted { takes: Duration::from_secs(1), ..Scripted::default() };
    let f = fixture(slow, |settings| settings.sending_queue.num_consumers = 3);
    f.sending.start().await.unwrap();
    let started = Instant::now();
    for value in [1.0, 2.0, 3.0] {
        f.sending.export(batch(value)).await.unwrap();
    }
    until(|| f.inner.delivered().len() == 3).await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn shutdown_delivers_what_is_left_without_waiting_for_intervals() {
    let f = fixture(failing([retry(None), Ok(()), retry(None)]), |_| {});
    f.sending.start().await.unwrap();
    for value in [1.0, 2.0, 3.0] {
        f.sending.export(batch(value)).await.unwrap();
    }
    until(|| f.inner.attempts() == 1).await;
    let started = Instant::now();
    f.sending.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(1));
    // The second batch failed in its one attempt; the others were delivered, in order.
    assert_eq!(f.inner.delivered(), [1.0, 3.0]);
    assert_eq!(f.agent.counter("otelcol_exporter_send_failed_metric_points"), 1);
    assert!(f.sending.export(batch(4.0)).await.unwrap_err().to_string().contains("shutting down"));
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_ends_a_shutdown_that_cannot_deliver() {
    let stuck = Scripted { takes: Duration::from_hours(1), ..Scripted::default() };
    let f = fixture(stuck, |settings| settings.timeout = Duration::ZERO);
    f.sending.start().await.unwrap();
    f.sending.export(batch(1.0)).await.unwrap();
    until(|| f.inner.attempts() == 1).await;
    assert!(timeout(Duration::from_secs(5), f.sending.shutdown()).await.is_err());
    // The consumer is gone: nothing but this test holds the exporter.
    until(|| Arc::strong_count(&f.inner) == 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_batch_is_carried_like_any_other() {
    let f = fixture(failing([Err(ExportError::Permanent { reason: "bad".to_owned() })]), |settings| {
        settings.sending_queue.wait_for_result = true;
    });
    f.sending.start().await.unwrap();
    let garbage = Batch::from_bytes(Signal::Metrics, vec![0xff, 0xff].into());
    assert!(f.sending.export(garbage).await.is_err());
}
