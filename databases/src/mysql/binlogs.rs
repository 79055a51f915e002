//! Positions in binary logs as one number of bytes that grows.
//!
//! A position is a file and an offset in it; sizes of files that are over are needed to count from one to the next. The
//! server that is replicated from tells them; without it the most that was seen of a file stands for its size. Both sides
//! share what is known, so that the same position is the same number for both. A base that was given to a file never
//! changes, and a position is never taken past the base of the next file: so order is never violated, and what is wrong
//! is at most by how much two positions differ.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The base of the first file that is seen is its number in steps of so many bytes; files before one of unknown size are as
/// far apart.
const STEP: u64 = 1 << 32;
/// What separates the timelines of a server whose logs began anew.
const ANEW: u32 = 1 << 24;
/// How long a replica may be before what it had applied until the logs are taken for new ones: one that reconnects by GTID
/// begins at the head of a file and is at its place again at once.
const BACK: Duration = Duration::from_secs(10);
/// Most upstreams that are remembered; a replica of many sources has some dozens.
const UPSTREAMS: usize = 64;
/// Files of which nothing can be asked any more are forgotten, so many behind the newest.
const FILES: usize = 1_000;

/// A place in binary logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file's number, first for the sake of the order.
    pub(super) number: u64,
    pub(super) offset: u64,
    /// The file's name without the number.
    pub(super) name: String,
}

impl Place {
    /// Reads `name.000017` and an offset; `None` for an empty name.
    pub(super) fn read(file: &str, offset: u64) -> Option<Self> {
        let (name, number) = file.rsplit_once('.')?;
        Some(Self { number: number.parse().ok()?, offset, name: name.to_owned() })
    }
}

/// What a replica has, as one number each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replicated {
    pub(super) received: Option<u64>,
    pub(super) applied: u64,
    pub(super) timeline: u32,
}

#[derive(Debug, Default)]
struct File {
    base: Option<u64>,
    /// As the server told it, of a file that is over.
    size: Option<u64>,
    /// The most that was seen of it.
    seen: u64,
}

/// The logs of one server.
#[derive(Debug, Default)]
struct Logs {
    name: Option<String>,
    files: BTreeMap<u64, File>,
    /// Where the server itself last wrote.
    written: Option<(u64, u64)>,
    /// The furthest that the replica has applied, and as a number.
    applied: Option<((u64, u64), u64)>,
    /// Since when the replica is before that.
    back: Option<Instant>,
    /// How often they began anew.
    generation: u32,
}

#[derive(Debug, Default)]
struct State {
    /// The server that is replicated from, once it is known.
    upstream: Option<u32>,
    logs: HashMap<u32, Logs>,
}

/// The logs that a replica replicates. Shared with who asks the server that writes them.
#[derive(Debug, Default)]
pub(super) struct Binlogs(Mutex<State>);

impl Binlogs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that is replicated from, as the replica tells.
    pub(super) fn upstream(&self) -> Option<u32> {
        self.state().upstream
    }

    /// The replica replicates from this server; 0 while it has not yet reached it, which leaves what was known.
    pub(super) fn set_upstream(&self, server_id: u32) {
        if server_id != 0 {
            self.state().upstream = Some(server_id);
        }
    }

    /// What tells apart positions that cannot be compared.
    pub(super) fn timeline(&self, server_id: u32) -> u32 {
        self.state().of(server_id).timeline(server_id)
    }

    /// Tells the sizes of files that are over.
    pub(super) fn sizes(&self, server_id: u32, sizes: &[(Place, u64)]) {
        let mut state = self.state();
        let logs = state.of(server_id);
        for (file, size) in sizes {
            if logs.is_of(file) {
                logs.files.entry(file.number).or_default().size = Some(*size);
            }
        }
        logs.forget();
    }

    /// How far the server that writes the logs is, and what tells apart positions that cannot be compared. Where it is
    /// before where it was, its logs have begun anew.
    pub(super) fn written(&self, server_id: u32, place: &Place) -> (u64, u32) {
        let mut state = self.state();
        let logs = state.of(server_id);
        let now = (place.number, place.offset);
        if !logs.is_of(place) || logs.written.is_some_and(|last| now < last) {
            logs.begin_anew();
        }
        logs.name = Some(place.name.clone());
        logs.written = Some(now);
        (logs.position(place), logs.timeline(server_id))
    }

    /// A place in the logs of the server, as a number.
    pub(super) fn number(&self, server_id: u32, place: &Place) -> u64 {
        self.state().of(server_id).position(place)
    }

    /// How far a replica of the server is. What it has applied is never taken back, unless the logs have begun anew.
    pub(super) fn replicated(
        &self,
        server_id: u32,
        received: Option<&Place>,
        applied: &Place,
        now: Instant,
    ) -> Replicated {
        let mut state = self.state();
        let logs = state.of(server_id);
        let is_before =
            |place: &Place| logs.applied.is_some_and(|(last, _)| (place.number, place.offset) < last);
        let is_back = is_before(applied) && received.is_none_or(is_before);
        let since = is_back.then(|| logs.back.unwrap_or(now));
        if !logs.is_of(applied) || since.is_some_and(|since| now.duration_since(since) >= BACK) {
            logs.begin_anew();
        } else {
            logs.back = since;
        }
        logs.name = Some(applied.name.clone());
        let position = logs.position(applied);
        if logs.applied.is_none_or(|(_, last)| position >= last) {
            logs.applied = Some(((applied.number, applied.offset), position));
        }
        let applied = logs.applied.map_or(position, |(_, last)| last);
        let received = received.filter(|place| logs.is_of(place));
        let received = received.map(|place| logs.position(place).max(applied));
        Replicated { received, applied, timeline: logs.timeline(server_id) }
    }
}

impl State {
    fn of(&mut self, server_id: u32) -> &mut Logs {
        if self.logs.len() >= UPSTREAMS && !self.logs.contains_key(&server_id) {
            self.logs.clear();
        }
        self.logs.entry(server_id).or_default()
    }
}

impl Logs {
    fn begin_anew(&mut self) {
        *self = Self { generation: self.generation.wrapping_add(1), ..Self::default() };
    }

    fn timeline(&self, server_id: u32) -> u32 {
        server_id.wrapping_add(self.generation.wrapping_mul(ANEW))
    }

    fn is_of(&self, place: &Place) -> bool {
        self.name.as_ref().is_none_or(|name| *name == place.name)
    }

    fn position(&mut self, place: &Place) -> u64 {
        let base = self.base(place.number);
        let file = self.files.entry(place.number).or_default();
        file.base = Some(base);
        file.seen = file.seen.max(place.offset);
        let next = self.files.range(place.number + 1..).find_map(|(_, file)| file.base);
        let position = base.saturating_add(place.offset);
        self.forget();
        next.map_or(position, |next| position.min(next))
    }

    fn base(&self, number: u64) -> u64 {
        if let Some(base) = self.files.get(&number).and_then(|file| file.base) {
            return base;
        }
        let before = self.files.range(..number).rev().find_map(|(at, file)| Some((*at, file.base?)));
        if let Some((from, base)) = before {
            let sizes = self.files.range(from..number).map(|(_, file)| file.size.unwrap_or(0).max(file.seen));
            let base = sizes.fold(base, u64::saturating_add);
            let next = self.files.range(number + 1..).find_map(|(_, file)| file.base);
            return next.map_or(base, |next| base.min(next));
        }
        let after = self.files.range(number..).find_map(|(at, file)| Some((*at, file.base?)));
        match after {
            Some((to, base)) => {
                let known = self.files.range(number..to).filter_map(|(_, file)| file.size);
                let (count, sum) =
                    known.fold((0u64, 0u64), |(count, sum), size| (count + 1, sum.saturating_add(size)));
                let unknown = (to - number).saturating_sub(count).saturating_mul(STEP);
                base.saturating_sub(sum.saturating_add(unknown))
            }
            None => number.saturating_mul(STEP),
        }
    }

    fn forget(&mut self) {
        while self.files.len() > FILES {
            self.files.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(number: u64, offset: u64) -> Place {
        Place::read(&format!("db7-bin.{number:06}"), offset).unwrap()
    }

    fn position(binlogs: &Binlogs, number: u64, offset: u64) -> u64 {
        binlogs.state().of(1).position(&at(number, offset))
    }

    #[test]
    fn a_file_has_a_name_and_a_number() {
        assert_eq!(
            Place::read("a.b.000017", 4),
            Some(Place { number: 17, offset: 4, name: "a.b".to_owned() })
        );
        assert_eq!(Place::read("a.1000000", 4).map(|place| place.number), Some(1_000_000));
        assert_eq!(Place::read("", 4), None);
        assert_eq!(Place::read("nodot", 4), None);
    }

    #[test]
    fn positions_count_on_through_a_rotation_whose_size_is_known() {
        let binlogs = Binlogs::default();
        let first = position(&binlogs, 7, 100);
        assert_eq!(first, 7 * STEP + 100);
        assert_eq!(position(&binlogs, 7, 900) - first, 800);
        binlogs.sizes(1, &[(at(7, 0), 1_000)]);
        assert_eq!(position(&binlogs, 8, 4) - first, 904);
        // Both sides see the same.
        assert_eq!(position(&binlogs, 7, 1_000) - first, 900);
    }

    #[test]
    fn without_sizes_what_was_seen_stands_for_them_and_order_holds() {
        let binlogs = Binlogs::default();
        let received = position(&binlogs, 7, 900);
        let rotated = position(&binlogs, 8, 4);
        assert_eq!(rotated - received, 4);
        // More of the file than was known when the next one began: it ends where that one begins.
        assert_eq!(position(&binlogs, 7, 1_000), 7 * STEP + 900);
        assert_eq!(position(&binlogs, 7, 800), 7 * STEP + 800);
        // A size that is told afterwards moves nothing.
        binlogs.sizes(1, &[(at(7, 0), 5_000)]);
        assert_eq!(position(&binlogs, 8, 4), rotated);
    }

    #[test]
    fn several_rotations_between_two_looks_are_counted_where_sizes_are_known() {
        let binlogs = Binlogs::default();
        let applied = position(&binlogs, 3, 10);
        binlogs.sizes(1, &[(at(3, 0), 100), (at(4, 0), 200), (at(5, 0), 300)]);
        assert_eq!(position(&binlogs, 6, 50) - applied, 90 + 200 + 300 + 50);
        assert_eq!(position(&binlogs, 5, 50) - applied, 90 + 200 + 50);
    }

    #[test]
    fn files_before_the_first_that_was_seen_come_before_it() {
        let known = Binlogs::default();
        let newest = position(&known, 9, 10);
        known.sizes(1, &[(at(7, 0), 100), (at(8, 0), 200)]);
        assert_eq!(newest - position(&known, 7, 40), 60 + 200 + 10);
        let unknown = Binlogs::default();
        let newest = position(&unknown, 9, 10);
        let older = position(&unknown, 7, 40);
        assert!(older < newest && position(&unknown, 8, 40) > older && position(&unknown, 8, 40) < newest);
    }

    #[test]
    fn a_restart_of_the_upstream_is_a_rotation() {
        let binlogs = Binlogs::default();
        let (before, timeline) = binlogs.written(1, &at(7, 500));
        assert_eq!(binlogs.written(1, &at(8, 4)), (before + 4, timeline));
    }

    #[test]
    fn logs_that_begin_anew_are_another_timeline() {
        for again in [at(1, 4), at(7, 4), Place::read("other.000008", 4).unwrap()] {
            let binlogs = Binlogs::default();
            assert_eq!(binlogs.written(1, &at(7, 500)), (7 * STEP + 500, 1));
            let (position, timeline) = binlogs.written(1, &again);
            assert_eq!(position, again.number * STEP + 4);
            assert_ne!(timeline, 1);
            let replica = binlogs.replicated(1, None, &again, Instant::now());
            assert_eq!((replica.applied, replica.timeline), (position, timeline), "the replica is there too");
        }
    }

    #[test]
    fn a_replica_and_its_upstream_count_alike() {
        let (binlogs, now) = (Binlogs::default(), Instant::now());
        let first = binlogs.replicated(1, Some(&at(9, 300)), &at(7, 500), now);
        binlogs.sizes(1, &[(at(7, 0), 1_000), (at(8, 0), 1_000)]);
        let (written, timeline) = binlogs.written(1, &at(9, 800));
        let last = binlogs.replicated(1, Some(&at(9, 800)), &at(9, 800), now);
        assert_eq!((last.received, last.applied, last.timeline), (Some(written), written, timeline));
        assert!(first.applied < last.applied && first.received < last.received);
    }

    #[test]
    fn a_replica_that_reconnects_takes_nothing_back() {
        let (binlogs, start) = (Binlogs::default(), Instant::now());
        let look = |received: u64, applied: u64, after| {
            binlogs.replicated(1, Some(&at(7, received)), &at(7, applied), start + Duration::from_secs(after))
        };
        let before = look(900, 500, 0);
        assert_eq!((before.received, before.applied), (Some(7 * STEP + 900), 7 * STEP + 500));
        assert_eq!(look(4, 4, 1).applied, before.applied);
        assert_eq!(look(4, 4, 1).received, Some(before.applied));
        assert_eq!(look(700, 600, 2).applied, before.applied + 100);
        assert_eq!(look(700, 600, 60).timeline, before.timeline);
    }

    #[test]
    fn a_replica_that_stays_back_is_on_another_timeline() {
        let (binlogs, start) = (Binlogs::default(), Instant::now());
        let look = |number, offset, after| {
            let place = at(number, offset);
            binlogs.replicated(1, Some(&place), &place, start + Duration::from_secs(after))
        };
        let before = look(7, 500, 0);
        assert_eq!(look(1, 300, 100).timeline, before.timeline);
        assert_eq!(look(1, 400, 109).timeline, before.timeline);
        let anew = look(1, 500, 110);
        assert_ne!(anew.timeline, before.timeline);
        assert_eq!(anew.applied, STEP + 500);
        assert_eq!(look(1, 600, 111), Replicated { received: Some(STEP + 600), applied: STEP + 600, ..anew });
    }

    #[test]
    fn each_upstream_has_logs_of_its_own() {
        let binlogs = Binlogs::default();
        let first = binlogs.written(1, &at(7, 100));
        assert_eq!(binlogs.written(2, &Place::read("x.000001", 4).unwrap()), (STEP + 4, 2));
        assert_eq!(binlogs.written(1, &at(7, 100)), first);
        binlogs.set_upstream(2);
        binlogs.set_upstream(0);
        assert_eq!(binlogs.upstream(), Some(2));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let binlogs = Binlogs::default();
        let mut last = 0;
        for number in 1..5_000 {
            let now = position(&binlogs, number, 10);
            assert!(now > last);
            last = now;
        }
        assert_eq!(binlogs.state().of(1).files.len(), FILES);
        for server in 0..1_000 {
            binlogs.written(server, &at(1, 1));
        }
        assert!(binlogs.state().logs.len() <= UPSTREAMS);
    }

    proptest! {
        #[test]
        fn order_is_never_violated(
            looks in prop::collection::vec((1u64..12, 0u64..2_000, prop::option::of(0u64..2_000)), 1..60)
        ) {
            let binlogs = Binlogs::default();
            let mut given: Vec<(Place, u64)> = Vec::new();
            for (number, offset, size) in looks {
                if let Some(size) = size {
                    binlogs.sizes(1, &[(at(number, 0), size)]);
                }
                let place = at(number, offset);
                let position = position(&binlogs, number, offset);
                for (other, its) in &given {
                    if *other <= place {
                        prop_assert!(*its <= position, "{other:?} {its} {place:?} {position}");
                    } else {
                        prop_assert!(position <= *its, "{place:?} {position} {other:?} {its}");
                    }
                }
                given.push((place, position));
            }
        }
    }
}
