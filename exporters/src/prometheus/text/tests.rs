//! Golden texts of both formats, and that whatever is written can be read back.

use std::time::{Duration, Instant};

use blameio_pipeline::{metrics::key_value, signal};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        AggregationTemporality, DataPointFlags, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Histogram, HistogramDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use proptest::prelude::*;

use super::{
    super::{intake, series},
    *,
};
use crate::{
    prometheus::{RenderOptions, render},
    testing::{metric, point, request},
};

const AT: u64 = 1_700_000_000_123_000_000;
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

fn resource() -> Resource {
    let attributes = [("service.name", "orders"), ("service.instance.id", "i1"), ("host.name", "db7")];
    let attributes = attributes.map(|(key, value)| key_value(key, value)).to_vec();
    Resource { attributes, ..Resource::default() }
}

fn sum(value: f64, is_monotonic: bool, temporality: i32) -> Data {
    let mut sample = point(value, AT, vec![key_value("db.table", "orders")]);
    sample.exemplars = vec![Exemplar {
        time_unix_nano: AT,
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        value: Some(exemplar::Value::AsDouble(0.5)),
        ..Exemplar::default()
    }];
    Data::Sum(Sum { data_points: vec![sample], aggregation_temporality: temporality, is_monotonic })
}

fn everything() -> ExportMetricsServiceRequest {
    let blame = vec![key_value("server.address", "db7"), key_value("db.table", "or\"d\\e\nrs")];
    let gauge = Data::Gauge(Gauge { data_points: vec![point(12.5, AT, blame)] });
    let histogram = HistogramDataPoint {
        time_unix_nano: AT,
        count: 6,
        sum: Some(3.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1.0],
        exemplars: vec![Exemplar { value: Some(exemplar::Value::AsInt(7)), ..Exemplar::default() }],
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![histogram], aggregation_temporality: CUMULATIVE };
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano: AT,
        count: 4,
        positive: Some(Buckets { offset: -1, bucket_counts: vec![1, 3] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let exponential =
        ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: CUMULATIVE };
    let quantile = ValueAtQuantile { quantile: 1.0, value: 9.0 };
    let summary = SummaryDataPoint {
        time_unix_nano: AT,
        count: 3,
        sum: 12.0,
        quantile_values: vec![quantile],
        ..SummaryDataPoint::default()
    };
    let delta = AggregationTemporality::Delta as i32;
    request(
        resource(),
        vec![
            metric(signal::LAG_BLAME.name, "s", "Seconds \"owed\" \\ now\nby object", gauge),
            metric(signal::FILE_IO.name, "By", "", sum(1e21, true, CUMULATIVE)),
            metric("in.flight", "{request}", "", sum(-3.0, false, CUMULATIVE)),
            metric("delta", "", "", sum(1.0, true, delta)),
            metric("size", "By", "", Data::Histogram(histogram)),
            metric(signal::FILE_OPERATION_DURATION.name, "s", "", Data::ExponentialHistogram(exponential)),
            metric("old", "", "", Data::Summary(Summary { data_points: vec![summary] })),
        ],
    )
}

#[test]
fn the_older_text_format_is_written_as_prometheus_reads_it() {
    let options = RenderOptions { send_timestamps: true, ..RenderOptions::exported(TextFormat::Prometheus) };
    let expected = r#"# HELP target_info Attributes of the resource
# TYPE target_info gauge
target_info{host_name="db7",instance="i1",job="orders"} 1
# TYPE blameio_file_io_bytes_total counter
blameio_file_io_bytes_total{db_table="orders",instance="i1",job="orders"} 1e21 1700000000123
# TYPE blameio_file_operation_duration_seconds histogram
blameio_file_operation_duration_seconds_bucket{instance="i1",job="orders",le="0.5"} 0 1700000000123
blameio_file_operation_duration_seconds_bucket{instance="i1",job="orders",le="1"} 1 1700000000123
blameio_file_operation_duration_seconds_bucket{instance="i1",job="orders",le="2"} 4 1700000000123
blameio_file_operation_duration_seconds_bucket{instance="i1",job="orders",le="+Inf"} 4 1700000000123
blameio_file_operation_duration_seconds_count{instance="i1",job="orders"} 4 1700000000123
# HELP blameio_lag_blame_seconds Seconds "owed" \\ now\nby object
# TYPE blameio_lag_blame_seconds gauge
blameio_lag_blame_seconds{db_table="or\"d\\e\nrs",instance="i1",job="orders",server_address="db7"} 12.5 1700000000123
# TYPE in_flight gauge
in_flight{db_table="orders",instance="i1",job="orders"} -3 1700000000123
# TYPE old summary
old{instance="i1",job="orders",quantile="1"} 9 1700000000123
old_sum{instance="i1",job="orders"} 12 1700000000123
old_count{instance="i1",job="orders"} 3 1700000000123
# TYPE size_bytes histogram
size_bytes_bucket{instance="i1",job="orders",le="0.5"} 1 1700000000123
size_bytes_bucket{instance="i1",job="orders",le="1"} 3 1700000000123
size_bytes_bucket{instance="i1",job="orders",le="+Inf"} 6 1700000000123
size_bytes_sum{instance="i1",job="orders"} 3.5 1700000000123
size_bytes_count{instance="i1",job="orders"} 6 1700000000123
"#;
    assert_eq!(render(&everything(), options), expected);
}

#[test]
fn openmetrics_is_written_with_families_exemplars_and_an_end() {
    let options = RenderOptions { send_timestamps: true, ..RenderOptions::exported(TextFormat::OpenMetrics) };
    let text = render(&everything(), options);
    let expected = [
        "# TYPE target info",
        "target_info{host_name=\"db7\",instance=\"i1\",job=\"orders\"} 1",
        "# TYPE blameio_file_io_bytes counter",
        "blameio_file_io_bytes_total{db_table=\"orders\",instance=\"i1\",job=\"orders\"} 1e21 1700000000.123 \
         # {trace_id=\"abababababababababababababababab\",span_id=\"cdcdcdcdcdcdcdcd\"} 0.5 1700000000.123",
        "# HELP blameio_lag_blame_seconds Seconds \\\"owed\\\" \\\\ now\\nby object",
        "in_flight{db_table=\"orders\",instance=\"i1\",job=\"orders\"} -3 1700000000.123",
        "old{instance=\"i1\",job=\"orders\",quantile=\"1.0\"} 9 1700000000.123",
        "size_bytes_bucket{instance=\"i1\",job=\"orders\",le=\"1.0\"} 3 1700000000.123",
        "size_bytes_bucket{instance=\"i1\",job=\"orders\",le=\"+Inf\"} 6 1700000000.123 # {} 7",
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn own_telemetry_keeps_its_names() {
    let counter = metric("otelcol_process_uptime", "s", "", sum(3.0, true, CUMULATIVE));
    let own = request(resource(), vec![counter]);
    let text = render(&own, RenderOptions::own_telemetry(TextFormat::Prometheus));
    assert!(
        text.contains(
            "# TYPE otelcol_process_uptime counter\notelcol_process_uptime{db_table=\"orders\"} 3\n"
        )
    );
    assert!(
        text.contains(
            "target_info{host_name=\"db7\",service_instance_id=\"i1\",service_name=\"orders\"} 1\n"
        )
    );
    let text = render(&own, RenderOptions::own_telemetry(TextFormat::OpenMetrics));
    assert!(
        text.contains(
            "# TYPE otelcol_process_uptime unknown\notelcol_process_uptime{db_table=\"orders\"} 3\n"
        )
    );
}

#[test]
fn an_empty_page_is_valid() {
    let nothing = ExportMetricsServiceRequest::default();
    assert_eq!(render(&nothing, RenderOptions::exported(TextFormat::Prometheus)), "");
    assert_eq!(render(&nothing, RenderOptions::exported(TextFormat::OpenMetrics)), "# EOF\n");
}

#[test]
fn a_series_that_ends_is_gone_and_its_target_with_it() {
    let mut store = series::Store::default();
    let naming = intake::Naming { suffixes: true, identify: true };
    let mut gauge = |flags: u32, at: u64| {
        let mut sample = point(1.0, at, vec![]);
        sample.flags = flags;
        let data = Data::Gauge(Gauge { data_points: vec![sample] });
        intake::take(
            &mut store,
            &request(resource(), vec![metric("m", "", "", data)]),
            naming,
            Instant::now(),
        );
        page(&store.freeze(None, usize::MAX, Duration::MAX, Instant::now()), TextFormat::Prometheus, false)
    };
    assert!(gauge(0, 1).contains("m{instance=\"i1\",job=\"orders\"} 1\n"));
    assert_eq!(gauge(DataPointFlags::NoRecordedValueMask as u32, 2), "");
}

#[test]
fn numbers_are_short_and_exact() {
    for (value, expected) in [
        (0.0, "0"),
        (12.5, "12.5"),
        (1e15, "1000000000000000"),
        (1e300, "1e300"),
        (-2.5e-9, "-2.5e-9"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
    ] {
        assert_eq!(number(value), expected);
    }
}

type Pairs = Vec<(String, String)>;

/// Reads `name{label="value",…} number`.
fn parsed(line: &str) -> Option<(String, Pairs, f64)> {
    let (name, mut rest) = line.split_once('{')?;
    let mut labels = Vec::new();
    loop {
        let (label, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some((name.to_owned(), labels, rest.strip_prefix("} ")?.parse().ok()?))
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in any::<f64>(), text in "\\PC*|[\\\\\"\n,{}=]*", help in ".*|[\\\\\n]*") {
        let data = Data::Gauge(Gauge { data_points: vec![point(value, 1, vec![key_value("l", text.as_str())])] });
        let request = request(Resource::default(), vec![metric("m", "", &help, data)]);
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            let page = render(&request, RenderOptions::exported(format));
            let samples: Vec<_> = page.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            prop_assert_eq!(samples.len(), 1, "{}", page);
            let (name, labels, read) = parsed(samples[0]).expect(samples[0]);
            prop_assert_eq!(name, "m");
            prop_assert_eq!(labels, vec![("l".to_owned(), text.clone())]);
            prop_assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan());
        }
    }
}
