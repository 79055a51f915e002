//! When a replica is looked at: shortly before the beat that is on its way should arrive, and then ever more rarely. At rest
//! that is one statement a beat.

use std::time::{Duration, Instant};

use super::delay::{CLOSE, Track};

/// Looks begin so much earlier than the last beat took, as a multiple of how much arrivals differ. The first look then
/// mostly comes before the beat.
const EARLY: f64 = 3.0;
/// Time between looks while the beat is expected: this part of what arrivals differ by, or of what the last took.
const FINE: (f64, f64) = (0.5, 0.03);
/// Time between looks, as a part of the beat's age: for a beat that is late, and where it is not known what they take.
const COARSE: (f64, f64) = (0.1, 0.2);
/// Looks are never closer; the timer's resolution.
pub(super) const CLOSEST: Duration = Duration::from_millis(1);

/// How far apart looks may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Not closer: what a look takes has its share too.
    pub(super) least: Duration,
    /// Not further while a beat is missing.
    pub(super) most: Duration,
}

/// When to look for the beat that was written at `missing`, after a look at `looked`.
pub(super) fn due(track: &Track, missing: Instant, looked: Option<Instant>, bounds: Bounds) -> Instant {
    let age = looked.map_or(Duration::ZERO, |looked| looked.saturating_duration_since(missing));
    let (first, spacing) = match track.took {
        // One look tells it well enough.
        Some(took) if track.is_close && took <= CLOSE.0 => (took, age.mul_f64(COARSE.0)),
        Some(took) if track.is_close => {
            let early = track.jitter.mul_f64(EARLY) + CLOSEST;
            let is_expected = age <= took + early;
            let fine = track.jitter.mul_f64(FINE.0).max(took.mul_f64(FINE.1)).max(CLOSE.0);
            (took.saturating_sub(early), if is_expected { fine } else { age.mul_f64(COARSE.0) })
        }
        _ => (Duration::ZERO, age.mul_f64(COARSE.1)),
    };
    let first = missing + first;
    match looked {
        Some(looked) if looked >= first => looked + spacing.min(bounds.most).max(bounds.least),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const BOUNDS: Bounds = Bounds { least: CLOSEST, most: Duration::from_secs(1) };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Looks at beats that are written once a second and take these many milliseconds, and the delays that come of it.
    fn follow(takes: &[u64]) -> (usize, Vec<u64>) {
        let begin = Instant::now();
        let (mut track, mut looked, mut looks, mut found) = (Track::new(Uuid::nil()), None, 0, Vec::new());
        for (number, takes) in (1..).zip(takes) {
            let written = begin + ms(1000) * u32::try_from(number).unwrap();
            while track.seen.is_none_or(|(seen, _)| seen < number) {
                let at = due(&track, written, looked, BOUNDS);
                looks += 1;
                if at >= written + ms(*takes) {
                    track.look(number, written, at, looked);
                }
                looked = Some(at);
            }
            found.push(track.took.map_or(u64::MAX, |took| u64::try_from(took.as_millis()).unwrap()));
        }
        (looks, found)
    }

    #[test]
    fn at_rest_there_are_few_looks_and_the_delay_is_close() {
        for takes in [1, 20, 60, 900] {
            let (looks, found) = follow(&[takes; 200]);
            let off = found[5..].iter().map(|found| found.abs_diff(takes)).max().unwrap();
            assert!(off <= 1 + takes / 40, "{takes} ms: {found:?}");
            assert!(looks <= 200 * 4, "{looks} looks at 200 beats of {takes} ms");
        }
    }

    #[test]
    fn delays_that_differ_from_beat_to_beat_are_found_in_few_looks() {
        let takes: Vec<u64> = (0..100_u64).map(|beat| 50 + beat * 7919 % 20).collect();
        let (looks, found) = follow(&takes);
        let off: u64 = found.iter().zip(&takes).map(|(found, takes)| found.abs_diff(*takes)).sum();
        assert!(off <= 200, "off by {off} ms in 100 beats");
        assert!(looks <= 100 * 15, "{looks} looks at 100 beats");
    }

    #[test]
    fn a_delay_that_falls_at_once_is_found_with_the_next_beat() {
        let (_, found) = follow(&[900, 900, 900, 3, 3, 3]);
        assert!((800..=1000).contains(&found[2]), "{found:?}");
        assert!(found[4] <= 5, "{found:?}");
    }

    #[test]
    fn a_beat_that_does_not_come_is_looked_for_ever_more_rarely() {
        let begin = Instant::now();
        let (track, mut looked, mut looks) = (Track::new(Uuid::nil()), None, 0);
        while looked.is_none_or(|looked| looked < begin + ms(60_000)) {
            looked = Some(due(&track, begin, looked, BOUNDS));
            looks += 1;
        }
        assert!((60..120).contains(&looks), "{looks} looks in a minute");
    }
}
