//! The two processors in a row, and the batches that drive them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;

use blameio_config::{Decode, Diagnostics, Path, parse};
use blameio_databases::{CatalogReader, FileKind, Object};
use blameio_pipeline::{
    Batch, Processor, ServerIdentity,
    attribute::{
        FILE_DEVICE, FILE_GENERATION, FILE_INODE, FILE_PATH, LAG_FRESHNESS, LAG_SOURCE, REPLICATION_CHANNEL,
        THREAD_ID, THREAD_ROLE, THREAD_STATE,
    },
    metrics::{MetricsBuilder, PointTime, key_value, number_points},
    signal::{self, Metric},
};
use blameio_processors::{
    db_resolver::{Catalogs, DbResolver, DbResolverSettings},
    lag_attribution::{LagAttribution, LagAttributionSettings},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{NumberDataPoint, ResourceMetrics},
};
use uuid::Uuid;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const BEGAN: u64 = 1_700_000_000 * SECOND;

pub(crate) fn identity() -> ServerIdentity {
    ServerIdentity {
        instance_id: Uuid::from_u128(7),
        service_name: "replica".into(),
        system: "postgresql",
        address: "db7".into(),
        port: 5432,
        host_name: "db7".into(),
        host_id: None,
    }
}

/// Another server on the same host.
pub(crate) fn neighbour() -> ServerIdentity {
    let (instance_id, service_name) = (Uuid::from_u128(8), "billing".into());
    ServerIdentity { instance_id, service_name, port: 5433, ..identity() }
}

pub(crate) fn object(table: &str, index: Option<&str>, kind: FileKind) -> Object {
    Object {
        database: "shop".into(),
        schema: "public".into(),
        namespace: "shop|public".into(),
        table: table.into(),
        index: index.map(Into::into),
        partition: None,
        kind,
    }
}

pub(crate) fn settings<T: Decode>(yaml: &str) -> T {
    T::decode(&parse(yaml).unwrap(), &Path::root(), &mut Diagnostics::new()).unwrap()
}

/// The two processors in a row.
pub(crate) struct Road {
    pub(crate) resolver: DbResolver,
    pub(crate) attribution: LagAttribution,
}

impl Road {
    pub(crate) fn new(resolver: &str) -> Self {
        let catalog = CatalogReader::recorded(vec![
            ("base/5/100".into(), object("orders", None, FileKind::Heap)),
            ("base/5/101".into(), object("orders", Some("orders_cold_idx"), FileKind::Index)),
            ("base/5/102".into(), object("items", None, FileKind::Heap)),
            ("base/5/103".into(), object("gone", None, FileKind::Heap)),
        ]);
        let events = vec![("base/6/200".into(), object("events", None, FileKind::Heap))];
        let catalogs = Catalogs::Recorded(BTreeMap::from([
            (identity().instance_id.to_string(), catalog),
            (neighbour().instance_id.to_string(), CatalogReader::recorded(events)),
        ]));
        Self {
            resolver: DbResolver::new(catalogs, &settings::<DbResolverSettings>(resolver)),
            attribution: LagAttribution::new(&settings::<LagAttributionSettings>("state_directory: \"\"")),
        }
    }

    pub(crate) fn pass(&mut self, resource: ResourceMetrics) -> Vec<ResourceMetrics> {
        self.pass_all(vec![resource])
    }

    pub(crate) fn pass_all(&mut self, resource_metrics: Vec<ResourceMetrics>) -> Vec<ResourceMetrics> {
        let batch = Batch::metrics(ExportMetricsServiceRequest { resource_metrics });
        self.resolver
            .process(batch)
            .unwrap()
            .into_iter()
            .flat_map(|batch| self.attribution.process(batch).unwrap())
            .flat_map(|batch| batch.into_metrics().unwrap().resource_metrics)
            .collect()
    }
}

pub(crate) fn file(inode: i64, path: &str) -> Vec<KeyValue> {
    vec![
        key_value(FILE_DEVICE, "8:1"),
        key_value(FILE_INODE, inode),
        key_value(FILE_GENERATION, 1_i64),
        key_value(FILE_PATH, path),
    ]
}

/// State, file (inode and path) where the state has one, and cumulative seconds.
pub(crate) type TimeRow = (&'static str, Option<(i64, &'static str)>, f64);

/// Cumulative thread time after some seconds.
pub(crate) fn thread_time(second: u64, rows: &[TimeRow]) -> ResourceMetrics {
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let time = PointTime { start: BEGAN, at: BEGAN + second * SECOND + 3_000_000 };
    for (state, of, seconds) in rows {
        let mut attributes = of.map(|(inode, path)| file(inode, path)).unwrap_or_default();
        attributes.extend([
            key_value(THREAD_ID, 4242_i64),
            key_value(THREAD_ROLE, "apply"),
            key_value(THREAD_STATE, *state),
        ]);
        builder.point(&signal::THREAD_TIME, *seconds, attributes, time);
    }
    builder.finish()
}

pub(crate) fn lag(second: u64, lag: f64, applied: i64) -> ResourceMetrics {
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let time = PointTime { start: BEGAN, at: BEGAN + second * SECOND };
    let channel = || key_value(REPLICATION_CHANNEL, "");
    builder.point(&signal::REPLICATION_LAG, lag, vec![channel()], time);
    builder.point(&signal::REPLICATION_APPLIED, applied, vec![channel()], time);
    let info = vec![channel(), key_value(LAG_SOURCE, "primary"), key_value(LAG_FRESHNESS, "fresh")];
    builder.point(&signal::REPLICATION_INFO, 1_i64, info, time);
    builder.finish()
}

pub(crate) fn points(resources: &[ResourceMetrics], metric: &Metric) -> Vec<NumberDataPoint> {
    resources
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .filter(|found| found.name == metric.name)
        .flat_map(number_points)
        .cloned()
        .collect()
}
