//! Points of files whose name is still looked for. A file that was written once may not be heard of again for a minute,
//! so what it grew by is kept here and counted as soon as the catalog has answered. Bounded.

use std::collections::HashMap;

use blameio_databases::CatalogReader;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{ExponentialHistogramDataPoint, NumberDataPoint},
};

use super::{
    point::RawKey,
    series::{HISTOGRAM, Series, resolve},
};

/// Most points that are kept; more are left for their next report.
const KEPT: usize = 16_384;

/// A point that waits for a name.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// Of the metric at this position.
    Number(usize, NumberDataPoint),
    /// A histogram.
    Histogram(ExponentialHistogramDataPoint),
}

impl Held {
    fn attributes(&self) -> &[KeyValue] {
        match self {
            Self::Number(_, point) => &point.attributes,
            Self::Histogram(point) => &point.attributes,
        }
    }
}

/// The last point of each series that waits, and whether the series has ended since.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    points: HashMap<RawKey, (Held, bool)>,
}

impl Waiting {
    /// Keeps a point instead of an earlier one of its series.
    pub(super) fn hold(&mut self, key: RawKey, held: Held) {
        if self.points.len() < KEPT || self.points.contains_key(&key) {
            self.points.insert(key, (held, false));
        }
    }

    /// A newer point of the series is counted.
    pub(super) fn forget(&mut self, key: &RawKey) {
        self.points.remove(key);
    }

    /// Whether a series that ends still waits; what it grew by is then counted with its name, and the series ended.
    pub(super) fn end(&mut self, key: &RawKey) -> bool {
        self.points.get_mut(key).map(|(_, ended)| *ended = true).is_some()
    }
}

impl Series {
    /// Counts what has waited and has a name by now, or will have none soon.
    pub(super) fn settle(&mut self, catalog: &CatalogReader, limit: usize) {
        // The others stay where they are: after a rush there are thousands, looked at with every batch.
        let answered = |held: &Held| resolve(held.attributes(), catalog).is_some();
        let ready: Vec<_> = self.waiting.points.extract_if(|_, (held, _)| answered(held)).collect();
        for (key, (held, ended)) in ready {
            let metric = match held {
                Held::Number(metric, point) => {
                    self.number(metric, &point, catalog, limit);
                    metric
                }
                Held::Histogram(point) => {
                    self.histogram(&point, catalog, limit);
                    HISTOGRAM
                }
            };
            if ended && !self.waiting.end(&key) {
                self.end(metric, &key);
            }
        }
        // A rush leaves room for thousands, and the next one may come tomorrow.
        if self.waiting.points.is_empty() {
            self.waiting.points.shrink_to_fit();
        }
    }
}
