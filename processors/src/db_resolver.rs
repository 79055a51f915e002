//! `db_resolver`: replaces files and threads by database objects and roles, and sums what falls together. What the
//! catalog does not know becomes `(unresolved)`, never a guess.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use blameio_config::{ComponentId, Decode, Signal, settings};
use blameio_databases::{CatalogReader, Database, database};
use blameio_pipeline::{
    Batch, Context, Factory, Processor, Refusal, Stability,
    attribute::{SERVER_ADDRESS, SERVER_PORT, SERVICE_INSTANCE_ID},
    metrics::{MetricsBuilder, attribute},
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{ExponentialHistogram, Metric, ResourceMetrics, Sum, metric::Data},
};

mod held;
mod histogram;
mod point;
mod ranking;
mod series;

use point::has_file;
use series::{RESOLVED, Series, THREAD_TIME};

settings! {
    /// Resolves files to tables and indexes.
    pub struct DbResolverSettings {
        /// Databases whose files are resolved; without it, all that are declared.
        pub databases: Vec<ComponentId> = (),
        /// Most series per server. The busiest objects have their own; what does not fit is counted in `(other)` rows.
        pub max_series: usize = 1000,
        /// Adds `datname`, `schemaname`, `relname` and `indexrelname`, to join the series of postgres_exporter.
        pub join_labels: bool = false,
    }
}

/// Factory of `db_resolver`.
pub const DB_RESOLVER: Factory<dyn Processor> = Factory {
    kind: "db_resolver",
    summary: "Replaces files and threads by tables, indexes and roles",
    module: "blameio-processors",
    signals: &[Signal::Metrics],
    stability: Stability::Development,
    fields: DbResolverSettings::FIELDS,
    validate: |node, path, found| {
        if let Some(settings) = DbResolverSettings::decode(node, path, found)
            && settings.max_series < 10
        {
            found.error(&node.position, &path.key("max_series"), "must be at least 10");
        }
    },
    create: |node, context: Context| {
        let settings: DbResolverSettings = context.settings(node)?;
        let databases = context
            .host
            .databases(&context.id, &settings.databases)?
            .iter()
            .filter_map(|(_, extension)| database(extension.as_ref()).cloned())
            .collect();
        Ok(Box::new(DbResolver::new(Catalogs::Databases(databases), &settings)))
    },
};

const SCOPE: &str = "blameio/db_resolver";

/// A server of which nothing was heard for so long is forgotten: its instance is gone.
const FORGET: Duration = Duration::from_hours(1);

/// Where catalogs come from.
pub enum Catalogs {
    /// From the declared databases.
    Databases(Vec<Database>),
    /// Recorded, by `service.instance.id`.
    Recorded(BTreeMap<String, CatalogReader>),
}

impl fmt::Debug for Catalogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalogs")
    }
}

impl Catalogs {
    fn of(&self, instance: &str) -> Option<CatalogReader> {
        match self {
            Self::Databases(databases) => databases
                .iter()
                .find(|database| {
                    let view = database.server().view();
                    view.identity
                        .as_ref()
                        .is_some_and(|identity| identity.instance_id.to_string() == instance)
                })
                .map(Database::catalog),
            Self::Recorded(catalogs) => catalogs.get(instance).cloned(),
        }
    }
}

/// The processor.
#[derive(Debug)]
pub struct DbResolver {
    catalogs: Catalogs,
    max_series: usize,
    join_labels: bool,
    nothing: CatalogReader,
    servers: BTreeMap<String, (Instant, Series)>,
}

impl DbResolver {
    /// A resolver that asks these catalogs.
    pub fn new(catalogs: Catalogs, settings: &DbResolverSettings) -> Self {
        Self {
            catalogs,
            max_series: settings.max_series,
            join_labels: settings.join_labels,
            nothing: CatalogReader::recorded(Vec::new()),
            servers: BTreeMap::new(),
        }
    }

    fn resolve(&mut self, resource_metrics: &mut ResourceMetrics) {
        let Some(resource) = resource_metrics.resource.clone() else { return };
        let Some(instance) = attribute(&resource.attributes, SERVICE_INSTANCE_ID).map(str::to_owned) else {
            return;
        };
        // A server that nobody resolves for is no reason to hand inodes on as labels: its files are unresolved.
        let catalog = self.catalogs.of(&instance).unwrap_or_else(|| self.nothing.clone());
        let mut raw = Vec::new();
        for scope in &mut resource_metrics.scope_metrics {
            raw.extend(scope.metrics.iter_mut().filter_map(raw_points));
            scope.metrics.retain(|metric| position(metric).is_none() || !is_empty(metric));
        }
        if raw.is_empty() {
            return;
        }
        resource_metrics.scope_metrics.retain(|scope| !scope.metrics.is_empty());
        let (seen, series) =
            self.servers.entry(instance).or_insert_with(|| (Instant::now(), Series::default()));
        *seen = Instant::now();
        series.settle(&catalog, self.max_series);
        let mut at = 0;
        for metric in &raw {
            at = at.max(take(metric, series, &catalog, self.max_series));
        }
        let address: Vec<_> = resource
            .attributes
            .iter()
            .filter(|attribute| attribute.key == SERVER_ADDRESS || attribute.key == SERVER_PORT)
            .cloned()
            .collect();
        let mut builder = MetricsBuilder::new(resource, SCOPE);
        series.issue(at, self.max_series, &address, self.join_labels, &mut builder);
        resource_metrics.scope_metrics.extend(builder.finish().scope_metrics);
    }
}

fn position(metric: &Metric) -> Option<usize> {
    RESOLVED.iter().position(|definition| definition.name == metric.name)
}

/// Moves out of a metric what is about files, and all of thread time: its states without a file belong to the rest.
fn raw_points(metric: &mut Metric) -> Option<Metric> {
    let everything = position(metric)? == THREAD_TIME;
    let raw = |attributes: &[KeyValue]| everything || has_file(attributes);
    let data = match &mut metric.data {
        Some(Data::Sum(sum)) => {
            let data_points = sum.data_points.extract_if(.., |point| raw(&point.attributes)).collect();
            Data::Sum(Sum { data_points, ..*sum })
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            let data_points = histogram.data_points.extract_if(.., |point| raw(&point.attributes)).collect();
            Data::ExponentialHistogram(ExponentialHistogram { data_points, ..*histogram })
        }
        _ => return None,
    };
    let taken = Metric { name: metric.name.clone(), data: Some(data), ..Metric::default() };
    (!is_empty(&taken)).then_some(taken)
}

fn is_empty(metric: &Metric) -> bool {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.is_empty(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.is_empty(),
        _ => false,
    }
}

/// Takes the points of a metric; returns the newest time among them.
fn take(metric: &Metric, series: &mut Series, catalog: &CatalogReader, limit: usize) -> u64 {
    let Some(position) = position(metric) else { return 0 };
    let mut at = 0;
    match &metric.data {
        Some(Data::Sum(sum)) => {
            for point in &sum.data_points {
                at = at.max(point.time_unix_nano);
                series.number(position, point, catalog, limit);
            }
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            for point in &histogram.data_points {
                at = at.max(point.time_unix_nano);
                series.histogram(point, catalog, limit);
            }
        }
        _ => {}
    }
    at
}

impl Processor for DbResolver {
    fn process(&mut self, batch: Batch) -> Result<Vec<Batch>, Refusal> {
        let mut request =
            batch.into_metrics().map_err(|error| Refusal { reason: error.to_string(), permanent: true })?;
        for resource in &mut request.resource_metrics {
            self.resolve(resource);
        }
        Ok(vec![Batch::metrics(request)])
    }

    fn tick(&mut self) -> Vec<Batch> {
        self.servers.retain(|_, (seen, _)| seen.elapsed() < FORGET);
        Vec::new()
    }
}
