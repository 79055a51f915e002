//! Sums of exponential histograms: what a cumulative histogram grew by, added to another.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, exponential_histogram_data_point::Buckets,
};

/// The content of an exponential histogram with positive values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    scale: i32,
    count: u64,
    sum: f64,
    zeros: u64,
    zero_threshold: f64,
    buckets: BTreeMap<i32, u64>,
}

impl Histogram {
    /// Reads a point.
    pub(super) fn of(point: &ExponentialHistogramDataPoint) -> Self {
        let buckets = point.positive.as_ref().map_or_else(BTreeMap::new, |positive| {
            (positive.offset..)
                .zip(positive.bucket_counts.iter().copied())
                .filter(|(_, count)| *count > 0)
                .collect()
        });
        Self {
            scale: point.scale,
            count: point.count,
            sum: point.sum.unwrap_or_default(),
            zeros: point.zero_count,
            zero_threshold: point.zero_threshold,
            buckets,
        }
    }

    /// What this cumulative histogram grew by since `before`; all of it when it started anew.
    pub(super) fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.count <= self.count && before.scale == self.scale)
        else {
            return self.clone();
        };
        Self {
            scale: self.scale,
            count: self.count - before.count,
            sum: (self.sum - before.sum).max(0.0),
            zeros: self.zeros.saturating_sub(before.zeros),
            zero_threshold: self.zero_threshold,
            buckets: self
                .buckets
                .iter()
                .map(|(index, count)| {
                    (*index, count.saturating_sub(before.buckets.get(index).copied().unwrap_or(0)))
                })
                .collect(),
        }
    }

    /// Adds another, at the coarser scale of the two.
    pub(super) fn add(&mut self, mut other: Self) {
        if self.count == 0 {
            self.scale = other.scale;
        }
        let scale = self.scale.min(other.scale);
        self.downscale(scale);
        other.downscale(scale);
        self.count += other.count;
        self.sum += other.sum;
        self.zeros += other.zeros;
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        for (index, count) in other.buckets {
            *self.buckets.entry(index).or_default() += count;
        }
    }

    fn downscale(&mut self, scale: i32) {
        let steps = (self.scale - scale).clamp(0, 31);
        if steps > 0 {
            let buckets = std::mem::take(&mut self.buckets);
            for (index, count) in buckets {
                *self.buckets.entry(index >> steps).or_default() += count;
            }
        }
        self.scale = scale;
    }

    /// Whether it counts anything.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many values it counts.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// A point with this content; attributes and times are the caller's.
    pub(super) fn point(&self) -> ExponentialHistogramDataPoint {
        let offset = self.buckets.keys().next().copied().unwrap_or(0);
        let last = self.buckets.keys().next_back().copied().unwrap_or(-1);
        let bucket_counts =
            (offset..=last).map(|index| self.buckets.get(&index).copied().unwrap_or(0)).collect();
        ExponentialHistogramDataPoint {
            count: self.count,
            sum: Some(self.sum),
            scale: self.scale,
            zero_count: self.zeros,
            zero_threshold: self.zero_threshold,
            positive: Some(Buckets { offset, bucket_counts }),
            ..ExponentialHistogramDataPoint::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(scale: i32, buckets: &[(i32, u64)]) -> Histogram {
        let count = buckets.iter().map(|(_, count)| count).sum();
        Histogram {
            scale,
            count,
            sum: count as f64,
            zeros: 0,
            zero_threshold: 1e-6,
            buckets: buckets.iter().copied().collect(),
        }
    }

    #[test]
    fn a_point_round_trips() {
        let histogram = histogram(2, &[(-3, 1), (0, 2), (4, 7)]);
        assert_eq!(Histogram::of(&histogram.point()), histogram);
    }

    #[test]
    fn growth_is_added_and_a_new_start_counts_whole() {
        let before = histogram(2, &[(1, 5)]);
        let now = histogram(2, &[(1, 7), (2, 1)]);
        let mut sum = Histogram::default();
        sum.add(now.since(Some(&before)));
        assert_eq!(sum.count, 3);
        sum.add(before.since(Some(&now)));
        assert_eq!(sum.count, 8);
        assert_eq!(sum.buckets[&1], 7);
    }

    #[test]
    fn scales_meet_at_the_coarser() {
        let mut sum = histogram(2, &[(-1, 1), (5, 1)]);
        sum.add(histogram(1, &[(2, 1)]));
        assert_eq!(sum.scale, 1);
        assert_eq!(sum.buckets, BTreeMap::from([(-1, 1), (2, 2)]));
    }
}
