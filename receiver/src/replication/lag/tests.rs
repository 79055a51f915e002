//! Lags without a server.

use super::*;

fn at(at: f64, received: u64, replayed: u64) -> Positions {
    Positions {
        at,
        received: Some(received),
        replayed: Some(replayed),
        commit_age: None,
        streaming: true,
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

/// Lags and backlogs told every 100 ms without a primary, of a replica whose stream ends at 10 s with 1000 received.
fn of_a_lost_stream(timeline: Option<u32>, replayed: impl Fn(u64) -> u64) -> Vec<(u64, Lag, Option<u64>)> {
    let mut meter = LagMeter::default();
    let look = |tick: u64| {
        let streaming = tick < 100;
        let positions = Positions {
            streaming,
            timeline: timeline.filter(|_| streaming),
            ..at(tick as f64 / 10.0, (10 * tick).min(1000), replayed(tick))
        };
        meter.replica(&positions);
        (tick, meter.measure(Some(&positions)).unwrap(), meter.backlog(&positions))
    };
    (0..300).map(look).collect()
}

/// Of the stream every role sees whether there is one, and some roles its timeline.
const SEEN: [Option<u32>; 2] = [Some(1), None];

#[test]
fn a_replica_that_replays_an_archive_past_what_it_received_is_not_in_step() {
    for timeline in SEEN {
        for (tick, lag, backlog) in of_a_lost_stream(timeline, |tick| 10 * tick) {
            // Two seconds after the last look that found a stream.
            let is_known = tick <= 119;
            assert!(lag.stale != is_known, "{timeline:?}, {tick}: {lag:?}");
            assert_eq!(backlog.is_some(), is_known, "{timeline:?}, {tick}");
        }
    }
}

#[test]
fn what_arrived_before_the_link_was_cut_is_measured_until_it_is_applied_and_then_nothing_is_known() {
    for timeline in SEEN {
        for (tick, lag, backlog) in of_a_lost_stream(timeline, |tick| (5 * tick).min(1000)) {
            assert!(lag.stale == (tick >= 200), "{timeline:?}, {tick}: {lag:?}");
            assert_eq!(backlog.is_some(), tick < 200, "{timeline:?}, {tick}");
            let true_lag = tick as f64 / 20.0;
            assert!(lag.stale || (lag.total - true_lag).abs() < 0.1, "{timeline:?}, {tick}: {lag:?}");
        }
    }
}

#[test]
fn a_link_that_was_cut_before_the_agent_came_is_never_a_lag_of_zero() {
    let mut meter = LagMeter::default();
    for tick in 0..50_u64 {
        let commit_age = Some(Duration::from_secs(40));
        let cut =
            Positions { commit_age, streaming: false, timeline: None, ..at(tick as f64 / 10.0, 100, 100) };
        meter.replica(&cut);
        let lag = meter.measure(Some(&cut));
        assert!(lag.is_none_or(|lag| lag.stale && lag.total > 39.0), "{tick}: {lag:?}");
        assert!((lag.is_some() || tick < 20) && meter.backlog(&cut).is_none(), "{tick}: {lag:?}");
    }
}

#[test]
fn an_archive_that_was_there_before_the_agent_is_the_engines_word_though_there_once_was_a_stream() {
    let mut meter = LagMeter::default();
    for tick in 0..50_u64 {
        let positions = Positions {
            commit_age: Some(Duration::from_secs(40)),
            streaming: false,
            timeline: None,
            ..at(tick as f64 / 10.0, 100, 500 + tick)
        };
        meter.replica(&positions);
        let lag = meter.measure(Some(&positions));
        assert!(lag.is_none_or(|lag| lag.stale && lag.total > 39.0), "{lag:?}");
        assert!(lag.is_some() || tick < 20);
    }
}

#[test]
fn a_replica_that_is_seen_to_apply_what_it_received_between_two_positions_is_in_step() {
    let mut meter = LagMeter::default();
    for tick in 0..100_u64 {
        let ahead = u64::from(tick % 7 == 0 && tick > 0);
        let positions = at(tick as f64 / 10.0, 10 * tick, 10 * tick + ahead);
        meter.replica(&positions);
        let lag = meter.measure(Some(&positions)).unwrap();
        assert_eq!((lag.total, lag.stale, meter.backlog(&positions)), (0.0, false, Some(0)));
    }
}

#[test]
fn a_stream_that_was_lost_for_an_archive_holds_its_lag() {
    let mut meter = LagMeter::default();
    meter.replica(&at(0.0, 100, 100));
    meter.replica(&at(1.0, 200, 100));
    let known = meter.measure(Some(&at(3.0, 200, 150))).unwrap();
    let archive = Positions {
        received: None,
        streaming: false,
        commit_age: Some(Duration::from_mins(1)),
        ..at(9.0, 0, 180)
    };
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
        let (flushed, written) = if second < 20 { (100 * second, 1) } else { (1900 + 10 * (second - 20), 2) };
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
