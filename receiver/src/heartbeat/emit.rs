//! Delays as OTLP points, and the ends of series that are no more.

use std::time::{Instant, SystemTime};

use blameio_pipeline::{
    attribute::{HEARTBEAT_CLOCK, HEARTBEAT_WRITER, LAG_FRESHNESS, SERVER_ADDRESS, SERVER_PORT},
    metrics::{MetricsBuilder, PointTime, key_value, unix_nano},
    signal::{HEARTBEAT_DELAY, HEARTBEAT_INFO},
};
use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::ResourceMetrics};

use super::replica::{Delay, Replica};

const SCOPE: &str = "blameio/heartbeat";

/// Attributes of the series of the last report.
#[derive(Debug, Default)]
pub(super) struct Told {
    delays: Vec<Vec<KeyValue>>,
    info: Vec<Vec<KeyValue>>,
}

/// The delays of a replica; `None` where there is nothing to tell, or it is not yet known who it is.
pub(super) fn report(
    replica: &Replica,
    now: Instant,
    at: SystemTime,
    told: &mut Told,
) -> Option<ResourceMetrics> {
    let view = replica.database.server().view();
    let identity = view.identity.as_deref()?;
    let base = [
        key_value(SERVER_ADDRESS, identity.address.as_str()),
        key_value(SERVER_PORT, i64::from(identity.port)),
    ];
    let mut builder = MetricsBuilder::new(identity.resource(), SCOPE);
    points(&mut builder, &base, &replica.delays(now), unix_nano(at), told);
    (!builder.is_empty()).then(|| builder.finish())
}

fn points(builder: &mut MetricsBuilder, base: &[KeyValue], delays: &[Delay], at: u64, told: &mut Told) {
    let time = PointTime { start: 0, at };
    let mut now = Told::default();
    for Delay { writer, clock, value, is_stale } in delays {
        let mut attributes = base.to_vec();
        attributes.push(key_value(HEARTBEAT_WRITER, writer.as_str()));
        attributes.push(key_value(HEARTBEAT_CLOCK, clock.as_str()));
        builder.point(&HEARTBEAT_DELAY, value.as_secs_f64(), attributes.clone(), time);
        now.delays.push(attributes.clone());
        attributes.push(key_value(LAG_FRESHNESS, if *is_stale { "stale" } else { "fresh" }));
        builder.point(&HEARTBEAT_INFO, 1_i64, attributes.clone(), time);
        now.info.push(attributes);
    }
    for ended in told.delays.iter().filter(|before| !now.delays.contains(before)) {
        builder.ended(&HEARTBEAT_DELAY, ended.clone(), time);
    }
    for ended in told.info.iter().filter(|before| !now.info.contains(before)) {
        builder.ended(&HEARTBEAT_INFO, ended.clone(), time);
    }
    *told = now;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use blameio_pipeline::metrics::{is_ended, number, number_points};
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;
    use crate::heartbeat::replica::Clock;

    #[test]
    fn a_series_that_is_no_more_is_ended_once() {
        let mut before = Told::default();
        let mut told = |is_stale: Option<bool>| {
            let delay = is_stale.map(|is_stale| Delay {
                writer: "orders@db1".to_owned(),
                clock: Clock::Agent,
                value: Duration::from_secs(3),
                is_stale,
            });
            let mut builder = MetricsBuilder::new(Resource::default(), SCOPE);
            points(&mut builder, &[], delay.as_slice(), 7, &mut before);
            let found = builder.finish();
            let metrics = found.scope_metrics.iter().flat_map(|scope| &scope.metrics);
            let points = metrics.flat_map(number_points);
            points.map(|point| (number(point), is_ended(point.flags))).collect::<Vec<_>>()
        };
        assert_eq!(told(Some(false)), [(Some(3.0), false), (Some(1.0), false)]);
        assert_eq!(told(Some(true)), [(Some(3.0), false), (Some(1.0), false), (None, true)]);
        assert_eq!(told(None), [(None, true), (None, true)]);
        assert_eq!(told(None), []);
    }
}
