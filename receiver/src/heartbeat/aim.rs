//! When a replica is looked at: shortly before the beat that is on its way should arrive, and then ever more rarely. At rest
//! that is one statement a beat.

use std::time::{Duration, Instant};

use super::delay::Track;

/// Looks begin at this part of what the last beat took, so that the first one mostly comes before the beat.
const EARLY: f64 = 0.8;
/// Time between two looks, as a part of the beat's age: while it is known what the last took, and while it is not.
const SPACING: (f64, f64) = (0.1, 0.2);
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
    let (early, spacing) = match track.took {
        Some(took) if track.is_close => (took.mul_f64(EARLY), SPACING.0),
        _ => (Duration::ZERO, SPACING.1),
    };
    let first = missing + early;
    match looked {
        Some(looked) if looked >= first => {
            let age = looked.saturating_duration_since(missing);
            looked + age.mul_f64(spacing).min(bounds.most).max(bounds.least)
        }
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
        let (looks, found) = follow(&[20; 50]);
        assert!(found.iter().all(|found| (19..=22).contains(found)), "{found:?}");
        assert!(looks <= 50 * 5, "{looks} looks at 50 beats");
        let (looks, found) = follow(&[1; 50]);
        assert!(found.iter().all(|found| *found <= 2), "{found:?}");
        assert!(looks <= 100, "{looks} looks at 50 beats");
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
