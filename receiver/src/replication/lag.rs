//! The one canonical lag of a channel: how old is the oldest change that the primary has made durable and this replica
//! has not applied? Pure; it is told positions and times, and keeps the timelines.

use std::time::Duration;

use super::timeline::{Passed, Timeline};

/// What a lag was measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The primary's flushed position over time.
    Primary,
    /// The position received by this replica over time: blind to a link that stalls.
    Local,
    /// The engine's own word, until a timeline is long enough.
    Engine,
}

impl Source {
    /// Value of `blameio.lag.source`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Local => "local",
            Self::Engine => "engine",
        }
    }
}

/// Positions of a replica at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Positions {
    /// When, in seconds on the clock of the timelines.
    pub(super) at: f64,
    /// Received and flushed.
    pub(super) received: Option<u64>,
    /// Applied.
    pub(super) replayed: Option<u64>,
    /// Age of the last commit that was applied, as the engine says.
    pub(super) commit_age: Option<Duration>,
    /// Timeline that is being received; `None` while nothing is, and where the role may not see it.
    pub(super) timeline: Option<u32>,
}

/// A lag, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lag {
    /// All of it.
    pub(super) total: f64,
    /// The part that has not arrived; `None` where nothing can tell, never 0 for want of knowledge.
    pub(super) transport: Option<f64>,
    /// What it was measured with.
    pub(super) source: Source,
    /// Held from before, because nothing can be measured now.
    pub(super) stale: bool,
}

/// The lag without the delay that the operator asked for, and its stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stages {
    /// All of it.
    pub(super) total: f64,
    /// What has not arrived, where that is known.
    pub(super) transport: Option<f64>,
    /// What has arrived and is not applied. The stages always add up.
    pub(super) apply: f64,
}

impl Lag {
    /// Takes off the intended delay. It runs from the primary's commit, so the transport lies within it.
    pub(super) fn stages(&self, intended: Duration) -> Stages {
        let total = (self.total - intended.as_secs_f64()).max(0.0);
        let transport = self.transport.map(|transport| transport.min(total));
        Stages { total, transport, apply: total - transport.unwrap_or(0.0) }
    }
}

/// Without a look at the primary for so long, what it has made durable since is not known.
const PRIMARY_SILENCE: f64 = 2.0;

/// Whether the replica has the primary's history, as far as their positions tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum History {
    #[default]
    Unknown,
    /// What the replica had applied, the primary has.
    Same,
    /// The replica has applied what the primary does not have.
    Other,
}

/// Measures one channel.
#[derive(Debug, Default)]
pub(super) struct LagMeter {
    primary: Timeline,
    primary_seen: Option<f64>,
    primary_timeline: Option<u32>,
    /// The last one that the replica was seen to receive.
    timeline: Option<u32>,
    history: History,
    /// When the replica had applied what; the primary must have it later.
    applied: Option<(f64, u64)>,
    local: Timeline,
    /// Since when the change that is waited for has been older than the timelines.
    engine_since: Option<f64>,
    last: Option<Lag>,
}

/// The engine's word is taken when the timelines have been too short for so long: a moment of lag after hours of rest
/// would be told as hours, since the engine knows only the age of what was applied last.
const ENGINE_PATIENCE: f64 = 1.5;

impl LagMeter {
    /// A look at the primary.
    pub(super) fn primary(&mut self, at: f64, flushed: u64, timeline: u32) {
        if self.primary_timeline.replace(timeline).is_some_and(|before| before != timeline) {
            // Another history: positions of the one say nothing of the other.
            self.primary = Timeline::default();
            (self.history, self.applied) = (History::Unknown, None);
        }
        // Looks end within a second, so that none takes the one for later than the other that was not.
        if let Some((_, applied)) = self.applied.take_if(|(since, _)| at - *since > PRIMARY_SILENCE) {
            if applied > flushed {
                self.history = History::Other;
            } else if self.history == History::Unknown {
                self.history = History::Same;
            }
        }
        self.primary.record(at, flushed);
        self.primary_seen = Some(at);
    }

    /// A look at the replica.
    pub(super) fn replica(&mut self, positions: &Positions) {
        if let Some(received) = positions.received {
            self.local.record(positions.at, received);
        }
        self.timeline = positions.timeline.or(self.timeline);
        if let Some(replayed) = positions.replayed {
            if self.applied.is_some_and(|(_, applied)| replayed < applied) && self.history == History::Other {
                // It was taken back to where the histories part.
                (self.history, self.applied) = (History::Unknown, None);
            }
            self.applied.get_or_insert((positions.at, replayed));
        }
    }

    /// The lag at a moment. With nothing to measure it by, the last value is held and said to be stale; `None` when
    /// there never was one.
    pub(super) fn measure(&mut self, positions: Option<&Positions>) -> Option<Lag> {
        let measured = positions.and_then(|positions| {
            self.by_primary(positions).or_else(|| {
                // A primary that was there and is silent is not replaced by a blinder source.
                if self.primary_seen.is_some() {
                    return None;
                }
                self.by_local(positions).or_else(|| self.by_engine(positions))
            })
        });
        let measured = measured.zip(positions).and_then(|(lag, positions)| {
            if lag.source != Source::Engine {
                self.engine_since = None;
                return Some(lag);
            }
            let since = *self.engine_since.get_or_insert(positions.at);
            (positions.at - since >= ENGINE_PATIENCE).then_some(lag)
        });
        self.last = measured.or_else(|| self.last.map(|last| Lag { stale: true, ..last }));
        self.last
    }

    /// A replica that follows another timeline than its primary writes is not in step, whatever the positions say. It
    /// may have no stream any more; then the last one counts. Where no timeline is ever told, positions have to do.
    fn has_primarys_history(&self) -> bool {
        let timelines = self.primary_timeline.zip(self.timeline);
        timelines.map_or(self.history == History::Same, |(primary, replica)| primary == replica)
    }

    fn by_primary(&self, positions: &Positions) -> Option<Lag> {
        // Whether nothing beyond what the primary told means nothing there is.
        let is_known = positions.at - self.primary_seen? <= PRIMARY_SILENCE;
        let replayed = positions.replayed?;
        if !self.has_primarys_history() {
            return None;
        }
        let total = match self.primary.passed(replayed) {
            Passed::At(at) => (positions.at - at).max(0.0),
            Passed::Before(began) => {
                return Some(engine(positions, began, positions.received));
            }
            Passed::NotYet if is_known => 0.0,
            Passed::NotYet => return None,
        };
        let transport =
            positions.received.and_then(|received| match self.primary.passed(received.max(replayed)) {
                Passed::At(at) | Passed::Before(at) => Some((positions.at - at).clamp(0.0, total)),
                Passed::NotYet => is_known.then_some(0.0),
            });
        Some(Lag { total, transport, source: Source::Primary, stale: false })
    }

    /// A replica that has never had a stream tells no position that it received: the age of the last commit that it
    /// applied is all there is, and on a quiet primary it grows though nothing is behind.
    fn by_engine(&self, positions: &Positions) -> Option<Lag> {
        if positions.received.is_some() || self.last.is_some_and(|last| last.source != Source::Engine) {
            return None;
        }
        let total = positions.commit_age?.as_secs_f64();
        Some(Lag { total, transport: None, source: Source::Engine, stale: true })
    }

    fn by_local(&self, positions: &Positions) -> Option<Lag> {
        let replayed = positions.replayed?;
        positions.received?;
        match self.local.passed(replayed) {
            Passed::At(at) => Some(Lag {
                total: (positions.at - at).max(0.0),
                transport: None,
                source: Source::Local,
                stale: false,
            }),
            Passed::Before(began) => Some(engine(positions, began, positions.received)),
            Passed::NotYet => Some(Lag { total: 0.0, transport: None, source: Source::Local, stale: false }),
        }
    }
}

/// The change is older than the timeline: at least as old as that, and as old as the engine says if that is more.
fn engine(positions: &Positions, began: f64, received: Option<u64>) -> Lag {
    let at_least = (positions.at - began).max(0.0);
    let behind = received.zip(positions.replayed).is_none_or(|(received, replayed)| received > replayed);
    let commit_age = positions.commit_age.filter(|_| behind).map_or(0.0, |age| age.as_secs_f64());
    Lag { total: at_least.max(commit_age), transport: None, source: Source::Engine, stale: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: f64, received: u64, replayed: u64) -> Positions {
        Positions {
            at,
            received: Some(received),
            replayed: Some(replayed),
            commit_age: None,
            timeline: Some(1),
        }
    }

    fn meter() -> LagMeter {
        let mut meter = LagMeter::default();
        meter.replica(&at(0.0, 0, 0));
        for second in 0..=10 {
            meter.primary(f64::from(second), 100 * u64::try_from(second).unwrap(), 1);
        }
        meter
    }

    #[test]
    fn the_stages_add_up_to_the_age_of_the_oldest_change_that_is_not_applied() {
        let lag = meter().measure(Some(&at(10.0, 750, 250))).unwrap();
        assert!((lag.total - 7.5).abs() < 1e-9);
        assert!((lag.transport.unwrap() - 2.5).abs() < 1e-9);
        let stages = lag.stages(Duration::ZERO);
        assert!((stages.apply - 5.0).abs() < 1e-9);
        assert_eq!(lag.source, Source::Primary);
    }

    #[test]
    fn an_intended_delay_is_no_lag_and_holds_the_transport_within_it() {
        let lag = Lag { total: 10.0, transport: Some(3.0), source: Source::Primary, stale: false };
        let stages = lag.stages(Duration::from_secs(10));
        assert_eq!(stages, Stages { total: 0.0, transport: Some(0.0), apply: 0.0 });
        let stages = lag.stages(Duration::from_secs(5));
        assert_eq!(stages, Stages { total: 5.0, transport: Some(3.0), apply: 2.0 });
    }

    #[test]
    fn an_idle_primary_is_no_lag() {
        let mut meter = meter();
        meter.primary(60.0, 1000, 1);
        assert_eq!(meter.measure(Some(&at(60.0, 1000, 1000))).unwrap().total, 0.0);
    }

    #[test]
    fn without_the_primary_there_is_no_transport_rather_than_one_of_zero() {
        let mut meter = LagMeter::default();
        meter.replica(&at(0.0, 100, 100));
        meter.replica(&at(1.0, 200, 100));
        let lag = meter.measure(Some(&at(3.0, 200, 150))).unwrap();
        assert_eq!(lag.transport, None);
        assert!((lag.total - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_lag_from_before_the_start_is_the_engines_and_marked_so() {
        let mut meter = meter();
        meter.primary = Timeline::default();
        meter.primary(10.0, 1000, 1);
        let positions = |now| Positions { commit_age: Some(Duration::from_secs(40)), ..at(now, 1000, 50) };
        assert_eq!(meter.measure(Some(&positions(11.0))), None, "not at the first look");
        let lag = meter.measure(Some(&positions(13.0))).unwrap();
        assert_eq!((lag.total, lag.source), (40.0, Source::Engine));
    }

    #[test]
    fn for_want_of_knowledge_the_lag_is_held_and_stale_and_never_falls_to_zero() {
        let mut meter = meter();
        let known = meter.measure(Some(&at(10.0, 700, 250))).unwrap();
        let held = meter.measure(None).unwrap();
        assert!(held.stale);
        assert_eq!(held.total, known.total);
        // Everything that the silent primary ever told is applied: what it did since is not known.
        assert!(meter.measure(Some(&at(30.0, 1000, 1000))).unwrap().stale);
    }

    #[test]
    fn of_a_silent_primary_nobody_says_that_nothing_is_on_its_way() {
        let mut meter = meter();
        assert_eq!(meter.measure(Some(&at(12.0, 1000, 250))).unwrap().transport, Some(0.0));
        let lag = meter.measure(Some(&at(13.0, 1000, 250))).unwrap();
        assert_eq!((lag.transport, lag.stale), (None, false));
        assert!((lag.total - 10.5).abs() < 1e-9);
        // What has not arrived of what it did tell is known.
        let lag = meter.measure(Some(&at(13.0, 750, 250))).unwrap();
        assert!((lag.transport.unwrap() - 5.5).abs() < 1e-9);
    }

    #[test]
    fn without_stream_and_primary_the_engines_word_is_told_and_never_fresh() {
        let mut meter = LagMeter::default();
        let positions = |now: f64| Positions {
            at: now,
            replayed: Some(100),
            commit_age: Some(Duration::from_secs_f64(now)),
            ..Positions::default()
        };
        meter.measure(Some(&positions(1.0)));
        let lag = meter.measure(Some(&positions(3.0))).unwrap();
        assert_eq!((lag.total, lag.source, lag.stale), (3.0, Source::Engine, true));
        let lag = meter.measure(Some(&positions(8.0))).unwrap();
        assert_eq!((lag.total, lag.stale), (8.0, true));
    }

    #[test]
    fn a_stream_that_was_lost_for_an_archive_holds_its_lag() {
        let mut meter = LagMeter::default();
        meter.replica(&at(0.0, 100, 100));
        meter.replica(&at(1.0, 200, 100));
        let known = meter.measure(Some(&at(3.0, 200, 150))).unwrap();
        let archive =
            Positions { received: None, commit_age: Some(Duration::from_mins(1)), ..at(9.0, 0, 180) };
        let held = meter.measure(Some(&archive)).unwrap();
        assert_eq!((held.total, held.stale), (known.total, true));
    }

    #[test]
    fn a_replica_on_another_timeline_is_stale_and_not_in_step() {
        let mut meter = meter();
        meter.measure(Some(&at(10.0, 700, 250))).unwrap();
        meter.primary(11.0, 500, 2);
        let lag = meter.measure(Some(&at(11.0, 900, 900))).unwrap();
        assert!(lag.stale && lag.total > 0.0, "{lag:?}");
    }

    /// Lags told every 100 ms of a replica at `replayed(seconds)`, whose primary has another timeline from 20 s on, that
    /// parts from the one before at 1900.
    fn of_a_failover(timeline: Option<u32>, replayed: impl Fn(u64) -> u64) -> Vec<(u64, Option<Lag>)> {
        let mut meter = LagMeter::default();
        let lag = |tick: u64| {
            let (now, second) = (tick as f64 / 10.0, tick / 10);
            let timeline = timeline.filter(|_| second < 20);
            let (flushed, written) =
                if second < 20 { (100 * second, 1) } else { (1900 + 10 * (second - 20), 2) };
            let replayed = replayed(second);
            meter.replica(&Positions { timeline, ..at(now, replayed, replayed) });
            meter.primary(now, flushed, written);
            (second, meter.measure(Some(&Positions { timeline, ..at(now, replayed, replayed) })))
        };
        (0..600).map(lag).collect()
    }

    #[test]
    fn a_replica_on_a_dead_branch_is_never_in_step_whether_or_not_its_timeline_is_told() {
        for timeline in [Some(1), None] {
            // It has 95 bytes that the new primary never had, until others are there in their place.
            for (second, lag) in of_a_failover(timeline, |second| (100 * second).min(1995)) {
                let lag = lag.filter(|lag| !lag.stale);
                assert!(second < 20 || lag.is_none(), "{timeline:?}, {second} s: {lag:?}");
                assert!(lag.is_some() || !(3..20).contains(&second), "{timeline:?}, {second} s: nothing");
            }
        }
    }

    #[test]
    fn a_replica_that_follows_the_new_primary_is_measured_though_its_timeline_is_never_told() {
        let follows =
            |second: u64| if second < 20 { (100 * second).min(1900) } else { 1900 + 10 * (second - 20) };
        for (second, lag) in of_a_failover(None, follows) {
            let fresh = lag.filter(|lag| !lag.stale);
            assert!(fresh.is_some() || second < 3 || (20..25).contains(&second), "{second} s: {lag:?}");
        }
    }

    #[test]
    fn nothing_is_said_before_anything_is_known() {
        assert_eq!(LagMeter::default().measure(None), None);
    }
}
