//! From OTLP metrics to series: what is a counter, what cannot be scraped, which points end a series.

use std::{sync::Arc, time::Instant};

use blameio_pipeline::metrics::{is_ended, number};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, metric::Data},
};

use super::{
    label::Target,
    name,
    series::{Kind, Rejected, Sample, Store, Value},
};

/// What of a request was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Points that are held now, or that ended a series.
    pub(super) accepted: usize,
    /// Points that were left out: metric's name and reason.
    pub(super) rejected: Vec<(String, Rejected)>,
}

/// How names and labels are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    /// Whether unit and type go into the name.
    pub(super) suffixes: bool,
    /// Whether series get `job` and `instance` of their resource.
    pub(super) identify: bool,
}

/// Takes all points of a request.
pub(super) fn take(
    store: &mut Store,
    request: &ExportMetricsServiceRequest,
    naming: Naming,
    now: Instant,
) -> Taken {
    let mut taken = Taken::default();
    for resource in &request.resource_metrics {
        let target = Target::new(resource.resource.as_ref(), naming.identify);
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let mut metric_intake = Intake { store, target: &target, metric, naming, now, taken: &mut taken };
            metric_intake.points();
        }
    }
    taken
}

struct Intake<'a> {
    store: &'a mut Store,
    target: &'a Arc<Target>,
    metric: &'a Metric,
    naming: Naming,
    now: Instant,
    taken: &'a mut Taken,
}

/// What every kind of point has.
struct Common<'a> {
    attributes: &'a [KeyValue],
    at: u64,
    flags: u32,
}

impl Intake<'_> {
    fn points(&mut self) {
        let cumulative = |temporality: i32| temporality == AggregationTemporality::Cumulative as i32;
        match &self.metric.data {
            Some(Data::Gauge(gauge)) => self.numbers(Kind::Gauge, &gauge.data_points),
            Some(Data::Sum(sum)) if cumulative(sum.aggregation_temporality) => {
                let kind = if sum.is_monotonic { Kind::Counter } else { Kind::Gauge };
                self.numbers(kind, &sum.data_points);
            }
            Some(Data::Sum(sum)) => self.deltas(sum.data_points.len()),
            Some(Data::Histogram(histogram)) if cumulative(histogram.aggregation_temporality) => {
                for point in &histogram.data_points {
                    let common = Common {
                        attributes: &point.attributes,
                        at: point.time_unix_nano,
                        flags: point.flags,
                    };
                    self.point(Kind::Histogram, &common, || classic(point));
                }
            }
            Some(Data::Histogram(histogram)) => self.deltas(histogram.data_points.len()),
            Some(Data::ExponentialHistogram(histogram)) if cumulative(histogram.aggregation_temporality) => {
                for point in &histogram.data_points {
                    let common = Common {
                        attributes: &point.attributes,
                        at: point.time_unix_nano,
                        flags: point.flags,
                    };
                    self.point(Kind::Histogram, &common, || {
                        Some(Value::Exponential(Box::new(point.clone())))
                    });
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => self.deltas(histogram.data_points.len()),
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    let common = Common {
                        attributes: &point.attributes,
                        at: point.time_unix_nano,
                        flags: point.flags,
                    };
                    let quantiles = point.quantile_values.iter().map(|at| (at.quantile, at.value)).collect();
                    let value = Value::Summary { quantiles, sum: point.sum, count: point.count };
                    self.point(Kind::Summary, &common, || Some(value));
                }
            }
            None => {}
        }
    }

    fn numbers(&mut self, kind: Kind, points: &[NumberDataPoint]) {
        for point in points {
            let common =
                Common { attributes: &point.attributes, at: point.time_unix_nano, flags: point.flags };
            self.point(kind, &common, || {
                Some(Value::Number { value: number(point)?, exemplar: point.exemplars.last().cloned() })
            });
        }
    }

    fn deltas(&mut self, points: usize) {
        let rejected = std::iter::repeat_n((self.metric.name.clone(), Rejected::Delta), points);
        self.taken.rejected.extend(rejected);
    }

    fn point(&mut self, kind: Kind, common: &Common<'_>, value: impl FnOnce() -> Option<Value>) {
        match self.store_point(kind, common, value) {
            Ok(()) => self.taken.accepted += 1,
            Err(reason) => self.taken.rejected.push((self.metric.name.clone(), reason)),
        }
    }

    fn store_point(
        &mut self,
        kind: Kind,
        common: &Common<'_>,
        value: impl FnOnce() -> Option<Value>,
    ) -> Result<(), Rejected> {
        let name = name::metric(&self.metric.name, &self.metric.unit, kind, self.naming.suffixes)
            // The exposition makes this family itself.
            .filter(|name| name != super::text::TARGET_INFO)
            .ok_or(Rejected::Malformed)?;
        let labels = self.target.labels(common.attributes);
        if is_ended(common.flags) {
            self.store.end(&name, &labels, common.at);
            return Ok(());
        }
        let value = value().ok_or(Rejected::Malformed)?;
        let sample = Sample { value, at: common.at, received: self.now, target: Arc::clone(self.target) };
        self.store.put(&name, kind, &self.metric.description, labels, sample)
    }
}

/// An explicit histogram; `None` when its counts and boundaries do not fit together.
fn classic(point: &HistogramDataPoint) -> Option<Value> {
    let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
    let fits = counts.is_empty() && bounds.is_empty() || counts.len() == bounds.len() + 1;
    if !fits || !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return None;
    }
    let mut total = 0_u64;
    let mut cumulative = counts.iter().map(|count| {
        total = total.saturating_add(*count);
        total
    });
    let buckets: Vec<_> =
        bounds.iter().copied().zip(&mut cumulative).filter(|(bound, _)| *bound < f64::INFINITY).collect();
    // The last bucket is the one that `+Inf` stands for; a count below it would make the buckets fall.
    let count = cumulative.last().unwrap_or(0).max(point.count);
    Some(Value::Histogram { buckets, sum: point.sum, count, exemplars: point.exemplars.clone() })
}
