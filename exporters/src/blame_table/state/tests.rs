//! Which points are shown together, and what is forgotten.

use blameio_pipeline::metrics::{MetricsBuilder, PointTime, key_value};
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

fn shown(state: &mut State) -> Option<(f64, Vec<String>)> {
    let view = state.views(Instant::now()).pop()?;
    Some((view.lag, view.rows.into_iter().map(|row| row.table).collect()))
}

#[test]
fn points_of_one_moment_are_shown_together() {
    let (mut state, now) = (State::default(), Instant::now());
    for request in [lag(5.0, 10), blame("small", 1.0, 10), blame("large", 4.0, 10), lag(6.0, 11)] {
        assert_eq!(state.take(&request, now), 1);
    }
    // The lag of second 11 has no blame yet.
    assert_eq!(shown(&mut state), Some((5.0, vec!["large".to_owned(), "small".to_owned()])));
    state.take(&blame("next", 6.0, 11), now);
    assert_eq!(shown(&mut state), Some((6.0, vec!["next".to_owned()])));
    assert_eq!(shown(&mut state), None, "nothing new");
}

#[test]
fn old_blame_is_not_set_against_a_new_lag() {
    let (mut state, now) = (State::default(), Instant::now());
    for request in [lag(5.0, 10), blame("old", 5.0, 10), lag(0.0, 30)] {
        state.take(&request, now);
    }
    assert_eq!(shown(&mut state), Some((0.0, vec![])));
}

#[test]
fn a_channel_that_is_silent_or_has_ended_is_forgotten() {
    let (mut state, now) = (State::default(), Instant::now());
    state.take(&lag(5.0, 10), now);
    assert!(state.views(now + FORGET).is_empty());
    state.take(&lag(5.0, 10), now);
    state.take(&request(|points| points.ended(&REPLICATION_LAG, vec![], at(11))), now);
    assert!(state.views(now).is_empty());
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
        let view = state.views(now).pop().unwrap();
        assert_eq!((view.status.as_deref(), view.source.as_deref()), (Some("paused"), Some("local")));
        view.now
    };
    assert_eq!(holders(apply(100.0, 100.0)), []);
    assert_eq!(holders(apply(103.0, 101.0)), [("read orders".to_owned(), 0.75), ("cpu".to_owned(), 0.25)]);
    // A counter that began again has grown by its value.
    assert_eq!(holders(apply(1.0, 101.0)), [("read orders".to_owned(), 1.0)]);
}
