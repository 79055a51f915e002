//! What is given to the exporter arrives: as it was, whoever is down meanwhile, up to the end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use blameio_config::Signal;
use blameio_integration_tests::scene::free_port;
use blameio_pipeline::Batch;
use bytes::{BufMut, BytesMut};

use crate::{
    exporter::{POINTS, SOON, Sender, all_signals, batch, number, until},
    proxy::Proxy,
    receiver::{Answer, Options, Receiver, Server},
};

pub fn numbers(receiver: &Receiver) -> BTreeSet<u64> {
    receiver.taken().iter().map(|taken| number(&taken.body)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_arrives_as_it_was_with_every_compression() {
    let receiver = Receiver::default();
    let server = Server::start(&receiver, Options::default());
    for compression in ["gzip", "zstd", "none"] {
        let more = format!("compression: {compression}, headers: {{X-Scope-OrgID: orders}}, timeout: 20s");
        let sender = Sender::to(server.port, &more).await;
        for (signal, batch) in all_signals() {
            let before = receiver.taken().len();
            sender.send(batch.clone()).await.expect("queued");
            until("the batch does not arrive", || receiver.taken().len() > before).await;
            let taken = receiver.taken().pop().expect("taken");
            assert_eq!(
                (taken.signal, taken.body.as_slice()),
                (signal, batch.bytes().as_ref()),
                "{compression}"
            );
            let header =
                |name: &str| taken.metadata.get(name).map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(header("x-scope-orgid").as_deref(), Some("orders"));
            let expected = Some(compression).filter(|compression| *compression != "none");
            assert_eq!(header("grpc-encoding").as_deref(), expected);
            assert!(header("user-agent").expect("one").starts_with("blameio/"), "{:?}", header("user-agent"));
            assert!(header("grpc-timeout").is_some(), "the receiver is not told how long it has");
        }
        sender.shutdown().await;
        // A span and a log record are items too.
        assert_eq!(sender.counter("otelcol_exporter_sent_metric_points"), POINTS + 2);
        assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_nobody_changed_are_sent_on_as_they_came() {
    let receiver = Receiver::default();
    let server = Server::start(&receiver, Options::default());
    let proxy = Proxy::start(server.port).await;
    // A field that this version of OTLP does not know is lost by whoever encodes anew.
    let mut bytes = BytesMut::from(batch(7).bytes().as_ref());
    bytes.put_slice(&[0xfa, 0x06, 0x05, b'l', b'a', b't', b'e', b'r']);
    let bytes = bytes.freeze();
    let sender = Sender::to(proxy.port, "compression: none, sending_queue: {enabled: false}").await;
    sender.send(Batch::from_bytes(Signal::Metrics, bytes.clone())).await.expect("delivered");
    assert!(proxy.saw(&bytes), "not the same bytes on the wire");
    sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_down_at_the_start_gets_everything_when_it_comes() {
    let receiver = Receiver::default();
    let port = free_port();
    let sender = Sender::to(port, SOON).await;
    for number in 0..50 {
        sender.send(batch(number)).await.expect("queued");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(receiver.taken().is_empty());
    let _server = Server::start(&receiver, Options { port, ..Options::default() });
    until("not everything arrives", || numbers(&receiver).len() == 50).await;
    sender.shutdown().await;
    assert_eq!(receiver.taken().len(), 50, "nothing twice");
    assert_eq!(sender.counter("otelcol_exporter_sent_metric_points"), 50 * POINTS);
    assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_killed_again_and_again_loses_nothing() {
    // Slow enough that there are always requests under way.
    let receiver = Receiver::answering((0..1000).map(|_| Answer::Slow(Duration::from_millis(5))));
    let mut server = Server::start(&receiver, Options::default());
    let port = server.port;
    let sender = Sender::to(port, SOON).await;
    for number in 0..300 {
        sender.send(batch(number)).await.expect("queued");
        if number % 60 == 59 {
            let so_far = receiver.taken().len();
            // In the midst of sending.
            until("nothing more arrives", || receiver.taken().len() > so_far || so_far > 290).await;
            drop(server);
            server = Server::start(&receiver, Options { port, ..Options::default() });
        }
    }
    until("not everything arrives", || numbers(&receiver).len() == 300).await;
    sender.shutdown().await;
    assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), 0);
    assert_eq!(sender.counter("otelcol_exporter_sent_metric_points"), 300 * POINTS);
    println!("300 batches over 5 restarts: {} taken twice", receiver.taken().len() - 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_under_a_request_is_made_again() {
    let receiver = Receiver::answering([Answer::Slow(Duration::from_mins(1))]);
    let server = Server::start(&receiver, Options::default());
    let port = server.port;
    let sender = Sender::to(port, &format!("timeout: 30s, {SOON}")).await;
    sender.send(batch(1)).await.expect("queued");
    until("no request", || receiver.attempts().len() == 1).await;
    drop(server);
    let _server = Server::start(&receiver, Options { port, ..Options::default() });
    until("the request is not repeated", || receiver.taken().len() == 1).await;
    sender.shutdown().await;
    assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_answer_in_time_is_asked_again() {
    let receiver = Receiver::answering([Answer::Slow(Duration::from_mins(1))]);
    let server = Server::start(&receiver, Options::default());
    let more = format!("timeout: 300ms, sending_queue: {{enabled: false}}, {SOON}");
    let sender = Sender::to(server.port, &more).await;
    let started = Instant::now();
    sender.send(batch(1)).await.expect("delivered");
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!((receiver.attempts().len(), receiver.taken().len()), (2, 1));
    sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_in_the_queue_is_delivered_at_the_end() {
    let receiver = Receiver::answering((0..20).map(|_| Answer::Slow(Duration::from_millis(30))));
    let server = Server::start(&receiver, Options::default());
    let sender = Sender::to(server.port, "sending_queue: {num_consumers: 1}").await;
    for number in 0..20 {
        sender.send(batch(number)).await.expect("queued");
    }
    sender.shutdown().await;
    let order: Vec<u64> = receiver.taken().iter().map(|taken| number(&taken.body)).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
    assert!(sender.send(batch(21)).await.is_err(), "the end is the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_does_not_wait_for_a_receiver_that_is_gone() {
    let port = free_port();
    let sender = Sender::to(port, "").await;
    for number in 0..100 {
        sender.send(batch(number)).await.expect("queued");
    }
    let started = Instant::now();
    sender.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), 100 * POINTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_in_the_file_system_is_connected_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("otel.sock");
    let receiver = Receiver::default();
    let _server = Server::on_socket(&receiver, &path);
    let settings = format!("endpoint: 'unix://{}', tls: {{insecure: true}}, {SOON}", path.display());
    let sender = Sender::start(&settings).await;
    sender.send(batch(1)).await.expect("queued");
    until("the batch does not arrive", || receiver.taken().len() == 1).await;
    sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_for_a_connection_where_it_is_told_to() {
    let receiver = Receiver::default();
    let port = free_port();
    let waits = "wait_for_ready: true, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}";
    let impatient = Sender::to(port, &format!("timeout: 2s, {waits}")).await;
    let error = impatient.send(batch(1)).await.expect_err("nobody is there");
    assert!(error.to_string().contains("Connection refused"), "{error}");

    let sender = Sender::to(port, &format!("timeout: 20s, {waits}")).await;
    let (sent, _server) = tokio::join!(sender.send(batch(2)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Server::start(&receiver, Options { port, ..Options::default() })
    });
    sent.expect("delivered in the first attempt");
    assert_eq!(receiver.taken().len(), 1);
}
