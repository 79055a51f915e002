//! Writes and reads OTLP metric points: the few shapes that the agent's own components need.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, DataPointFlags, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};

use crate::signal::{self, Kind};

/// A value that an attribute can have.
pub trait IntoValue {
    /// The OTLP form.
    fn into_value(self) -> any_value::Value;
}

impl IntoValue for &str {
    fn into_value(self) -> any_value::Value {
        any_value::Value::StringValue(self.to_owned())
    }
}

impl IntoValue for String {
    fn into_value(self) -> any_value::Value {
        any_value::Value::StringValue(self)
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> any_value::Value {
        any_value::Value::IntValue(self)
    }
}

/// One attribute.
pub fn key_value(key: &str, value: impl IntoValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value.into_value()) }),
        ..KeyValue::default()
    }
}

/// Nanoseconds since the epoch, as OTLP has them; 0 for a time before it.
pub fn unix_nano(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The string value of an attribute.
pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match any_value(attributes, key)? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The integer value of an attribute.
pub fn integer_attribute(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match any_value(attributes, key)? {
        any_value::Value::IntValue(value) => Some(*value),
        _ => None,
    }
}

fn any_value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

/// The number of a point; `None` for a point without a recorded value.
pub fn number(point: &NumberDataPoint) -> Option<f64> {
    match point.value? {
        number_data_point::Value::AsDouble(value) => Some(value),
        number_data_point::Value::AsInt(value) => Some(value as f64),
    }
}

/// Whether a point says that its series has ended.
pub fn is_ended(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

/// The number points of a metric, of whatever kind.
pub fn number_points(metric: &Metric) -> &[NumberDataPoint] {
    match &metric.data {
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        Some(Data::Sum(sum)) => &sum.data_points,
        _ => &[],
    }
}

/// Data points in a request.
pub fn point_count(request: &ExportMetricsServiceRequest) -> usize {
    request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .map(|metric| match &metric.data {
            Some(Data::Gauge(data)) => data.data_points.len(),
            Some(Data::Sum(data)) => data.data_points.len(),
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
            None => 0,
        })
        .sum()
}

/// When a point was taken, and since when its sum counts.
#[derive(Clone, Copy, Debug)]
pub struct PointTime {
    /// Start of the cumulative sum; 0 for gauges.
    pub start: u64,
    /// The point's own time.
    pub at: u64,
}

/// Collects the points of one resource.
#[derive(Debug)]
pub struct MetricsBuilder {
    resource: Resource,
    scope: &'static str,
    metrics: Vec<Metric>,
    positions: HashMap<&'static str, usize>,
}

impl MetricsBuilder {
    /// Starts a resource. `scope` names the component that measured.
    pub fn new(resource: Resource, scope: &'static str) -> Self {
        Self { resource, scope, metrics: Vec::new(), positions: HashMap::new() }
    }

    fn metric(&mut self, definition: &signal::Metric) -> &mut Metric {
        let position = *self.positions.entry(definition.name).or_insert_with(|| {
            self.metrics.push(Metric {
                name: definition.name.to_owned(),
                description: definition.description.trim().to_owned(),
                unit: definition.unit.to_owned(),
                data: Some(empty_data(definition.kind)),
                ..Metric::default()
            });
            self.metrics.len() - 1
        });
        &mut self.metrics[position]
    }

    /// Adds a point.
    pub fn point(
        &mut self,
        metric: &signal::Metric,
        value: impl Into<number_data_point::Value>,
        attributes: Vec<KeyValue>,
        time: PointTime,
    ) {
        self.push(
            metric,
            NumberDataPoint {
                attributes,
                start_time_unix_nano: time.start,
                time_unix_nano: time.at,
                value: Some(value.into()),
                ..NumberDataPoint::default()
            },
        );
    }

    /// Says that a series has ended, of whatever kind its metric is.
    pub fn ended(&mut self, metric: &signal::Metric, attributes: Vec<KeyValue>, time: PointTime) {
        let flags = DataPointFlags::NoRecordedValueMask as u32;
        match metric.kind {
            Kind::Gauge | Kind::Sum => self.push(
                metric,
                NumberDataPoint {
                    attributes,
                    start_time_unix_nano: time.start,
                    time_unix_nano: time.at,
                    flags,
                    ..NumberDataPoint::default()
                },
            ),
            Kind::ExponentialHistogram => self.histogram(
                metric,
                ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano: time.start,
                    time_unix_nano: time.at,
                    flags,
                    ..ExponentialHistogramDataPoint::default()
                },
            ),
        }
    }

    fn push(&mut self, metric: &signal::Metric, point: NumberDataPoint) {
        match &mut self.metric(metric).data {
            Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
            Some(Data::Sum(sum)) => sum.data_points.push(point),
            _ => {}
        }
    }

    /// Adds a histogram point.
    pub fn histogram(&mut self, metric: &signal::Metric, point: ExponentialHistogramDataPoint) {
        if let Some(Data::ExponentialHistogram(histogram)) = &mut self.metric(metric).data {
            histogram.data_points.push(point);
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// The finished resource.
    pub fn finish(self) -> ResourceMetrics {
        ResourceMetrics {
            resource: Some(self.resource),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: self.scope.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: self.metrics,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }
    }
}

fn empty_data(kind: Kind) -> Data {
    let cumulative = AggregationTemporality::Cumulative as i32;
    match kind {
        Kind::Gauge => Data::Gauge(Gauge::default()),
        Kind::Sum => Data::Sum(Sum {
            data_points: Vec::new(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::ExponentialHistogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: Vec::new(),
            aggregation_temporality: cumulative,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_one_metric_come_together_and_an_ended_series_says_so() {
        let mut builder = MetricsBuilder::new(Resource::default(), "test");
        let time = PointTime { start: 1, at: 2 };
        builder.point(&signal::FILE_IO, 7_i64, vec![key_value("k", "a")], time);
        builder.ended(&signal::FILE_IO, vec![key_value("k", "b")], time);
        let resource = builder.finish();
        let points = number_points(&resource.scope_metrics[0].metrics[0]);
        assert_eq!(points.len(), 2);
        assert_eq!(number(&points[0]), Some(7.0));
        assert!(!is_ended(points[0].flags));
        assert!(is_ended(points[1].flags));
        assert_eq!(number(&points[1]), None);
    }

    #[test]
    fn a_histogram_ends_as_any_other_series() {
        let mut builder = MetricsBuilder::new(Resource::default(), "test");
        builder.ended(&signal::FILE_OPERATION_DURATION, Vec::new(), PointTime { start: 1, at: 2 });
        let resource = builder.finish();
        let Some(Data::ExponentialHistogram(histogram)) = &resource.scope_metrics[0].metrics[0].data else {
            panic!("a histogram");
        };
        assert!(is_ended(histogram.data_points[0].flags));
        assert_eq!(histogram.data_points[0].time_unix_nano, 2);
    }
}
