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
    /// Whether there is a stream.
    pub(super) streaming: bool,
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

/// Without a look at the primary for so long, what it has made durable since is not known; without a stream, what there is
/// to be received.
const SILENCE: f64 = 2.0;

/// Whether the replica has the primary's history, as far as their positions tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum History {
    /// What the replica had applied, the primary has; so it is taken to be before anything is known.
    #[default]
    Same,
    /// The primary has changed since.
    Unknown,
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
    /// When log was last seen to come by a stream.
    streamed: Option<f64>,
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
        if let Some((_, applied)) = self.applied.take_if(|(since, _)| at - *since > SILENCE) {
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
        // The position received stays where a stream ended, and an archive takes replay past it; so it seems for a moment with
        // a stream too, as replay is looked at just after what was received.
        if positions.streaming && positions.received.is_some() && positions.received >= positions.replayed {
            self.streamed = Some(positions.at);
        }
        if let Some(replayed) = positions.replayed {
            if self.applied.is_some_and(|(_, applied)| replayed < applied) && self.history == History::Other {
                // It was taken back to where the histories part.
                (self.history, self.applied) = (History::Unknown, None);
            }
            self.applied.get_or_insert((positions.at, replayed));
        }
    }

    /// Whether what was received is all that there is to be known of, without the primary.
    fn streams(&self, at: f64) -> bool {
        self.streamed.is_some_and(|seen| at - seen <= SILENCE)
    }

    /// The position received by a stream. What replay had before, from files of its own, does not come anew.
    pub(super) fn received(&self, positions: &Positions) -> Option<u64> {
        let received = positions.received.filter(|_| self.streams(positions.at))?;
        Some(received.max(positions.replayed.unwrap_or(0)))
    }

    /// Bytes received and not applied; `None` where what was received says nothing.
    pub(super) fn backlog(&self, positions: &Positions) -> Option<u64> {
        let (received, replayed) = positions.received.zip(positions.replayed)?;
        let tells = received > replayed || self.streams(positions.at);
        tells.then(|| received.saturating_sub(replayed))
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
        let is_known = positions.at - self.primary_seen? <= SILENCE;
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

    /// Of a replica that was never seen to have a stream, the age of the last commit that it applied is all there is, and on
    /// a quiet primary it grows though nothing is behind.
    fn by_engine(&self, positions: &Positions) -> Option<Lag> {
        if self.streams(positions.at) || self.last.is_some_and(|last| last.source != Source::Engine) {
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
            Passed::NotYet => self.streams(positions.at).then_some(Lag {
                total: 0.0,
                transport: None,
                source: Source::Local,
                stale: false,
            }),
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
mod tests;
