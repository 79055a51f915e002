//! The little statistics that is needed: a confidence interval of paired ratios, a straight line through points.

/// Student's t for a two-sided 95 % interval, by degrees of freedom from 1.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A ratio with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Geometric mean of the pairs' ratios.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Ratio of each pair's first to its second, over all pairs. `None` for fewer than two pairs, or one that is not positive.
pub fn paired_ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    if pairs.len() < 2 || pairs.iter().any(|(first, second)| *first <= 0.0 || *second <= 0.0) {
        return None;
    }
    let logs: Vec<f64> = pairs.iter().map(|(first, second)| (first / second).ln()).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // Beyond the table it hardly changes any more.
    let t = T_95[(logs.len() - 2).min(T_95.len() - 1)];
    let half = t * (variance / count).sqrt();
    Some(Ratio { mean: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() })
}

/// Slope of the least-squares line through `(x, y)`; `None` when it has none.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (mut up, mut across) = (0.0, 0.0);
    for point in points {
        up += (point.0 - x) * (point.1 - y);
        across += (point.0 - x).powi(2);
    }
    (across > 0.0).then(|| up / across)
}

/// The value below which a share of the values lie; the values in any order.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let rank = (0..=last).find(|rank| *rank as f64 >= share * last as f64)?;
    sorted.get(rank).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_differ_by_one_percent_say_so_and_are_sure_of_it() {
        let ratio = paired_ratio(&[(99.0, 100.0), (198.0, 200.0), (49.5, 50.0)]).expect("a ratio");
        assert!((ratio.mean - 0.99).abs() < 1e-9 && (ratio.high - ratio.low).abs() < 1e-9, "{ratio:?}");
        let noisy = paired_ratio(&[(90.0, 100.0), (110.0, 100.0), (100.0, 100.0)]).expect("a ratio");
        assert!(noisy.low < 0.99 && noisy.high > 1.01, "{noisy:?}");
        assert_eq!(paired_ratio(&[(1.0, 1.0), (0.0, 1.0)]), None);
    }

    #[test]
    fn a_line_has_its_slope_and_a_point_has_none() {
        let points: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 3.0 - 2.0 * f64::from(x))).collect();
        assert!((slope(&points).expect("a slope") + 2.0).abs() < 1e-9);
        assert_eq!(slope(&points[..1]), None);
    }

    #[test]
    fn half_of_the_values_lie_below_the_median() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
