//! Exporter `prometheus`: holds the newest value of each series and serves them at `/metrics`.
//!
//! It is read from, so nothing is queued or retried: a batch is delivered once its points are held.

mod accept;
mod histogram;
mod intake;
mod label;
mod name;
mod openmetrics;
mod series;
mod server;
mod text;
mod unit;

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use blameio_config::{Decode, Diagnostics, Endpoint, Node, Path, Signal, settings};
use blameio_pipeline::{
    Batch, ComponentError, Context, ExportError, Exporter, Factory, Stability, telemetry::ComponentMetrics,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    intake::{Naming, Taken},
    series::{Frozen, MAX_SERIES, Rejected, Store},
};
pub use self::{
    server::{Page, serve},
    text::TextFormat,
};

/// Series are looked through for expired ones at most this often, unless there is no room for more.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);
/// Series that a scrape takes at a time: the pipeline waits for as long. A family is taken as a whole.
const PART: usize = 2_000;
/// Metrics that are named in the log as not served, each once.
const MAX_TOLD: usize = 1_000;

settings! {
    /// Serves the newest value of each series for Prometheus to scrape.
    pub struct PrometheusSettings {
        /// Address and port to listen on; the path is `/metrics`.
        pub endpoint: Endpoint = "localhost:9464",
        /// Whether samples carry the time at which they were taken.
        pub send_timestamps: bool = false,
        /// How long a series is served after its last point.
        pub metric_expiration: Duration = "5m",
        /// Whether a client that asks for OpenMetrics gets it.
        pub enable_open_metrics: bool = true,
    }
}

/// What makes the exporter.
pub const FACTORY: Factory<dyn Exporter> = Factory {
    kind: "prometheus",
    summary: "Serves the newest values for Prometheus to scrape",
    module: env!("CARGO_PKG_NAME"),
    signals: &[Signal::Metrics],
    stability: Stability::Alpha,
    fields: PrometheusSettings::FIELDS,
    validate,
    create,
};

fn validate(node: &Node, path: &Path, out: &mut Diagnostics) {
    if let Some(settings) = PrometheusSettings::decode(node, path, out)
        && settings.metric_expiration.is_zero()
    {
        out.error(&node.position, &path.key("metric_expiration"), "`metric_expiration` must be positive");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of every factory")]
fn create(node: &Node, context: Context) -> Result<Box<dyn Exporter>, ComponentError> {
    let settings = context.settings::<PrometheusSettings>(node)?;
    let metrics = context.metrics.component("exporter", &context.id);
    Ok(Box::new(Prometheus::new(context.id.to_string(), settings, metrics)))
}

/// How [`render`] writes.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// The exposition format.
    pub format: TextFormat,
    /// Whether samples carry their time.
    pub send_timestamps: bool,
    /// Whether unit and type become part of a name.
    pub suffixes: bool,
    /// Whether series get `job` and `instance` from their resource.
    pub job_and_instance: bool,
}

impl RenderOptions {
    /// As the Collector serves its own metrics: names unchanged, no `_total`, identity in `target_info` only.
    pub const fn own_telemetry(format: TextFormat) -> Self {
        Self { format, send_timestamps: false, suffixes: false, job_and_instance: false }
    }

    /// As exporter `prometheus` serves what it was given.
    pub const fn exported(format: TextFormat) -> Self {
        Self { format, send_timestamps: false, suffixes: true, job_and_instance: true }
    }
}

/// The exposition of one request alone. What cannot be scraped, such as deltas, is left out.
pub fn render(request: &ExportMetricsServiceRequest, options: RenderOptions) -> String {
    let mut store = Store::default();
    let naming = Naming { suffixes: options.suffixes, identify: options.job_and_instance };
    let now = Instant::now();
    intake::take(&mut store, request, naming, now);
    text::page(&store.freeze(None, usize::MAX, Duration::MAX, now), options.format, options.send_timestamps)
}

/// Held by the exporter and, as long as it serves, by the page.
struct Held {
    store: Store,
    expired: Instant,
    told: BTreeSet<(String, Rejected)>,
}

impl Held {
    fn expire(&mut self, age: Duration, now: Instant) {
        self.store.expire(age, now);
        self.expired = now;
    }

    fn expires(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.expired) >= EXPIRE_EVERY
    }
}

/// All that is served now. The lock is held for a part at a time, and never while a page is written.
fn snapshot(held: &Mutex<Held>, age: Duration, now: Instant) -> Vec<Frozen> {
    let mut families: Vec<Frozen> = Vec::new();
    loop {
        let after = families.last().map(|family| family.name.as_str());
        let mut part = {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            if held.expires(now) {
                held.expire(age, now);
            }
            held.store.freeze(after, PART, age, now)
        };
        if part.is_empty() {
            return families;
        }
        families.append(&mut part);
    }
}

struct Prometheus {
    id: String,
    settings: PrometheusSettings,
    metrics: ComponentMetrics,
    held: Arc<Mutex<Held>>,
    stop: CancellationToken,
    /// The task that serves; dropping the set ends it.
    server: Mutex<JoinSet<()>>,
}

impl Prometheus {
    fn new(id: String, settings: PrometheusSettings, metrics: ComponentMetrics) -> Self {
        let held = Held { store: Store::default(), expired: Instant::now(), told: BTreeSet::new() };
        Self {
            id,
            settings,
            metrics,
            held: Arc::new(Mutex::new(held)),
            stop: CancellationToken::new(),
            server: Mutex::default(),
        }
    }

    fn take(&self, request: &ExportMetricsServiceRequest, now: Instant) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let full = held.store.len() >= MAX_SERIES;
        if full || held.expires(now) {
            held.expire(self.settings.metric_expiration, now);
        }
        let naming = Naming { suffixes: true, identify: true };
        let Taken { accepted, rejected } = intake::take(&mut held.store, request, naming, now);
        self.metrics.sent(accepted);
        if rejected.is_empty() {
            return;
        }
        self.metrics.send_failed(rejected.len());
        for (metric, reason) in rejected {
            let key = (metric, reason);
            if held.told.len() < MAX_TOLD && !held.told.contains(&key) {
                let metric = crate::plain(&key.0);
                tracing::warn!(exporter = %self.id, %metric, "not served: {}", why(reason));
                held.told.insert(key);
            }
        }
    }

    fn page(&self) -> Page {
        let held = Arc::clone(&self.held);
        let (age, timestamps) = (self.settings.metric_expiration, self.settings.send_timestamps);
        Page::new(self.settings.enable_open_metrics, move |format| {
            text::page(&snapshot(&held, age, Instant::now()), format, timestamps)
        })
    }
}

fn why(reason: Rejected) -> String {
    match reason {
        Rejected::Conflict => "its name is taken by a metric of another type; rename one of them".to_owned(),
        Rejected::Full => {
            format!("{MAX_SERIES} series are held already; export fewer, or shorten `metric_expiration`")
        }
        Rejected::Delta => {
            "only cumulative values can be scraped; let the sender export cumulative sums".to_owned()
        }
        Rejected::Malformed => {
            "it has no legal name, no value, or boundaries that do not fit its counts".to_owned()
        }
    }
}

#[async_trait]
impl Exporter for Prometheus {
    async fn start(&self) -> Result<(), ComponentError> {
        let (page, stop) = (self.page(), self.stop.clone());
        let (who, endpoint) = (format!("exporter {}", self.id), self.settings.endpoint.clone());
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.spawn(async move { serve(&who, "endpoint", &endpoint, page, stop).await });
        Ok(())
    }

    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request = batch.as_metrics().map_err(crate::permanent)?;
        self.take(request, Instant::now());
        Ok(())
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        let mut server = mem::take(&mut *self.server.lock().unwrap_or_else(PoisonError::into_inner));
        while server.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
