//! Exponential histograms as classic ones, which is all that a text exposition can carry.
//!
//! All series of a metric get the same boundaries, so that `sum by (le)` adds up what belongs together. The
//! boundaries are powers of one base, and neighbours are merged until there are at most [`MAX_BOUNDS`]. As a
//! cumulative series only ever grows, later boundaries are either the same, more of them, or every second one.

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint as Point, exponential_histogram_data_point::Buckets,
};

/// Enough for a factor of two between a nanosecond and a quarter of an hour.
pub(super) const MAX_BOUNDS: usize = 40;

/// Scales are at most 20 by the specification; finer ones would only cost time to merge.
const MAX_SCALE: i32 = 20;
/// At this scale one bucket holds every number that a double can express.
const MIN_SCALE: i32 = -11;

/// The boundaries chosen for a metric.
#[derive(Debug, PartialEq)]
pub(super) struct Grid {
    scale: i32,
    /// Exponents of the lowest and the highest boundary below zero, by size.
    negative: Option<(i64, i64)>,
    /// Largest zero threshold, if anything is at zero or below.
    zero: Option<f64>,
    /// Exponents of the lowest and the highest boundary above zero.
    positive: Option<(i64, i64)>,
}

impl Grid {
    /// Chooses boundaries that suit all `points`.
    pub(super) fn new<'a>(points: impl Iterator<Item = &'a Point>) -> Self {
        let mut grid = Self { scale: MAX_SCALE, negative: None, zero: None, positive: None };
        for point in points {
            // Ranges are kept at the coarsest scale seen so far; coarser is a shift away.
            let scale = point.scale.clamp(MIN_SCALE, MAX_SCALE);
            grid.coarsen(scale);
            grid.positive = union(grid.positive, range(point.positive.as_ref(), point.scale, grid.scale));
            grid.negative = union(grid.negative, range(point.negative.as_ref(), point.scale, grid.scale));
            if point.zero_count > 0 || grid.negative.is_some() {
                grid.zero = Some(grid.zero.unwrap_or(0.0).max(point.zero_threshold));
            }
        }
        while grid.len() > MAX_BOUNDS && grid.scale > MIN_SCALE {
            grid.coarsen(grid.scale - 1);
        }
        grid
    }

    fn coarsen(&mut self, scale: i32) {
        while self.scale > scale {
            // The lowest boundary goes down to the next coarser one, the highest goes up.
            let halve = |(low, high): (i64, i64)| (low >> 1, (high + 1) >> 1);
            self.positive = self.positive.map(halve);
            self.negative = self.negative.map(halve);
            self.scale -= 1;
        }
    }

    fn len(&self) -> usize {
        let count = |range: Option<(i64, i64)>| {
            range.map_or(0, |(low, high)| usize::try_from(high - low + 1).unwrap_or(usize::MAX))
        };
        count(self.positive).saturating_add(count(self.negative)).saturating_add(1)
    }

    /// The cumulative counts of a point at each boundary, ascending and without `+Inf`.
    pub(super) fn cumulative(&self, point: &Point) -> Vec<(f64, u64)> {
        let mut bounds = Vec::new();
        let mut counts = Vec::new();
        if let Some((low, high)) = self.negative {
            let buckets = self.merged(point.negative.as_ref(), point.scale, low, high);
            // Below the lowest boundary there is nothing; a bucket's upper boundary is the one nearer to zero.
            bounds.push(-self.bound(high));
            counts.push(0);
            for (exponent, count) in (low..high).rev().zip(buckets.into_iter().rev()) {
                bounds.push(-self.bound(exponent));
                counts.push(count);
            }
        }
        if let Some(zero) = self.zero {
            bounds.push(zero);
            counts.push(point.zero_count);
        }
        if let Some((low, high)) = self.positive {
            let buckets = self.merged(point.positive.as_ref(), point.scale, low, high);
            bounds.push(self.bound(low));
            // With a boundary at zero, what is at zero has been counted there.
            counts.push(if self.zero.is_some() { 0 } else { point.zero_count });
            for (exponent, count) in (low..high).zip(buckets) {
                bounds.push(self.bound(exponent + 1));
                counts.push(count);
            }
        }
        let mut total = 0_u64;
        let mut cumulative: Vec<(f64, u64)> = Vec::with_capacity(bounds.len());
        for (bound, count) in bounds.into_iter().zip(counts) {
            total = total.saturating_add(count);
            match cumulative.last_mut() {
                // Boundaries that a double cannot tell apart, or a zero threshold above the lowest one.
                Some(last) if bound <= last.0 => last.1 = total,
                _ => cumulative.push((bound, total)),
            }
        }
        cumulative.retain(|(bound, _)| bound.is_finite());
        cumulative
    }

    fn bound(&self, exponent: i64) -> f64 {
        (exponent as f64 * f64::from(-self.scale).exp2()).exp2()
    }

    /// Counts between the boundaries `low..=high`.
    fn merged(&self, buckets: Option<&Buckets>, scale: i32, low: i64, high: i64) -> Vec<u64> {
        let mut merged = vec![0_u64; usize::try_from(high - low).unwrap_or(0)];
        for (index, count) in occupied(buckets) {
            let position = usize::try_from(shifted(index, scale, self.scale) - low).ok();
            if let Some(place) = position.and_then(|position| merged.get_mut(position)) {
                *place = place.saturating_add(count);
            }
        }
        merged
    }
}

/// Buckets that hold something, by their index.
fn occupied(buckets: Option<&Buckets>) -> impl Iterator<Item = (i64, u64)> {
    buckets.into_iter().flat_map(|buckets| {
        let offset = i64::from(buckets.offset);
        (offset..).zip(buckets.bucket_counts.iter().copied()).filter(|(_, count)| *count > 0)
    })
}

fn shifted(index: i64, from: i32, to: i32) -> i64 {
    // No double lies outside of 2^-2048 to 2^2048: a sender cannot make the grid wider than that.
    let widest = 1_i64 << (to - MIN_SCALE).clamp(0, 62);
    // A scale below the coarsest of ours holds so much per bucket that its index is used as it is.
    (index >> from.saturating_sub(to).clamp(0, 63)).clamp(-widest, widest - 1)
}

/// The boundaries around the occupied buckets.
fn range(buckets: Option<&Buckets>, from: i32, to: i32) -> Option<(i64, i64)> {
    occupied(buckets).fold(None, |range, (index, _)| {
        let index = shifted(index, from, to);
        union(range, Some((index, index + 1)))
    })
}

fn union(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (range, None) | (None, range) => range,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64], zero: u64) -> Point {
        Point {
            scale,
            zero_count: zero,
            count: counts.iter().sum::<u64>() + zero,
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..Point::default()
        }
    }

    #[test]
    fn few_buckets_keep_their_boundaries() {
        let point = point(0, -1, &[1, 0, 4], 2);
        let grid = Grid::new([&point].into_iter());
        assert_eq!(grid.cumulative(&point), [(0.0, 2), (0.5, 2), (1.0, 3), (2.0, 3), (4.0, 7)]);
    }

    #[test]
    fn negative_values_come_first() {
        let mut point = point(0, 0, &[1], 1);
        point.negative = Some(Buckets { offset: 0, bucket_counts: vec![5, 7] });
        let grid = Grid::new([&point].into_iter());
        let expected = [(-4.0, 0), (-2.0, 7), (-1.0, 12), (0.0, 13), (1.0, 13), (2.0, 14)];
        assert_eq!(grid.cumulative(&point), expected);
    }

    #[test]
    fn zeros_are_counted_up_to_their_threshold() {
        // [0.25, 0.5) is within the threshold; its boundaries would claim that zeros are below them.
        let mut wide = point(0, -2, &[1, 2, 4], 8);
        wide.zero_threshold = 0.6;
        let grid = Grid::new([&wide].into_iter());
        assert_eq!(grid.cumulative(&wide), [(0.6, 9), (1.0, 11), (2.0, 15)]);
        // A series with a narrower threshold shares the boundaries: its zeros are at the first above it.
        let mut narrow = point(0, -1, &[3], 5);
        narrow.zero_threshold = 0.1;
        let grid = Grid::new([&narrow, &wide].into_iter());
        assert_eq!(grid.cumulative(&narrow), [(0.6, 5), (1.0, 8), (2.0, 8)]);
        // As is one below the boundaries, and nonsense is no threshold.
        for (threshold, bound) in [(0.1, 0.1), (f64::NAN, 0.0), (-1.0, 0.0)] {
            let mut point = point(0, -1, &[3], 5);
            point.zero_threshold = threshold;
            let grid = Grid::new([&point].into_iter());
            assert_eq!(grid.cumulative(&point), [(bound, 5), (0.5, 5), (1.0, 8)]);
        }
    }

    #[test]
    fn series_of_one_metric_share_their_boundaries() {
        let (fine, coarse) = (point(3, 0, &[1; 8], 0), point(0, 3, &[1], 0));
        let grid = Grid::new([&fine, &coarse].into_iter());
        let bounds = |point| grid.cumulative(point).into_iter().map(|(bound, _)| bound).collect::<Vec<_>>();
        assert_eq!(bounds(&fine), bounds(&coarse));
        assert_eq!(bounds(&fine), [1.0, 2.0, 4.0, 8.0, 16.0]);
    }

    #[test]
    fn absurd_scales_and_offsets_are_survived() {
        for scale in [i32::MIN, -11, -1, 0, 20, i32::MAX] {
            for offset in [i32::MIN, -1, 0, i32::MAX] {
                let point = point(scale, offset, &[1, 0, 1], 1);
                let grid = Grid::new([&point].into_iter());
                assert!(grid.cumulative(&point).len() <= MAX_BOUNDS + 1, "{scale} {offset}");
            }
        }
    }

    proptest! {
        #[test]
        fn buckets_are_few_rise_and_lose_nothing(
            scale in -4..=20_i32,
            offset in -2000..2000_i32,
            counts in prop::collection::vec(0..1000_u64, 0..160),
            negative in prop::collection::vec(0..10_u64, 0..40),
            zero in 0..10_u64,
        ) {
            let mut point = point(scale, offset, &counts, zero);
            point.negative = Some(Buckets { offset, bucket_counts: negative.clone() });
            let cumulative = Grid::new([&point].into_iter()).cumulative(&point);
            prop_assert!(cumulative.len() <= MAX_BOUNDS);
            prop_assert!(cumulative.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            let all = counts.iter().sum::<u64>() + negative.iter().sum::<u64>() + zero;
            let last = cumulative.last().map_or(0, |(_, count)| *count);
            prop_assert!(last <= all);
            // Near the ends of what a double can express the last boundary is `+Inf`, which the caller writes.
            if f64::from(offset.abs() + 200) * f64::from(-scale).exp2() < 500.0 {
                prop_assert_eq!(last, all);
            }
        }
    }
}
