//! What is shown at each verbosity, and how often.

use blameio_config::{Decode, Diagnostics, Path, parse};
use blameio_pipeline::metrics::key_value;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};

use super::*;
use crate::testing::{Agent, Written, gauges};

fn debug(text: &str) -> (Debug, Written) {
    let settings =
        DebugSettings::decode(&parse(text).unwrap(), &Path::root(), &mut Diagnostics::new()).unwrap();
    let (agent, written) = (Agent::new(), Written::default());
    let metrics = agent.exporter(&"debug".parse().unwrap());
    (Debug::new("debug".to_owned(), settings, metrics, Box::new(written.clone())), written)
}

fn batch() -> Batch {
    let resource = Resource { attributes: vec![key_value("service.name", "orders")], ..Resource::default() };
    Batch::metrics(gauges(resource, &[(1.5, vec![key_value("db.table", "t")])]))
}

#[tokio::test]
async fn basic_says_how_much_arrived() {
    let (debug, written) = debug("{}");
    debug.export(batch()).await.unwrap();
    debug.export(Batch::traces(ExportTraceServiceRequest::default())).await.unwrap();
    debug.export(Batch::logs(ExportLogsServiceRequest::default())).await.unwrap();
    let expected = "debug\tMetrics\t{\"resource metrics\": 1, \"metrics\": 1, \"data points\": 1}\n\
                    debug\tTraces\t{\"resource spans\": 0, \"spans\": 0}\n\
                    debug\tLogs\t{\"resource logs\": 0, \"log records\": 0}\n";
    assert_eq!(written.text(), expected);
}

#[tokio::test]
async fn normal_has_a_line_for_each_point_and_detailed_every_field() {
    let (normal, written) = debug("verbosity: normal");
    normal.export(batch()).await.unwrap();
    assert!(
        written.text().ends_with("\nResourceMetrics #0 service.name=orders\ntest.gauge{db.table=t} 1.5\n")
    );
    let (detailed, written) = debug("verbosity: detailed");
    detailed.export(batch()).await.unwrap();
    assert!(written.text().contains("Metric test.gauge [s] A gauge\n"));
    assert!(written.text().contains("time_unix_nano: 1,"));
}

#[tokio::test]
async fn names_cannot_command_the_terminal() {
    for verbosity in ["normal", "detailed"] {
        let (debug, written) = debug(&format!("verbosity: {verbosity}"));
        let evil = "\x1b[2J\u{9b}\u{202e}\r\nforged line";
        let resource = Resource { attributes: vec![key_value(evil, evil)], ..Resource::default() };
        debug.export(Batch::metrics(gauges(resource, &[(1.5, vec![key_value("k", evil)])]))).await.unwrap();
        let record = LogRecord {
            body: Some(AnyValue { value: Some(any_value::Value::StringValue(evil.to_owned())) }),
            ..LogRecord::default()
        };
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        debug.export(Batch::logs(ExportLogsServiceRequest { resource_logs })).await.unwrap();
        let text = written.text();
        assert!(text.contains("forged line"), "{text:?}");
        assert!(!text.contains(['\x1b', '\u{9b}', '\u{202e}', '\r']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{text:?}");
    }
}

#[test]
fn batches_of_a_second_are_sampled() {
    let settings = DebugSettings { sampling_initial: 2, sampling_thereafter: 3, ..DebugSettings::default() };
    let (mut sampler, now) = (Sampler { second: None, seen: 0 }, Instant::now());
    let shown: Vec<_> = (0..8).map(|_| sampler.shows(&settings, now)).collect();
    assert_eq!(shown, [true, true, false, false, true, false, false, true]);
    assert!(sampler.shows(&settings, now + Duration::from_secs(1)));
    let none = DebugSettings { sampling_initial: 0, sampling_thereafter: 0, ..DebugSettings::default() };
    assert!(!Sampler { second: None, seen: 0 }.shows(&none, now));
}
