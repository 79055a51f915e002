//! Which points are shown together, and what is forgotten.

use blameio_pipeline::{
    attribute::{WAIT_HOLDER, WAIT_KIND},
    metrics::{MetricsBuilder, PointTime, key_value},
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn request(fill: impl FnOnce(&mut MetricsBuilder)) -> ExportMetricsServiceRequest {
    let attributes = vec![key_value(SERVICE_NAME, "orders")];
    let mut builder = MetricsBuilder::new(Resource { attributes, ..Resource::default() }, "test");
    fill(&mut builder);
    ExportMetricsServiceRequest { resource_metrics: vec![builder.finish()] }
}

fn at(second: u64) -> PointTime {
    PointTime { start: 0, at: second * SECOND }
}

fn lag(value: f64, second: u64) -> ExportMetricsServiceRequest {
    request(|points| points.point(&REPLICATION_LAG, value, vec![], at(second)))
}

fn blame(table: &str, value: f64, second: u64) -> ExportMetricsServiceRequest {
    let attributes = vec![key_value(DB_TABLE, table), key_value(BLAME_CAUSE, "replay")];
    request(|points| points.point(&LAG_BLAME, value, attributes, at(second)))
}

fn shown(state: &mut State) -> Option<(Option<f64>, Vec<String>)> {
    let view = state.views(Instant::now())?.pop()?;
    Some((view.lag, view.rows.into_iter().map(|row| row.table).collect()))
}

#[test]
fn points_of_one_moment_are_shown_together() {
    let (mut state, now) = (State::default(), Instant::now());
    for request in [lag(5.0, 10), blame("small", 1.0, 10), blame("large", 4.0, 10), lag(6.0, 11)] {
        assert_eq!(state.take(&request, now), 1);
    }
    // The lag of second 11 has no blame yet.
    assert_eq!(shown(&mut state), Some((Some(5.0), vec!["large".to_owned(), "small".to_owned()])));
    state.take(&blame("next", 6.0, 11), now);
    assert_eq!(shown(&mut state), Some((Some(6.0), vec!["next".to_owned()])));
    assert_eq!(shown(&mut state), None, "nothing new");
}

#[test]
fn old_blame_is_not_set_against_a_new_lag() {
    let (mut state, now) = (State::default(), Instant::now());
    for request in [lag(5.0, 10), blame("old", 5.0, 10), lag(0.0, 30)] {
        state.take(&request, now);
    }
    assert_eq!(shown(&mut state), Some((Some(0.0), vec![])));
}

#[test]
fn a_channel_that_is_silent_or_has_ended_is_forgotten() {
    let (mut state, now) = (State::default(), Instant::now());
    state.take(&lag(5.0, 10), now);
    assert!(state.views(now + FORGET).unwrap().is_empty());
    state.take(&lag(5.0, 10), now);
    state.take(&request(|points| points.ended(&REPLICATION_LAG, vec![], at(11))), now);
    assert!(state.views(now).unwrap().is_empty());
}

fn status(state: &str, holds: i64) -> ExportMetricsServiceRequest {
    let attributes = vec![key_value(REPLICATION_STATE, state)];
    request(|points| points.point(&REPLICATION_STATUS, holds, attributes, at(1)))
}

#[test]
fn a_clock_that_is_set_back_does_not_freeze_the_table() {
    let (mut state, now) = (State::default(), Instant::now());
    for second in 7200..7206 {
        state.take(&lag(5.0, second), now);
        state.take(&blame("before", 5.0, second), now);
    }
    // A late point is no step back.
    state.take(&blame("late", 1.0, 7196), now);
    assert_eq!(shown(&mut state), Some((Some(5.0), vec!["before".to_owned()])));
    for request in [lag(6.0, 3600), blame("after", 6.0, 3600)] {
        state.take(&request, now);
    }
    assert_eq!(shown(&mut state), Some((Some(6.0), vec!["after".to_owned()])));
    state.take(&lag(7.0, 3601), now);
    state.take(&blame("next", 7.0, 3601), now);
    assert_eq!(shown(&mut state), Some((Some(7.0), vec!["next".to_owned()])));
}

#[test]
fn a_lag_that_ends_takes_its_rows_along_at_once() {
    let (mut state, now) = (State::default(), Instant::now());
    for request in [status("streaming", 1), lag(5.0, 10), blame("orders", 5.0, 10)] {
        state.take(&request, now);
    }
    assert_eq!(shown(&mut state), Some((Some(5.0), vec!["orders".to_owned()])));
    state.take(&request(|points| points.ended(&REPLICATION_LAG, vec![], at(11))), now);
    for (name, holds) in [("streaming", 0), ("promoted", 1)] {
        state.take(&status(name, holds), now);
    }
    let view = state.views(now).unwrap().pop().unwrap();
    assert_eq!((view.lag, view.rows, view.status.as_deref()), (None, vec![], Some(PROMOTED)));
    // It says so again every second: heard, but nothing new.
    assert!(state.heard());
    state.take(&status("promoted", 1), now);
    assert!(state.views(now).is_none() && state.heard() && !state.heard());
}

#[test]
fn a_lag_is_stale_for_as_long_as_it_is_told_to_be() {
    let (mut state, now) = (State::default(), Instant::now());
    let told = |freshness: &str| vec![key_value(LAG_FRESHNESS, freshness)];
    state.take(&lag(5.0, 10), now);
    state.take(&request(|points| points.point(&REPLICATION_INFO, 1_i64, told("stale"), at(10))), now);
    assert!(state.views(now).unwrap().pop().unwrap().stale);
    // The new word comes before the end of the old one.
    let fresh = request(|points| {
        points.point(&REPLICATION_INFO, 1_i64, told("fresh"), at(11));
        points.ended(&REPLICATION_INFO, told("stale"), at(11));
    });
    state.take(&fresh, now);
    assert!(!state.views(now).unwrap().pop().unwrap().stale);
}

#[test]
fn what_holds_applying_now_is_what_grew_since_the_last_table() {
    let (mut state, now) = (State::default(), Instant::now());
    let apply = |table: f64, cpu: f64| {
        request(|points| {
            let read = vec![key_value(THREAD_STATE, "read"), key_value(DB_TABLE, "orders")];
            points.point(&APPLY_TIME, table, read, at(1));
            points.point(&APPLY_TIME, cpu, vec![key_value(THREAD_STATE, "cpu")], at(1));
            points.point(&REPLICATION_LAG, 5.0, vec![], at(1));
            let paused = vec![key_value(REPLICATION_STATE, "paused")];
            points.point(&REPLICATION_STATUS, 1_i64, paused, at(1));
            points.point(&REPLICATION_INFO, 1_i64, vec![key_value(LAG_SOURCE, "local")], at(1));
        })
    };
    let mut holders = |request| {
        state.take(&request, now);
        let view = state.views(now).unwrap().pop().unwrap();
        assert_eq!((view.status.as_deref(), view.source.as_deref()), (Some("paused"), Some("local")));
        view.now
    };
    assert_eq!(holders(apply(100.0, 100.0)), []);
    assert_eq!(holders(apply(103.0, 101.0)), [("read orders".to_owned(), 0.75), ("cpu".to_owned(), 0.25)]);
    // A counter that began again has grown by its value.
    assert_eq!(holders(apply(1.0, 101.0)), [("read orders".to_owned(), 1.0)]);
}

fn wait(kind: &str, holder: Option<i64>, value: f64, second: u64) -> ExportMetricsServiceRequest {
    let mut attributes = vec![key_value(WAIT_KIND, kind)];
    attributes.extend(holder.map(|pid| key_value(WAIT_HOLDER, pid)));
    request(|points| {
        points.point(&REPLICATION_STATUS, 1_i64, vec![key_value(REPLICATION_STATE, "streaming")], at(second));
        points.point(&REPLICATION_WAIT_TIME, value, attributes, at(second));
        points.point(&REPLICATION_LAG, 5.0, vec![], at(second));
    })
}

#[test]
fn the_holder_is_that_of_the_wait_that_grew_since_the_last_table() {
    let (mut state, now) = (State::default(), Instant::now());
    let mut waits = |requests: &[ExportMetricsServiceRequest]| {
        for request in requests {
            state.take(request, now);
        }
        state.views(now).unwrap().pop().unwrap().wait.map(|wait| (wait.kind, wait.holder))
    };
    let is = |kind: &str, holder| Some((kind.to_owned(), holder));
    // From before the table.
    assert_eq!(waits(&[wait("lock", Some(1), 100.0, 1)]), None);
    // New since: from its first second on.
    assert_eq!(waits(&[wait("lock", Some(21685), 0.9, 2)]), is("lock", Some(21685)));
    // The kind is the one of the largest sum, and the holder of a part is its holder.
    let both = [wait("lock", Some(21685), 1.5, 3), wait("lock", None, 0.7, 3), wait("starved", None, 1.0, 3)];
    assert_eq!(waits(&both), is("lock", Some(21685)));
    assert_eq!(waits(&[wait("starved", None, 2.0, 4)]), is("starved", None));
    // One that ended meanwhile has still grown; afterwards it is gone.
    let attributes = vec![key_value(WAIT_KIND, "lock"), key_value(WAIT_HOLDER, 1_i64)];
    let ended = request(|points| points.ended(&REPLICATION_WAIT_TIME, attributes, at(6)));
    assert_eq!(waits(&[wait("lock", Some(1), 101.0, 5), ended]), is("lock", Some(1)));
    assert_eq!(waits(&[wait("lock", Some(21685), 1.5, 7)]), None);
}

#[test]
fn a_server_that_is_down_loses_its_rows_then_its_place_and_gets_them_back() {
    let (mut state, began) = (State::default(), Instant::now());
    for request in [status("down", 1), lag(6.19, 1), blame("orders", 6.0, 1)] {
        state.take(&request, began);
    }
    let mut after = |seconds: u64, told: (&str, i64)| {
        let now = began + Duration::from_secs(seconds);
        state.take(&status(told.0, told.1), now);
        let views = state.views(now);
        let shown = views.map(|views| views.first().map(|view| (view.lag, view.down_since)));
        (shown, state.heard())
    };
    assert_eq!(after(59, ("down", 1)), (Some(Some((Some(6.19), None))), true));
    // Nothing but time has come.
    assert_eq!(after(60, ("down", 1)), (Some(Some((Some(6.19), Some(SECOND)))), true));
    assert_eq!(after(61, ("down", 1)), (None, true));
    for minute in 2..60 {
        assert_eq!(after(minute * 60, ("down", 1)), (None, true));
    }
    assert_eq!(after(3600, ("down", 1)), (Some(None), false));
    assert_eq!(after(3601, ("down", 1)), (None, false));
    after(3602, ("down", 0));
    assert_eq!(after(3603, ("streaming", 1)), (Some(Some((Some(6.19), None))), true));
}
