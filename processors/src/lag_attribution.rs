//! `lag_attribution`: keeps, per replication channel, the account of what the lag is owed to, and issues lag and blame
//! of one tick with one timestamp. It takes the upstream lag points out, so that no reader sees two lags.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use blameio_config::{Decode, Signal, settings};
use blameio_pipeline::{
    Batch, Context, Factory, Processor, Refusal, Stability,
    attribute::THREAD_STATE,
    metrics::{MetricsBuilder, PointTime, key_value, unix_nano},
    signal,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, common::v1::KeyValue, metrics::v1::ResourceMetrics,
    resource::v1::Resource,
};

pub mod account;
pub mod channel;
pub mod charges;
pub mod normal;
pub mod owner;
pub mod reading;
pub mod top;
pub mod windows;

use channel::{Channel, Outcome, Patience};
use owner::channel_attributes;

settings! {
    /// Tells what replication lag is owed to.
    pub struct LagAttributionSettings {
        /// How often the account is brought up to date; the collection intervals of `file_io` and `replication`
        /// should equal it.
        pub window: Duration = "1s",
        /// Most rows of blame per channel, beside `unknown` and one `(other)` per cause.
        pub top_k: usize = 20,
    }
}

/// Factory of `lag_attribution`.
pub const LAG_ATTRIBUTION: Factory<dyn Processor> = Factory {
    kind: "lag_attribution",
    summary: "Attributes replication lag to tables, indexes and causes, in seconds that add up to it",
    module: "blameio-processors",
    signals: &[Signal::Metrics],
    stability: Stability::Development,
    fields: LagAttributionSettings::FIELDS,
    validate: |node, path, found| {
        if let Some(settings) = LagAttributionSettings::decode(node, path, found) {
            if settings.window < Duration::from_millis(100) {
                found.error(&node.position, &path.key("window"), "must be at least 100ms");
            }
            if settings.top_k == 0 {
                found.error(&node.position, &path.key("top_k"), "must be positive");
            }
        }
    },
    create: |node, context: Context| Ok(Box::new(LagAttribution::new(&context.settings(node)?))),
};

/// Lag below this is not told from zero: the positions of primary and replica are sampled every 20 ms each, by
/// connections that may have to wait for a CPU on a busy host.
const NOISE: f64 = 0.1;

/// A time that is older than the newest by more than this is a clock that was set back.
const CLOCK_STEP: Duration = Duration::from_secs(10);

/// A server of which nothing was heard for so long is forgotten: its instance is gone.
const FORGET: Duration = Duration::from_hours(1);

const SCOPE: &str = "blameio/lag_attribution";

#[derive(Debug)]
struct Server {
    resource: Resource,
    seen: Instant,
    channels: BTreeMap<String, Channel>,
}

/// The processor.
#[derive(Debug)]
pub struct LagAttribution {
    window: Duration,
    top_k: usize,
    servers: BTreeMap<String, Server>,
    newest: u64,
}

impl LagAttribution {
    /// An account book with nothing in it.
    pub fn new(settings: &LagAttributionSettings) -> Self {
        Self { window: settings.window, top_k: settings.top_k, servers: BTreeMap::new(), newest: 0 }
    }

    /// Returns what has to be said at once: the end of channels.
    fn take(&mut self, resource_metrics: &mut ResourceMetrics) -> Vec<ResourceMetrics> {
        let Some(resource) = resource_metrics.resource.clone() else { return Vec::new() };
        let Some(instance) = reading::instance(&resource).map(str::to_owned) else { return Vec::new() };
        let readings = reading::take(resource_metrics);
        if readings.lags.is_empty() && readings.threads.is_empty() && readings.ended.is_empty() {
            return Vec::new();
        }
        let server = self.servers.entry(instance).or_insert_with(|| Server {
            resource: Resource::default(),
            seen: Instant::now(),
            channels: BTreeMap::new(),
        });
        server.resource = resource;
        server.seen = Instant::now();
        for lag in readings.lags {
            self.newest = newest(self.newest, lag.at);
            let channel = server.channels.entry(lag.channel.clone()).or_insert_with(|| Channel::new(lag.at));
            channel.lag(lag);
        }
        if !readings.threads.is_empty() {
            self.newest = newest(self.newest, readings.threads_at);
            // A physical replica has one channel, without a name, and all critical threads work for it.
            let channel =
                server.channels.entry(String::new()).or_insert_with(|| Channel::new(readings.threads_at));
            channel.threads(readings.threads_at, &readings.threads);
        }
        let ended = readings.ended.into_iter();
        ended
            .filter_map(|(name, at)| {
                let channel = server.channels.remove(&name).filter(Channel::was_shown)?;
                Some(emit_end(&server.resource, &name, &channel, at))
            })
            .collect()
    }

    fn due(&mut self, now: u64) -> Vec<ResourceMetrics> {
        let patience = Patience {
            tolerance: nanos(self.window / 10),
            longest: nanos(self.window + self.window / 2),
            noise: NOISE,
            top_k: self.top_k,
        };
        let mut due = Vec::new();
        for server in self.servers.values_mut() {
            for (name, channel) in &mut server.channels {
                for outcome in channel.due(now, &patience) {
                    due.push(emit(&server.resource, channel.start(), name, &outcome));
                }
            }
        }
        due
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The newest time heard of. A clock that was set back is followed, or nothing would ever be waited for again.
fn newest(newest: u64, at: u64) -> u64 {
    if at + nanos(CLOCK_STEP) < newest { at } else { newest.max(at) }
}

fn emit(resource: &Resource, start: u64, name: &str, outcome: &Outcome) -> ResourceMetrics {
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
fn emit_end(resource: &Resource, name: &str, channel: &Channel, at: u64) -> ResourceMetrics {
    let (address, port) = reading::address(resource);
    let base = channel_attributes(address, port, name);
    let time = PointTime { start: 0, at };
    let mut builder = MetricsBuilder::new(resource.clone(), SCOPE);
    builder.ended(&signal::REPLICATION_LAG, base.clone(), time);
    for owner in channel.shown() {
        let attributes = base.iter().cloned().chain(owner.attributes()).collect();
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

impl Processor for LagAttribution {
    fn process(&mut self, batch: Batch) -> Result<Vec<Batch>, Refusal> {
        let mut request =
            batch.into_metrics().map_err(|error| Refusal { reason: error.to_string(), permanent: true })?;
        let mut ended = Vec::new();
        for resource in &mut request.resource_metrics {
            ended.extend(self.take(resource));
        }
        let newest = self.newest;
        request.resource_metrics.retain(|resource| !resource.scope_metrics.is_empty());
        request.resource_metrics.extend(ended);
        request.resource_metrics.extend(self.due(newest));
        if request.resource_metrics.is_empty() { Ok(Vec::new()) } else { Ok(vec![Batch::metrics(request)]) }
    }

    fn tick(&mut self) -> Vec<Batch> {
        self.servers.retain(|_, server| server.seen.elapsed() < FORGET);
        // Wall time ends the wait for a file_io receiver that has nothing to say.
        let resource_metrics = self.due(unix_nano(SystemTime::now()));
        if resource_metrics.is_empty() {
            return Vec::new();
        }
        vec![Batch::metrics(ExportMetricsServiceRequest { resource_metrics })]
    }
}
