//! Tests of `load.rs`.

use std::time::Duration;

use super::{Diagnostics, Loaded, Sources, load};
use crate::{LogLevel, MetricsLevel, MetricsReader};

const GOOD: &str = "
receivers:
  otlp:
  file_io/a: {x: 1}
processors: {batch: }
exporters:
  debug:
extensions:
  database/orders: {dsn: '${env:DSN}'}
service:
  extensions: [database/orders]
  pipelines:
    metrics/blame:
      receivers: [otlp, file_io/a]
      processors: [batch]
      exporters: [debug]
";

fn loaded(configs: &[&str], set: &[&str]) -> Result<Loaded, Diagnostics> {
    let configs: Vec<String> = configs.iter().map(|text| format!("yaml:{text}")).collect();
    let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
    let env = |name: &str| (name == "DSN").then(|| "hunter2".to_owned());
    load(&Sources { configs: &configs, set: &set, env: &env })
}

fn refused(text: &str) -> String {
    loaded(&[text], &[]).unwrap_err().to_string()
}

#[test]
fn a_good_configuration_is_loaded() {
    let Loaded { configuration, warnings, root } = loaded(&[GOOD], &[]).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert!(configuration.receivers[0].body.is_null());
    assert_eq!(configuration.receivers[1].id.to_string(), "file_io/a");
    let pipeline = &configuration.service.pipelines[0];
    assert_eq!((pipeline.id.to_string().as_str(), pipeline.receivers.len()), ("metrics/blame", 2));
    let telemetry = &configuration.service.telemetry;
    assert_eq!((telemetry.log_level, telemetry.metrics_level), (LogLevel::Info, MetricsLevel::Normal));
    assert!(!telemetry.readers_configured);
    assert!(
        matches!(&telemetry.readers[..], [MetricsReader::Pull(at)] if at.to_string() == "localhost:8888")
    );
    assert!(!format!("{configuration:?} {root:?}").contains("hunter2"));
}

#[test]
fn later_sources_and_set_win() {
    let over = "service: {telemetry: {logs: {level: warn}}}";
    let loaded =
        loaded(&[GOOD, over], &["service.telemetry.metrics.level=none", "receivers.otlp.port=4317"]).unwrap();
    let telemetry = &loaded.configuration.service.telemetry;
    assert_eq!((telemetry.log_level, telemetry.metrics_level), (LogLevel::Warn, MetricsLevel::None));
    assert!(telemetry.readers.is_empty());
    let port =
        loaded.root.get("receivers").and_then(|node| node.get("otlp")).and_then(|node| node.get("port"));
    assert_eq!(port.unwrap().position.to_string(), "--set receivers.otlp.port:1:24");
}

#[test]
fn set_needs_an_equal_sign() {
    let error = loaded(&[GOOD], &["receivers.otlp"]).unwrap_err().to_string();
    assert_eq!(error, "--set: missing equal sign (write --set key=value)");
}

#[test]
fn the_values_of_set_and_inline_yaml_stay_out_of_messages() {
    let error = loaded(&["a: hunter2: x"], &["receivers.otlp=[hunter2"]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn an_empty_configuration_says_so() {
    for text in ["", "# nothing\n", "{}"] {
        assert!(refused(text).ends_with("empty configuration file"), "{}", refused(text));
    }
    let error = refused("service: {pipelines: }");
    assert_eq!(
        error,
        "--config 1 (yaml):1:1: no receiver configuration specified in config\n\
         --config 1 (yaml):1:1: no exporter configuration specified in config\n\
         --config 1 (yaml):1:11: service::pipelines: service must have at least one pipeline"
    );
}

#[test]
fn sources_that_cannot_be_read_are_reported_together() {
    let configs = ["/does/not/exist.yaml", "env:UNSET", "http://x/y", "env:9"].map(str::to_owned);
    let error = load(&Sources { configs: &configs, set: &[], env: &|_| None }).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 4, "{error}");
    assert!(error.contains("/does/not/exist.yaml: unable to read the file: "), "{error}");
    assert!(error.contains("scheme \"http\" is not supported"), "{error}");
    let none = load(&Sources { configs: &[], set: &[], env: &|_| None }).unwrap_err().to_string();
    assert_eq!(none, "at least one config flag must be provided");
    let env = ["env:CONFIG".to_owned()];
    assert!(
        load(&Sources { configs: &env, set: &[], env: &|name| (name == "CONFIG").then(|| GOOD.to_owned()) })
            .is_ok()
    );
}

#[test]
fn everything_wrong_with_the_service_is_reported_at_once() {
    let text = "
receiver: {}
receivers: {otlp: , 9x: , 'otlp ': }
exporters: {debug: }
processors: {batch: }
service:
  extensions: [x]
  unknown: 1
  telemetry: {logs: {level: wrn}, logz: 1}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [invalid, batch, batch]
    metrics:
      receivers: []
      exporters: [debg]
      exporter: 1
    metric: {}
";
    let error = refused(text);
    for (place, part) in [
        ("2:1", "'' has invalid keys: receiver (did you mean \"receivers\"?)"),
        ("3:21", "receivers: in \"9x\" id: invalid character(s)"),
        ("3:27", "receivers: duplicate name \"otlp\" after trimming spaces"),
        ("8:3", "service: 'service' has invalid keys: unknown (valid: extensions, pipelines, telemetry)"),
        ("9:29", "service::telemetry::logs::level: 'level' has an unknown value (did you mean \"warn\"?)"),
        ("9:35", "'service.telemetry' has invalid keys: logz (did you mean \"logs\"?)"),
        ("17:7", "'service.pipelines.metrics' has invalid keys: exporter (did you mean \"exporters\"?)"),
        ("18:5", "service::pipelines: unknown pipeline signal: \"metric\" (did you mean \"metrics\"?)"),
        ("7:16", "service::extensions: references extension \"x\" which is not configured"),
        ("11:5", "service::pipelines::traces: must have at least one exporter"),
        ("13:20", "service::pipelines::traces: references processor \"invalid\" which is not configured"),
        ("13:36", "service::pipelines::traces: references processor \"batch\" multiple times"),
        ("14:5", "service::pipelines::metrics: must have at least one receiver"),
        ("16:19", "references exporter \"debg\" which is not configured (did you mean \"debug\"?)"),
    ] {
        let line = format!("--config 1 (yaml):{place}: ");
        assert!(
            error.lines().any(|found| found.starts_with(&line) && found.contains(part)),
            "{place} {part}\n{error}"
        );
    }
}

#[test]
fn readers_have_the_shapes_of_otelconf() {
    let readers = "
service:
  telemetry:
    logs: {level: debug, encoding: json}
    resource: {service.name: agent, service.instance.id: }
    metrics:
      readers:
        - pull: {exporter: {prometheus: {host: 0.0.0.0, port: 9999}}}
        - periodic:
            interval: 5000
            exporter:
              otlp: {protocol: grpc, endpoint: 'http://c:4317', headers: {a: hunter2}}
";
    let loaded = loaded(&[GOOD, readers], &[]).unwrap();
    let telemetry = &loaded.configuration.service.telemetry;
    assert_eq!(loaded.warnings.to_string().lines().count(), 1, "{}", loaded.warnings);
    assert!(telemetry.readers_configured);
    assert_eq!(telemetry.resource.get("service.name").map(String::as_str), Some("agent"));
    assert!(telemetry.resource_removed.contains("service.instance.id"));
    assert!(!format!("{telemetry:?}").contains("hunter2"));
    let [MetricsReader::Pull(at), MetricsReader::Push { interval, headers, insecure, .. }] =
        &telemetry.readers[..]
    else {
        panic!("{telemetry:?}")
    };
    assert_eq!(at.to_string(), "0.0.0.0:9999");
    assert_eq!((*interval, headers["a"].expose(), *insecure), (Duration::from_secs(5), "hunter2", true));
    for (from, to, part) in [
        ("protocol: grpc", "protocol: http/protobuf", "http/protobuf is not supported"),
        (
            "interval: 5000",
            "interval: 5s",
            "'interval' expected type 'uint32', got unconvertible type 'string'",
        ),
        ("- pull: ", "- push: ", "has invalid keys: push"),
        ("endpoint: ", "endpont: ", "missing required key 'endpoint'"),
    ] {
        let error = self::loaded(&[GOOD, &readers.replace(from, to)], &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
