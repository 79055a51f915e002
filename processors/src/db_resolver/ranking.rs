//! Which objects have series of their own when not all fit: the busiest, with hysteresis. It knows of series only how
//! many an object has and was refused; the rest of an object's work is counted in `(other)`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::point::Resolved;

/// Metrics by which activity is measured: the positions of the table of resolved metrics.
pub(super) const MEASURES: usize = 10;

/// What an object did weighs half after so long.
const HALF_LIFE_SECONDS: f64 = 60.0;

/// Between two rankings, in nanoseconds.
const PERIOD: u64 = 10_000_000_000;

/// An object that has series is displaced only by one that is busier by this factor.
const HYSTERESIS: f64 = 1.5;

/// Objects whose activity is remembered, for each series that there may be.
const CANDIDATES: usize = 4;

/// Below this share of all activity an object without series is forgotten.
const FORGOTTEN: f64 = 1e-9;

#[derive(Debug, Default)]
struct Standing {
    activity: [f64; MEASURES],
    chosen: bool,
    /// Series that did not fit since the last ranking, by their hashes.
    refused: HashSet<u64>,
}

/// Activity of the objects of one server.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    objects: HashMap<Arc<Resolved>, Standing>,
    /// Somebody was refused: room is for those who were chosen.
    crowded: bool,
    ranked_at: u64,
}

impl Ranking {
    /// An object did something. `limit` is how many may have series.
    pub(super) fn did(&mut self, object: &Arc<Resolved>, measure: usize, amount: f64, limit: usize) {
        if !self.objects.contains_key(object) {
            if self.objects.len() >= limit.saturating_mul(CANDIDATES) {
                self.thin_out();
            }
            self.objects.insert(Arc::clone(object), Standing::default());
        }
        if let Some(standing) = self.objects.get_mut(object) {
            standing.activity[measure] += amount;
        }
    }

    /// Forgets the half of those without series that did less, so that a flood of files that are touched once does not
    /// keep out one that stays.
    fn thin_out(&mut self) {
        let scores = self.scores(1.0);
        let mut without: Vec<(f64, Arc<Resolved>)> = scores
            .into_iter()
            .filter(|(object, _)| !self.has(object))
            .map(|(object, score)| (score, object))
            .collect();
        without.sort_by(|left, right| left.0.total_cmp(&right.0).then_with(|| left.1.cmp(&right.1)));
        let half = without.len().div_ceil(2);
        for (_, object) in without.into_iter().take(half) {
            self.objects.remove(&object);
        }
    }

    /// Whether a new series of this object may be kept, where there is room for one at all.
    pub(super) fn admits(&mut self, object: &Resolved, series: u64, room: bool) -> bool {
        let Some(standing) = self.objects.get_mut(object) else {
            self.crowded |= !room;
            return room && !self.crowded;
        };
        if room && (standing.chosen || !self.crowded) {
            standing.chosen = true;
            return true;
        }
        standing.refused.insert(series);
        self.crowded = true;
        false
    }

    /// Whether this object has been given room.
    pub(super) fn has(&self, object: &Resolved) -> bool {
        self.objects.get(object).is_some_and(|standing| standing.chosen)
    }

    /// How many objects have been given room.
    pub(super) fn chosen(&self) -> usize {
        self.objects.values().filter(|standing| standing.chosen).count()
    }

    /// Whether it is time to rank anew; after a clock that was set back it is at once.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.ranked_at == 0 || now.abs_diff(self.ranked_at) >= PERIOD
    }

    /// Ranks anew, if it is time. `kept` are the series that objects have now; returned are the objects that lose theirs.
    pub(super) fn rank(
        &mut self,
        now: u64,
        limit: usize,
        kept: &HashMap<Arc<Resolved>, usize>,
    ) -> HashSet<Arc<Resolved>> {
        if self.ranked_at == 0 {
            self.ranked_at = now;
        }
        if !self.is_due(now) {
            return HashSet::new();
        }
        let seconds = now.saturating_sub(self.ranked_at) as f64 / 1e9;
        self.ranked_at = now;
        let scores = self.scores(0.5_f64.powf(seconds / HALF_LIFE_SECONDS));
        let score = |object: &Arc<Resolved>| scores.get(object).copied().unwrap_or(0.0);
        let mut used: usize = kept.values().sum();
        let mut weakest: Vec<(&Arc<Resolved>, usize)> =
            kept.iter().map(|(object, series)| (object, *series)).collect();
        weakest.sort_by(|left, right| score(right.0).total_cmp(&score(left.0)).then(right.0.cmp(left.0)));
        let mut leaving = HashSet::new();
        while used > limit {
            let Some((object, series)) = weakest.pop() else { break };
            leaving.insert(Arc::clone(object));
            used -= series;
        }
        let mut wanting: Vec<(Arc<Resolved>, usize)> = self
            .objects
            .iter()
            .filter(|(_, standing)| !standing.refused.is_empty())
            .map(|(object, standing)| (Arc::clone(object), standing.refused.len()))
            .collect();
        self.crowded = !wanting.is_empty() || !leaving.is_empty();
        wanting.sort_by(|left, right| score(&right.0).total_cmp(&score(&left.0)).then(left.0.cmp(&right.0)));
        let mut winners = HashSet::new();
        for (object, needed) in wanting {
            if leaving.contains(&object) {
                continue;
            }
            while used + needed > limit
                && let Some((weak, series)) = weakest.last().copied()
                && *weak != object
                && !winners.contains(weak)
                && score(weak) * HYSTERESIS < score(&object)
            {
                leaving.insert(Arc::clone(weak));
                used -= series;
                weakest.pop();
            }
            if used >= limit {
                break;
            }
            used += needed.min(limit - used);
            winners.insert(object);
        }
        for (object, standing) in &mut self.objects {
            standing.refused.clear();
            standing.chosen =
                winners.contains(object) || kept.contains_key(object) && !leaving.contains(object);
        }
        self.objects.retain(|object, standing| {
            standing.chosen || scores.get(object).is_some_and(|score| *score > FORGOTTEN)
        });
        leaving
    }

    /// Fades all activity; returns each object's share of it, summed over the measures.
    fn scores(&mut self, keep: f64) -> HashMap<Arc<Resolved>, f64> {
        let mut totals = [0.0; MEASURES];
        for standing in self.objects.values_mut() {
            for (activity, total) in standing.activity.iter_mut().zip(&mut totals) {
                *activity *= keep;
                *total += *activity;
            }
        }
        let shares = |activity: &[f64; MEASURES]| -> f64 {
            let pairs = activity.iter().zip(totals).filter(|(_, total)| *total > 0.0);
            pairs.map(|(activity, total)| activity / total).sum()
        };
        self.objects
            .iter()
            .map(|(object, standing)| (Arc::clone(object), shares(&standing.activity)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> Arc<Resolved> {
        Arc::new(Resolved::unresolved(name))
    }

    fn kept(names: &[&str]) -> HashMap<Arc<Resolved>, usize> {
        names.iter().map(|name| (object(name), 1)).collect()
    }

    #[test]
    fn who_is_much_busier_takes_the_place_and_who_is_as_busy_does_not() {
        let mut ranking = Ranking { ranked_at: 1, ..Ranking::default() };
        for (name, amount) in [("a", 100.0), ("b", 90.0)] {
            ranking.did(&object(name), 0, amount, 2);
            assert!(ranking.admits(&object(name), 0, true));
        }
        ranking.did(&object("c"), 0, 110.0, 2);
        assert!(!ranking.admits(&object("c"), 0, false));
        assert!(ranking.rank(1 + PERIOD, 2, &kept(&["a", "b"])).is_empty());
        ranking.did(&object("c"), 0, 100.0, 2);
        assert!(!ranking.admits(&object("c"), 0, false));
        assert_eq!(ranking.rank(1 + 2 * PERIOD, 2, &kept(&["a", "b"])), HashSet::from([object("b")]));
        assert!(!ranking.admits(&object("d"), 0, true), "the room is for who was chosen");
        assert!(ranking.admits(&object("c"), 0, true));
    }

    #[test]
    fn measures_in_different_units_weigh_the_same() {
        let mut ranking = Ranking { ranked_at: 1, ..Ranking::default() };
        ranking.did(&object("bytes"), 0, 1e9, 1);
        assert!(ranking.admits(&object("bytes"), 0, true));
        for measure in [1, 2] {
            ranking.did(&object("seconds"), measure, 0.5, 1);
        }
        assert!(!ranking.admits(&object("seconds"), 0, false));
        assert_eq!(ranking.rank(1 + PERIOD, 1, &kept(&["bytes"])), HashSet::from([object("bytes")]));
    }

    #[test]
    fn when_nobody_is_refused_any_more_there_is_room_for_all() {
        let mut ranking = Ranking { ranked_at: 1, ..Ranking::default() };
        ranking.did(&object("a"), 0, 1.0, 1);
        assert!(!ranking.admits(&object("a"), 0, false));
        ranking.rank(1 + PERIOD, 1, &HashMap::new());
        ranking.rank(1 + 2 * PERIOD, 1, &HashMap::new());
        ranking.did(&object("b"), 0, 1.0, 2);
        assert!(ranking.admits(&object("b"), 0, true));
    }
}
