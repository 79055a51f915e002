//! The buckets of durations: the mirror of `bpf/histogram.h`, and its proof. Counts nothing itself.

/// Buckets per power of two = 2^2.
pub const DURATION_SCALE: i32 = 2;
/// The index of the first bucket: it begins above 2^-20 s.
pub const DURATION_OFFSET: i32 = -20 << DURATION_SCALE;
/// Buckets up to 2^4 s.
pub const DURATION_BUCKETS: usize = (4 + 20) << DURATION_SCALE;
/// The lower bound of the first bucket, exactly. No duration of whole nanoseconds is equal to it.
pub const DURATION_ZERO_SECONDS: f64 = 1.0 / 1_048_576.0;
/// The longest duration that has no bucket: floor(2^-20 s).
pub(crate) const DURATION_ZERO_NS: u64 = 953;

/// The kernel's own table: the largest whole number of ns in each bucket.
const BOUNDS: [u64; DURATION_BUCKETS] = numbers_between_braces(include_str!("../bpf/bounds.h"));

const fn numbers_between_braces(text: &str) -> [u64; DURATION_BUCKETS] {
    let text = text.as_bytes();
    let mut found = [0; DURATION_BUCKETS];
    let (mut at, mut count) = (0, 0);
    while text[at] != b'{' {
        at += 1;
    }
    while text[at] != b'}' {
        match text[at] {
            digit @ b'0'..=b'9' => found[count] = found[count] * 10 + (digit - b'0') as u64,
            b',' => count += 1,
            _ => {}
        }
        at += 1;
    }
    assert!(count == DURATION_BUCKETS);
    found
}

/// The index of the `OpenTelemetry` base-2 exponential bucket of scale 2 that holds `ns`, in seconds:
/// (2^(i/4) s, 2^((i+1)/4) s]. What is longer than 2^4 s is in the last one. `None` up to 2^-20 s.
pub fn bucket_index(ns: u64) -> Option<i32> {
    if ns <= DURATION_ZERO_NS {
        return None;
    }
    let place = bucket_of(ns).min(DURATION_BUCKETS - 1);
    i32::try_from(place).ok().map(|place| DURATION_OFFSET + place)
}

/// As the kernel computes it, from the power of two of ns.
fn bucket_of(ns: u64) -> usize {
    let exponent = (ns | 1024).ilog2() as usize;
    let first = (exponent << DURATION_SCALE) - 40;
    let Some(bounds) = BOUNDS.get(first..first + 4) else { return DURATION_BUCKETS - 1 };
    first + bounds.iter().filter(|bound| **bound < ns).count()
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    /// A number of 320 bits, the lowest word first.
    type Big = [u64; 5];

    fn times(mut big: Big, factor: u64) -> Big {
        let mut carry = 0;
        for word in &mut big {
            let product = u128::from(*word) * u128::from(factor) + carry;
            *word = u64::try_from(product & u128::from(u64::MAX)).unwrap();
            carry = product >> 64;
        }
        assert_eq!(carry, 0, "more than 320 bits");
        big
    }

    fn product(factors: impl IntoIterator<Item = u64>) -> Big {
        factors.into_iter().fold([1, 0, 0, 0, 0], times)
    }

    /// `ns` against 2^(index/4) s, exactly: both sides in ns and to the fourth power, without fractions.
    fn against(ns: u64, index: i32) -> Ordering {
        let twos = |exponent: i32| std::iter::repeat_n(2, usize::try_from(exponent.max(0)).unwrap());
        let left = product([ns; 4].into_iter().chain(twos(-index)));
        let right = product([1_000_000_000; 4].into_iter().chain(twos(index)));
        left.iter().rev().cmp(right.iter().rev())
    }

    fn assert_holds(ns: u64) {
        let last = DURATION_OFFSET + 95;
        match bucket_index(ns) {
            None => assert_ne!(against(ns, DURATION_OFFSET), Ordering::Greater, "{ns} below all buckets"),
            Some(index) => {
                assert!((DURATION_OFFSET..=last).contains(&index));
                assert_eq!(
                    against(ns, index),
                    Ordering::Greater,
                    "{ns} above the bound below bucket {index}"
                );
                if index < last {
                    assert_ne!(against(ns, index + 1), Ordering::Greater, "{ns} within bucket {index}");
                }
            }
        }
    }

    #[test]
    fn bounds_are_the_largest_durations_of_their_buckets() {
        for (bound, index) in BOUNDS.into_iter().zip(DURATION_OFFSET + 1..) {
            assert_ne!(against(bound, index), Ordering::Greater, "{bound}");
            assert_eq!(against(bound + 1, index), Ordering::Greater, "{bound}");
            for ns in bound - 2..=bound + 2 {
                assert_holds(ns);
            }
        }
    }

    #[test]
    fn seconds_are_upper_bounds_and_the_ends_are_open() {
        assert_eq!(bucket_index(0), None);
        assert_eq!(bucket_index(DURATION_ZERO_NS), None);
        assert_eq!(bucket_index(DURATION_ZERO_NS + 1), Some(DURATION_OFFSET));
        assert_eq!(bucket_index(1_000_000_000), Some(-1));
        assert_eq!(bucket_index(1_000_000_001), Some(0));
        assert_eq!(bucket_index(16_000_000_000), Some(15));
        assert_eq!(bucket_index(16_000_000_001), Some(15));
        assert_eq!(bucket_index(u64::MAX), Some(15));
    }

    #[test]
    fn neighbours_of_every_power_of_two_of_ns_fall_on_their_side() {
        for shift in 2..63 {
            for ns in (1_u64 << shift) - 2..=(1 << shift) + 2 {
                assert_holds(ns.min(1 << 44));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_bucket_holds_its_duration_exactly(ns in any::<u64>(), shift in 20_u32..64) {
            assert_holds(ns >> shift);
        }
    }
}
