//! The buckets of durations: the mirror of `bpf/histogram.h`, and its proof. Counts nothing itself.

/// Buckets per power of two = 2^2.
pub const DURATION_SCALE: i32 = 2;
/// The index of the first bucket: it begins above 2^10 ns.
pub const DURATION_OFFSET: i32 = 10 << DURATION_SCALE;
/// Buckets up to 2^34 ns, 17 s.
pub const DURATION_BUCKETS: usize = (34 - 10) << DURATION_SCALE;

/// ceil(2^(63 + n/4)) for n = 1, 2, 3.
const QUARTERS: [u64; 3] = [0x9837_f051_8db8_a970, 0xb504_f333_f9de_6485, 0xd744_fcca_d69d_6af5];

/// The index of the `OpenTelemetry` base-2 exponential bucket of scale 2 that holds `value`: (2^(i/4), 2^((i+1)/4)].
/// `None` for 0, which has no bucket.
pub fn bucket_index(value: u64) -> Option<i32> {
    let exponent = value.checked_ilog2()?;
    let mut index = i32::try_from(exponent << 2).ok()?;
    if value.is_power_of_two() {
        return Some(index - 1);
    }
    let top = value << value.leading_zeros();
    for quarter in QUARTERS {
        index += i32::from(top >= quarter);
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    /// value^4 against 2^exponent, exactly: as high and low halves of 256 bits.
    fn fourth_power_against(value: u64, exponent: u32) -> Ordering {
        if exponent >= 256 {
            return Ordering::Less;
        }
        let square = u128::from(value) * u128::from(value);
        let (high, low) = (square >> 64, square & u128::from(u64::MAX));
        let cross = high * low;
        // square^2 = high^2 2^128 + 2 high low 2^64 + low^2; twice cross, shifted by 64, is cross shifted by 65.
        let (middle_low, middle_high) = (cross << 65, cross >> 63);
        let (bottom, carry) = (low * low).overflowing_add(middle_low);
        let top = high * high + middle_high + u128::from(carry);
        let (want_top, want_bottom) =
            if exponent >= 128 { (1_u128 << (exponent - 128), 0) } else { (0, 1_u128 << exponent) };
        (top, bottom).cmp(&(want_top, want_bottom))
    }

    fn assert_holds(value: u64) {
        let index = u32::try_from(bucket_index(value).unwrap().max(0)).unwrap();
        if value > 1 {
            assert_eq!(fourth_power_against(value, index), Ordering::Greater, "{value} above bucket {index}");
        }
        assert_ne!(
            fourth_power_against(value, index + 1),
            Ordering::Greater,
            "{value} within bucket {index}"
        );
    }

    #[test]
    fn zero_has_no_bucket_and_one_is_an_upper_bound() {
        assert_eq!(bucket_index(0), None);
        assert_eq!(bucket_index(1), Some(-1));
        assert_eq!(bucket_index(1024), Some(DURATION_OFFSET - 1));
        assert_eq!(bucket_index(1025), Some(DURATION_OFFSET));
        assert_eq!(bucket_index(1 << 34), Some(DURATION_OFFSET + 95));
    }

    #[test]
    fn neighbours_of_every_bound_fall_on_their_side() {
        for shift in 1..62 {
            for quarter in QUARTERS {
                let bound = quarter >> (63 - shift);
                for value in bound.saturating_sub(2).max(2)..=bound + 2 {
                    assert_holds(value);
                }
            }
            for value in (1_u64 << shift).saturating_sub(2).max(2)..=(1 << shift) + 2 {
                assert_holds(value);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_bucket_holds_its_value_exactly(value in 1_u64.., shift in 0_u32..63) {
            assert_holds((value >> shift).max(1));
        }
    }
}
