//! The settings: what is valid, what is refused, and what they make.

use blameio_config::parse;

use super::*;
use crate::testing::Agent;

fn found(text: &str) -> String {
    let mut out = Diagnostics::new();
    validate(&parse(text).unwrap(), &Path::root().key("exporters").key("otlp_grpc"), &mut out);
    out.to_string()
}

fn settings(text: &str) -> OtlpGrpcSettings {
    OtlpGrpcSettings::decode(&parse(text).unwrap(), &Path::root(), &mut Diagnostics::new()).unwrap()
}

#[test]
fn the_defaults_are_the_collectors() {
    let settings = settings("endpoint: collector:4317");
    assert_eq!(settings.compression, Compression::Gzip);
    assert_eq!(settings.timeout, Duration::from_secs(5));
    assert!(settings.secure() && settings.keepalive.is_none() && !settings.wait_for_ready);
    assert!(settings.retry_on_failure.enabled && settings.sending_queue.enabled);
    assert_eq!(found("endpoint: collector:4317"), "");
}

#[test]
fn tls_is_spoken_where_the_collector_speaks_it() {
    for (text, secure) in [
        ("endpoint: collector:4317", true),
        ("endpoint: http://collector:4317", true),
        ("{endpoint: 'collector:4317', tls: {insecure: true}}", false),
        ("{endpoint: 'http://collector:4317', tls: {insecure: true}}", false),
        ("{endpoint: 'https://collector:4317', tls: {insecure: true}}", true),
        ("{endpoint: 'collector:4317', tls: {insecure: true, ca_file: /ca.pem}}", true),
        ("{endpoint: 'unix:///run/otel.sock', tls: {insecure: true}}", false),
    ] {
        assert_eq!(settings(text).secure(), secure, "{text}");
    }
    assert!(found("endpoint: http://collector:4317").contains("http:// does not switch TLS off"));
    assert_eq!(found("{endpoint: 'http://collector:4317', tls: {insecure: true}}"), "");
}

#[test]
fn every_key_of_the_collector_is_read() {
    let text = "{endpoint: 'collector:4317', compression: zstd, headers: {authorization: Bearer x}, \
                keepalive: {time: 30s, timeout: 5s, permit_without_stream: true}, wait_for_ready: true, \
                authority: other.example.org, user_agent: me, timeout: 1s, \
                tls: {insecure_skip_verify: true, server_name_override: a, ca_file: /a, include_system_ca_certs_pool: true, \
                cert_file: /c, key_file: /k, min_version: '1.2', max_version: '1.3'}, \
                retry_on_failure: {enabled: false}, sending_queue: {num_consumers: 1}}";
    assert_eq!(found(text), "");
    let ignored = found(
        "{endpoint: 'a:1', balancer_name: round_robin, read_buffer_size: 1, write_buffer_size: 1, tls: {reload_interval: 1h}}",
    );
    assert_eq!(ignored.matches("has no effect in blameio").count(), 4, "{ignored}");
    assert_eq!(ignored.matches("warning:").count(), 4, "{ignored}");
}

#[test]
fn what_is_wrong_is_said_in_the_collectors_words() {
    for (text, expected) in [
        ("{}", "requires a non-empty \"endpoint\""),
        ("{endpoint: ''}", "requires a non-empty \"endpoint\""),
        ("{endpoint: 'a:1', compression: snappy}", "'compression' has an unknown value"),
        ("{endpoint: 'a:1', compresion: gzip}", "has invalid keys: compresion"),
        ("{endpoint: 'a:1', tls: {ca_file: /a, ca_pem: b}}", "either a CA file or the PEM-encoded string"),
        ("{endpoint: 'a:1', tls: {cert_file: /a}}", "must include both certificate and key"),
        ("{endpoint: 'a:1', tls: {min_version: '1.3', max_version: '1.2'}}", "min_version cannot be greater"),
        ("{endpoint: 'a:1', tls: {min_version: '1.0', max_version: '1.1'}}", "lower ones are not spoken"),
        ("{endpoint: 'a:1', sending_queue: {queue_size: 0}}", "`queue_size` must be positive"),
        ("{endpoint: 'a:1', headers: {'a b': c}}", "not a header that gRPC can carry"),
        ("{endpoint: 'a:1', authority: 'a b'}", "cannot be the name of a server"),
        ("{endpoint: 'a:1', tls: {server_name_override: '-'}}", "no name that a certificate can be for"),
        ("{endpoint: 'a:1', user_agent: \"a\\nb\"}", "'user_agent' must be visible ASCII"),
    ] {
        assert!(found(text).contains(expected), "{text}: {}", found(text));
    }
}

#[tokio::test]
async fn what_is_too_large_for_any_receiver_is_not_tried() {
    let agent = Agent::new();
    let node =
        parse("{endpoint: 'unix:///nonexistent', sending_queue: {enabled: false}, tls: {insecure: true}}")
            .unwrap();
    let exporter = create(&node, agent.context("otlp_grpc")).unwrap();
    exporter.start().await.unwrap();
    let batch = Batch::from_bytes(Signal::Logs, vec![0; LARGEST + 1].into());
    let error = exporter.export(batch).await.unwrap_err();
    assert!(matches!(error, ExportError::Permanent { .. }), "{error}");
    assert!(error.to_string().contains("larger than OTLP allows"), "{error}");
}
