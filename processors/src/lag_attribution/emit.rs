//! What came out of a tick, as OTLP points.

use blameio_pipeline::{
    attribute::THREAD_STATE,
    metrics::{MetricsBuilder, PointTime, key_value},
    signal,
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue, metrics::v1::ResourceMetrics, resource::v1::Resource,
};

use super::{
    channel::{Channel, Outcome},
    owner::channel_attributes,
    reading,
};

const SCOPE: &str = "blameio/lag_attribution";

/// Lag and blame of one tick.
pub(super) fn tick(resource: &Resource, start: u64, name: &str, outcome: &Outcome) -> ResourceMetrics {
    let (address, port) = reading::address(resource);
    let base = channel_attributes(address, port, name);
    let with = |more: Vec<KeyValue>| base.iter().cloned().chain(more).collect::<Vec<_>>();
    let gauge = PointTime { start: 0, at: outcome.at };
    let sum = PointTime { start: start.min(outcome.at), at: outcome.at };
    let mut builder = MetricsBuilder::new(resource.clone(), SCOPE);
    builder.point(&signal::REPLICATION_LAG, outcome.lag, base.clone(), gauge);
    for (owner, seconds) in &outcome.rows {
        builder.point(&signal::LAG_BLAME, *seconds, with(owner.attributes()), gauge);
    }
    for owner in &outcome.ended {
        builder.ended(&signal::LAG_BLAME, with(owner.attributes()), gauge);
    }
    for (owner, seconds) in &outcome.saved {
        builder.point(&signal::LAG_SAVED, *seconds, with(owner.attributes()), gauge);
    }
    for owner in outcome.ended.iter().filter(|owner| owner.is_somebody()) {
        builder.ended(&signal::LAG_SAVED, with(owner.attributes()), gauge);
    }
    for (owner, seconds) in &outcome.accrued {
        builder.point(&signal::LAG_ACCRUED, *seconds, with(owner.attributes()), sum);
    }
    for ((state, subject), seconds) in &outcome.apply_time {
        let mut attributes = subject.attributes();
        attributes.push(key_value(THREAD_STATE, state.as_str()));
        builder.point(&signal::APPLY_TIME, *seconds, with(attributes), sum);
    }
    builder.finish()
}

/// Lag and blame of a channel that is no more.
pub(super) fn end(resource: &Resource, name: &str, channel: &Channel, at: u64) -> ResourceMetrics {
    let (address, port) = reading::address(resource);
    let base = channel_attributes(address, port, name);
    let time = PointTime { start: 0, at };
    let mut builder = MetricsBuilder::new(resource.clone(), SCOPE);
    builder.ended(&signal::REPLICATION_LAG, base.clone(), time);
    for owner in channel.shown() {
        let attributes: Vec<_> = base.iter().cloned().chain(owner.attributes()).collect();
        if owner.is_somebody() {
            builder.ended(&signal::LAG_SAVED, attributes.clone(), time);
        }
        builder.ended(&signal::LAG_BLAME, attributes, time);
    }
    for owner in channel.accrued_issued() {
        let attributes = base.iter().cloned().chain(owner.attributes()).collect();
        builder.ended(&signal::LAG_ACCRUED, attributes, time);
    }
    for (state, subject) in channel.apply_time_issued() {
        let state = key_value(THREAD_STATE, state.as_str());
        let attributes = base.iter().cloned().chain(subject.attributes()).chain([state]).collect();
        builder.ended(&signal::APPLY_TIME, attributes, time);
    }
    builder.finish()
}
