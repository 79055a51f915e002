//! A replica, its neighbour and its host as their receivers tell of them, a second at a time: cumulative, as they are.

use std::collections::BTreeMap;

use blameio_pipeline::{
    ServerIdentity,
    attribute::{
        BLAME_CAUSE, BLAME_CULPRIT, DB_INDEX, DB_TABLE, FILE_PATH, HOST_NAME, IO_OPERATION, LAG_FRESHNESS,
        LAG_SOURCE, REPLICATION_CHANNEL, SERVICE_INSTANCE_ID, SERVICE_NAME, SYSTEM_DEVICE, THREAD_ID,
        THREAD_ROLE, THREAD_STATE, WAIT_HOLDER, WAIT_KIND, WORK_KIND, WORK_STAGE,
    },
    metrics::{MetricsBuilder, PointTime, attribute, is_ended, key_value, number},
    signal::{self, Metric},
};
use blameio_processors::lag_attribution::{LagAttribution, LagAttributionSettings};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue, metrics::v1::ResourceMetrics, resource::v1::Resource,
};
use uuid::Uuid;

use super::road::{BEGAN, Road, SECOND, file, identity, neighbour, points, settings};

/// Inode and path.
pub(crate) type File = (i64, &'static str);

pub(crate) const ORDERS: File = (100, "base/5/100");
pub(crate) const COLD: File = (101, "base/5/101");
pub(crate) const ITEMS: File = (102, "base/5/102");
pub(crate) const GONE: File = (103, "base/5/103");
/// A table of the neighbour.
pub(crate) const EVENTS: File = (200, "base/6/200");

/// A row of blame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) cause: String,
    pub(crate) table: String,
    pub(crate) index: String,
    pub(crate) culprit: String,
    pub(crate) role: String,
    pub(crate) seconds: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Replica,
    Neighbour,
    Host,
}

/// Cumulative values by who tells them, metric and attributes.
type Counters = BTreeMap<(Who, &'static str, String), (Metric, Vec<KeyValue>, f64)>;

pub(crate) struct Scene {
    road: Road,
    counters: Counters,
    instance: Uuid,
    applied: f64,
    second: u64,
    neighbour: ServerIdentity,
    neighbour_lag: Option<f64>,
    /// Resources come in the other order.
    pub(crate) turned: bool,
    pub(crate) stale: bool,
    /// What came out of the last second.
    pub(crate) out: Vec<ResourceMetrics>,
    pub(crate) ticks: usize,
}

impl Default for Scene {
    fn default() -> Self {
        Self::with("state_directory: \"\"")
    }
}

impl Scene {
    pub(crate) fn with(attribution: &str) -> Self {
        let mut road = Road::new("");
        road.attribution = LagAttribution::new(&settings::<LagAttributionSettings>(attribution));
        Self {
            road,
            counters: Counters::new(),
            instance: identity().instance_id,
            applied: 0.0,
            second: 0,
            neighbour: neighbour(),
            neighbour_lag: None,
            turned: false,
            stale: false,
            out: Vec::new(),
            ticks: 0,
        }
    }

    fn add(&mut self, who: Who, metric: Metric, attributes: Vec<KeyValue>, amount: f64) {
        let key = (who, metric.name, format!("{attributes:?}"));
        self.counters.entry(key).or_insert((metric, attributes, 0.0)).2 += amount;
    }

    /// The critical thread was in a state.
    pub(crate) fn thread(&mut self, state: &str, of: Option<File>, seconds: f64) {
        let mut attributes = of.map(|(inode, path)| file(inode, path)).unwrap_or_default();
        attributes.extend(of.map(|_| key_value(SYSTEM_DEVICE, "vda")));
        attributes.extend([
            key_value(THREAD_ID, 4242_i64),
            key_value(THREAD_ROLE, "apply"),
            key_value(THREAD_STATE, state),
        ]);
        self.add(Who::Replica, signal::THREAD_TIME, attributes, seconds);
    }

    fn on_device(&mut self, who: Who, more: Vec<KeyValue>, of: File, seconds: f64, operations: f64) {
        let attributes: Vec<_> =
            file(of.0, of.1).into_iter().chain([key_value(SYSTEM_DEVICE, "vda")]).chain(more).collect();
        self.add(who, signal::DEVICE_TIME, attributes.clone(), seconds);
        self.add(who, signal::DEVICE_OPERATIONS, attributes, operations);
    }

    /// The critical thread read from the device.
    pub(crate) fn reads(&mut self, of: File, seconds: f64, operations: f64) {
        self.thread("read", Some(of), seconds);
        let thread = vec![key_value(THREAD_ROLE, "apply"), key_value(THREAD_ID, 4242_i64)];
        self.on_device(Who::Replica, thread, of, seconds, operations);
    }

    /// Other threads of the replica were on the device.
    pub(crate) fn device(&mut self, role: &str, of: File, seconds: f64, operations: f64) {
        self.on_device(Who::Replica, vec![key_value(THREAD_ROLE, role)], of, seconds, operations);
    }

    /// The neighbour was on the device.
    pub(crate) fn neighbour(&mut self, of: File, seconds: f64) {
        self.on_device(Who::Neighbour, vec![key_value(THREAD_ROLE, "client")], of, seconds, 1.0);
    }

    /// Somebody who is not watched was on the device.
    pub(crate) fn stranger(&mut self, culprit: &str, seconds: f64) {
        let attributes = vec![
            key_value(HOST_NAME, "db7"),
            key_value(SYSTEM_DEVICE, "vda"),
            key_value(BLAME_CULPRIT, culprit),
        ];
        self.add(Who::Host, signal::DEVICE_TIME, attributes, seconds);
    }

    /// The critical thread's operations on a file.
    pub(crate) fn operation(&mut self, operation: &str, of: File, seconds: f64) {
        let mut attributes = file(of.0, of.1);
        attributes.extend([key_value(THREAD_ROLE, "apply"), key_value(IO_OPERATION, operation)]);
        self.add(Who::Replica, signal::FILE_OPERATION_TIME, attributes, seconds);
    }

    /// Work in the log.
    pub(crate) fn work(&mut self, of: File, applied: bool, drops: bool, items: f64) {
        let attributes = vec![
            key_value(FILE_PATH, of.1),
            key_value(REPLICATION_CHANNEL, ""),
            key_value(WORK_STAGE, if applied { "applied" } else { "received" }),
            key_value(WORK_KIND, if drops { "drop" } else { "block" }),
        ];
        self.add(Who::Replica, signal::REPLICATION_WORK, attributes, items);
    }

    pub(crate) fn neighbour_lag(&mut self, lag: f64) {
        self.neighbour_lag = Some(lag);
    }

    /// The neighbour listens on the same port as the replica, in a container of its own.
    pub(crate) fn share_the_port(&mut self) {
        self.neighbour.port = identity().port;
    }

    /// Replay waited for a session.
    pub(crate) fn waits(&mut self, kind: &'static str, holder: i64, seconds: f64) {
        let attributes = Self::wait(kind, holder);
        self.add(Who::Replica, signal::REPLICATION_WAIT_TIME, attributes, seconds);
    }

    /// Of that session nothing is told any more.
    pub(crate) fn wait_is_forgotten(&mut self, kind: &'static str, holder: i64) {
        let attributes = Self::wait(kind, holder);
        self.counters.retain(|_, (_, of, _)| *of != attributes);
    }

    fn wait(kind: &'static str, holder: i64) -> Vec<KeyValue> {
        vec![key_value(REPLICATION_CHANNEL, ""), key_value(WAIT_KIND, kind), key_value(WAIT_HOLDER, holder)]
    }

    /// The data directory is made anew behind the same address.
    pub(crate) fn recreate(&mut self) {
        self.instance = Uuid::from_u128(9);
        self.counters.clear();
    }

    fn me(&self) -> ServerIdentity {
        ServerIdentity { instance_id: self.instance, ..identity() }
    }

    fn resource(&self, who: Who) -> Resource {
        match who {
            Who::Replica => self.me().resource(),
            Who::Neighbour => self.neighbour.resource(),
            Who::Host => Resource {
                // As `file_io` tells of a host: with an instance of its own, which is no server's.
                attributes: vec![
                    key_value(SERVICE_NAME, "blameio"),
                    key_value(SERVICE_INSTANCE_ID, Uuid::from_u128(1).to_string()),
                    key_value(HOST_NAME, "db7"),
                ],
                ..Resource::default()
            },
        }
    }

    fn told(&self, who: Who, replication: bool, builder: &mut MetricsBuilder) {
        let late = if replication { 0 } else { 3_000_000 };
        let time = PointTime { start: BEGAN, at: BEGAN + self.second * SECOND + late };
        for ((_, name, _), (metric, attributes, value)) in
            self.counters.iter().filter(|((of, ..), _)| *of == who)
        {
            let of_replication = [signal::REPLICATION_WORK.name, signal::REPLICATION_WAIT_TIME.name];
            if of_replication.contains(name) == replication {
                builder.point(metric, *value, attributes.clone(), time);
            }
        }
    }

    fn lag(&self, who: Who, lag: f64) -> ResourceMetrics {
        let mut builder = MetricsBuilder::new(self.resource(who), "recorded");
        let time = PointTime { start: BEGAN, at: BEGAN + self.second * SECOND };
        let channel = || key_value(REPLICATION_CHANNEL, "");
        builder.point(&signal::REPLICATION_LAG, lag, vec![channel()], time);
        builder.point(&signal::REPLICATION_APPLIED, self.applied, vec![channel()], time);
        let freshness = if self.stale { "stale" } else { "fresh" };
        let info = vec![channel(), key_value(LAG_SOURCE, "primary"), key_value(LAG_FRESHNESS, freshness)];
        builder.point(&signal::REPLICATION_INFO, 1_i64, info, time);
        self.told(who, true, &mut builder);
        builder.finish()
    }

    /// A second is over, and so much log was applied. Returns the replica's blame, which sums to its lag.
    pub(crate) fn tick(&mut self, lag: f64, applied: f64) -> Vec<Row> {
        self.second += 1;
        self.applied += applied;
        // The kernel tells of a thread all the time, were it only that it runs.
        self.thread("cpu", None, 1e-9);
        let mut lags = vec![self.lag(Who::Replica, lag)];
        lags.extend(self.neighbour_lag.map(|lag| self.lag(Who::Neighbour, lag)));
        self.out = self.road.pass_all(lags);
        let mut kernel: Vec<_> = [Who::Replica, Who::Neighbour, Who::Host]
            .into_iter()
            .map(|who| {
                let mut builder = MetricsBuilder::new(self.resource(who), "recorded");
                self.told(who, false, &mut builder);
                builder.finish()
            })
            .collect();
        if self.turned {
            kernel.reverse();
        }
        let out = self.road.pass_all(kernel);
        self.out.extend(out);
        let rows = self.rows_of(self.instance);
        let sum: f64 = rows.iter().map(|row| row.seconds).sum();
        assert!((sum - lag).abs() <= 1e-9 * lag.max(1.0), "{sum} of {lag}: {rows:?}");
        self.ticks += 1;
        rows
    }

    /// The lags of the neighbour that came out of the last second, each with the sum of what is owed at its moment.
    pub(crate) fn lag_and_blame_of_neighbour(&self) -> Vec<(f64, f64)> {
        let of = self.of(self.neighbour.instance_id);
        let blame = points(&of, &signal::LAG_BLAME);
        points(&of, &signal::REPLICATION_LAG)
            .iter()
            .map(|lag| {
                let same = blame.iter().filter(|row| row.time_unix_nano == lag.time_unix_nano);
                (number(lag).unwrap_or_default(), same.filter_map(number).sum())
            })
            .collect()
    }

    fn of(&self, instance: Uuid) -> Vec<ResourceMetrics> {
        let instance = instance.to_string();
        let is_its = |resource: &&ResourceMetrics| {
            let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            attribute(attributes, SERVICE_INSTANCE_ID) == Some(&instance)
        };
        self.out.iter().filter(is_its).cloned().collect()
    }

    fn rows_of(&self, instance: Uuid) -> Vec<Row> {
        let of = self.of(instance);
        points(&of, &signal::LAG_BLAME)
            .iter()
            .filter(|point| !is_ended(point.flags))
            .map(|point| {
                let text = |key| attribute(&point.attributes, key).unwrap_or_default().to_owned();
                Row {
                    cause: text(BLAME_CAUSE),
                    table: text(DB_TABLE),
                    index: text(DB_INDEX),
                    culprit: text(BLAME_CULPRIT),
                    role: text(THREAD_ROLE),
                    seconds: number(point).unwrap_or_default(),
                }
            })
            .collect()
    }
}

/// What a cause owes.
pub(crate) fn owed(rows: &[Row], cause: &str) -> f64 {
    rows.iter().filter(|row| row.cause == cause).map(|row| row.seconds).sum()
}

/// What a culprit owes.
pub(crate) fn owed_by(rows: &[Row], culprit: &str) -> f64 {
    rows.iter().filter(|row| row.culprit == culprit).map(|row| row.seconds).sum()
}
