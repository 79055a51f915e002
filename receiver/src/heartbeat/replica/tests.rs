//! What one replica is told to be behind, from looks that are made up.

use std::time::SystemTime;

use blameio_config::Secret;
use blameio_databases::{DatabaseExtension, DatabaseSettings};
use blameio_pipeline::Extension;

use super::*;

const PACE: Duration = Duration::from_secs(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A replica that nobody asks anything, and the writers on `database/a` and `database/b`.
fn replica(name: &str) -> (Replica, Vec<Arc<Published>>) {
    let dsn = Some(Secret::new("postgresql://db7/"));
    let settings = DatabaseSettings { dsn, ..DatabaseSettings::default() };
    let extension = DatabaseExtension::new(format!("database/{name}").parse().unwrap(), settings).unwrap();
    assert!(extension.server().is_some());
    let published = ["database/a", "database/b"]
        .map(|database| Arc::new(Published::new(&"heartbeat".parse().unwrap(), &database.parse().unwrap())));
    let writers = Arc::new(Writers::new(published.to_vec()));
    let replica = Replica::new(extension.database().clone(), writers, &HeartbeatSettings::default());
    (replica, published.to_vec())
}

/// A look at `looked` that shows these beats.
fn look(replica: &Replica, looked: Instant, beats: Vec<Beat>) {
    replica.looked(&BeatsSeen { monotonic: looked, at: SystemTime::now(), beats }, ms(1));
}

/// A beat of one who writes, committed at `at`.
fn write(published: &Published, number: u64, at: Instant) -> Beat {
    published.wrote(number, at, PACE);
    published.beat(number, PACE)
}

fn told(replica: &Replica, now: Instant) -> Vec<(String, Clock, u128, bool)> {
    let mut delays = replica.delays(now);
    delays.sort_by(|one, other| one.writer.cmp(&other.writer));
    let short = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    delays
        .iter()
        .map(|delay| (short(&delay.writer), delay.clock, delay.value.as_millis(), delay.is_stale))
        .collect()
}

fn by_agent(writer: &str, delay: u128, is_stale: bool) -> Vec<(String, Clock, u128, bool)> {
    vec![(writer.to_owned(), Clock::Agent, delay, is_stale)]
}

#[test]
fn a_delay_grows_while_the_replica_answers_and_is_held_when_it_does_not() {
    let (replica, published) = replica("r");
    let begin = Instant::now();
    let first = write(&published[0], 1, begin);
    look(&replica, begin + ms(10), Vec::new());
    look(&replica, begin + ms(12), vec![first.clone()]);
    assert_eq!(told(&replica, begin + ms(500)), by_agent("a", 11, false));
    write(&published[0], 2, begin + ms(1000));
    look(&replica, begin + ms(3000), vec![first]);
    assert_eq!(told(&replica, begin + ms(3500)), by_agent("a", 2500, false));
    // Three paces and a second after the last answer it is held.
    assert_eq!(told(&replica, begin + ms(20_000)), by_agent("a", 6000, true));
    assert_eq!(told(&replica, begin + ms(90_000)), by_agent("a", 6000, true));
}

#[test]
fn what_is_all_there_is_stale_once_nobody_writes_and_who_is_written_to_has_no_delay() {
    let (replica, published) = replica("b");
    let begin = Instant::now();
    let first = write(&published[0], 1, begin);
    look(&replica, begin + ms(1), vec![first.clone()]);
    published[0].wrote_nothing();
    look(&replica, begin + ms(9000), vec![first]);
    assert_eq!(told(&replica, begin + ms(9001)), by_agent("a", 0, true));
    write(&published[1], 1, begin + ms(9000));
    assert_eq!(told(&replica, begin + ms(9002)), [], "beats are written on it now");
}

#[test]
fn after_a_failover_what_the_old_primary_wrote_last_is_waited_for_no_more() {
    let (replica, published) = replica("r");
    let begin = Instant::now();
    let old = write(&published[0], 1, begin);
    look(&replica, begin + ms(1), vec![old.clone()]);
    write(&published[0], 2, begin + ms(1000));
    published[0].wrote_nothing();
    look(&replica, begin + ms(3000), vec![old.clone()]);
    assert_eq!(told(&replica, begin + ms(3000)), by_agent("a", 2000, false), "lost or late is not known yet");
    let new = write(&published[1], 1, begin + ms(4000));
    look(&replica, begin + ms(4001), vec![old, new]);
    assert_eq!(told(&replica, begin + ms(4001)), by_agent("b", 0, false));
}

#[test]
fn clocks_are_compared_only_where_no_row_is_of_this_agent() {
    let (replica, published) = replica("r");
    let begin = Instant::now();
    let theirs = |number| Beat {
        writer: Uuid::from_u128(7),
        run: Uuid::from_u128(8),
        name: "z@db9".to_owned(),
        ..published[0].beat(number, PACE)
    };
    look(&replica, begin, vec![theirs(1)]);
    assert_eq!(told(&replica, begin), [], "a row that was never seen to change may be nobody's");
    look(&replica, begin + ms(1000), vec![theirs(2)]);
    let delays = told(&replica, begin + ms(1000));
    assert!(matches!(&delays[..], [(name, Clock::Wall, ..)] if name == "z"), "{delays:?}");
    // A row of an earlier run of this agent is its own too: nothing is known by its clock yet.
    let earlier = Beat { run: Uuid::from_u128(9), ..published[0].beat(70, PACE) };
    look(&replica, begin + ms(2000), vec![theirs(3), earlier.clone()]);
    assert_eq!(told(&replica, begin + ms(2000)), []);
    write(&published[0], 1, begin + ms(2000));
    look(&replica, begin + ms(5000), vec![theirs(6), earlier]);
    assert_eq!(told(&replica, begin + ms(5000)), by_agent("a", 3000, false));
}
