//! Durations as Go writes them: `1h2m3.5s`, `200ms`, `20us`.
//!
//! A number without a unit is refused, except `0`; so is a negative one, which no setting here means.

use std::time::Duration;

/// What Go can hold: the largest 64-bit count of nanoseconds, about 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

const UNITS: [(&str, u128); 8] = [
    // The longer spellings first: `ms` also starts with `m`.
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a Go duration; `None` if it is none, is negative or is over 292 years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, size) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(*size)?)?.checked_add(part(fraction, *size))?;
        if nanos > MAX_NANOS {
            return None;
        }
        rest = &after[unit.len()..];
        if rest.is_empty() {
            return Some(Duration::from_nanos(u64::try_from(nanos).ok()?));
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The nanoseconds in the digits after the point; what is below a nanosecond is cut off.
fn part(fraction: &str, size: u128) -> u128 {
    let mut nanos = 0;
    let mut scale: u128 = 1;
    // Hours have 13 digits of nanoseconds; digits after them cannot count.
    for digit in fraction.bytes().take(18) {
        scale *= 10;
        nanos += u128::from(digit - b'0') * (size * 1_000_000_000 / scale);
    }
    nanos / 1_000_000_000
}

/// Writes a duration as Go does, in a form that [`parse_duration`] reads back to the same value.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    let seconds = duration.as_secs();
    if seconds == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => decimal(u64::from(nanos), 1_000, "us"),
            _ => decimal(u64::from(nanos), 1_000_000, "ms"),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let hours = if hours > 0 { format!("{hours}h") } else { String::new() };
    let minutes = if minutes > 0 { format!("{minutes}m") } else { String::new() };
    let rest = seconds % 60 * 1_000_000_000 + u64::from(nanos);
    let rest = if rest > 0 { decimal(rest, 1_000_000_000, "s") } else { String::new() };
    [hours, minutes, rest].concat()
}

fn decimal(value: u64, unit: u64, name: &str) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => format!("{}{name}", value / unit),
        fraction => format!("{}.{fraction}{name}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{format_duration, parse_duration};

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("1h2m3.5s", 3_723_500_000_000),
            ("200ms", 200_000_000),
            ("20us", 20_000),
            ("20\u{b5}s", 20_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5m", 300_000_000_000),
            ("1m1m", 120_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
        ] {
            let expected = Some(Duration::from_nanos(nanos));
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for text in [
            "",
            "5",
            "-5s",
            "s",
            ".",
            ".s",
            "5 s",
            "5x",
            "5sm",
            "1d",
            "9999999999h",
            "99999999999999999999999999999999999999999h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            let small = Duration::from_nanos(nanos % 1_000_000_007);
            prop_assert_eq!(parse_duration(&format_duration(small)), Some(small));
        }

        #[test]
        fn any_text_is_read_or_refused_as_a_duration(text in "\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
