//! `lag_attribution`: keeps, per replication channel, the account of what the lag is owed to, and issues lag and blame
//! of one tick with one timestamp. It takes the upstream lag points out, so that no reader sees two lags.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use blameio_config::{Decode, Signal, settings};
use blameio_pipeline::{
    Batch, Context, Factory, Processor, Refusal, Stability,
    attribute::SERVICE_NAME,
    metrics::{attribute, unix_nano},
    state,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::ResourceMetrics, resource::v1::Resource,
};

pub mod account;
pub mod at_work;
pub mod channel;
pub mod charges;
pub mod company;
pub mod contention;
mod cost;
pub mod devices;
mod emit;
pub mod latency;
pub mod learned;
pub mod normal;
pub mod owner;
pub mod reading;
pub mod spans;
pub mod state_file;
pub mod top;
pub mod windows;
pub mod work;

use channel::{Around, Channel, Patience};
use devices::{Devices, Source};
use learned::Learned;
use reading::Readings;

settings! {
    /// Tells what replication lag is owed to.
    pub struct LagAttributionSettings {
        /// How often the account is brought up to date; the collection intervals of `file_io` and `replication`
        /// should equal it.
        pub window: Duration = "1s",
        /// Most rows of blame per channel, beside `unknown` and one `(other)` per cause.
        pub top_k: usize = 20,
        /// Directory for what was learned of devices and of work, so that it survives a restart; empty to keep nothing.
        /// Without it, systemd's `$STATE_DIRECTORY`, or `/var/lib/blameio`.
        pub state_directory: Option<String>,
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
    create: |node, context: Context| {
        let mut attribution = LagAttribution::new(&context.settings(node)?);
        let name = context.id.to_string().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        attribution.state_name = format!("{name}.state");
        Ok(Box::new(attribution))
    },
};

/// Lag below this is not told from zero: the positions of primary and replica are sampled every 20 ms each, by
/// connections that may have to wait for a CPU on a busy host.
const NOISE: f64 = 0.1;

/// A time that is older than the newest by more than this is a clock that was set back.
const CLOCK_STEP: Duration = Duration::from_secs(10);

/// A server of which nothing was heard for so long is forgotten: its instance is gone.
const FORGET: Duration = Duration::from_hours(1);

/// A server of which nothing was heard for so many windows is silent: another that answers at its address has taken its
/// place.
const SILENT: u32 = 3;

#[derive(Debug)]
struct Server {
    resource: Resource,
    seen: Instant,
    /// The newest time that it told of, in nanoseconds since the epoch.
    heard: u64,
    channels: BTreeMap<String, Channel>,
}

impl Default for Server {
    fn default() -> Self {
        Self { resource: Resource::default(), seen: Instant::now(), heard: 0, channels: BTreeMap::new() }
    }
}

impl Server {
    /// The end of all that was shown of it.
    fn end(&self, at: u64) -> Vec<ResourceMetrics> {
        let shown = self.channels.iter().filter(|(_, channel)| channel.was_shown());
        shown.map(|(name, channel)| emit::end(&self.resource, name, channel, at)).collect()
    }
}

/// The processor.
#[derive(Debug)]
pub struct LagAttribution {
    window: Duration,
    top_k: usize,
    state_directory: Option<PathBuf>,
    state_name: String,
    /// Read with the first batch: a component that is only made opens no file.
    learned: Option<Learned>,
    servers: BTreeMap<String, Server>,
    devices: Devices,
    newest: u64,
}

impl LagAttribution {
    /// An account book with nothing in it.
    pub fn new(settings: &LagAttributionSettings) -> Self {
        Self {
            window: settings.window,
            top_k: settings.top_k,
            state_directory: state::directory(settings.state_directory.as_deref()),
            state_name: "lag_attribution.state".to_owned(),
            learned: None,
            servers: BTreeMap::new(),
            devices: Devices::new(nanos(settings.window.saturating_mul(4))),
            newest: 0,
        }
    }

    fn learned(&mut self) -> &mut Learned {
        let directory = self.state_directory.as_deref();
        self.learned.get_or_insert_with(|| Learned::load(directory, &self.state_name))
    }

    /// Returns what has to be said at once: the end of channels.
    fn take(&mut self, resource_metrics: &mut ResourceMetrics) -> Vec<ResourceMetrics> {
        let Some(resource) = resource_metrics.resource.clone() else { return Vec::new() };
        let mut readings = reading::take(resource_metrics);
        self.take_devices(&resource, &mut readings);
        let Some(instance) = reading::instance(&resource).map(str::to_owned) else { return Vec::new() };
        if readings.is_empty() {
            return Vec::new();
        }
        let mut ends = Vec::new();
        let server = self.servers.entry(instance.clone()).or_default();
        server.resource = resource;
        server.seen = Instant::now();
        let Readings { lags, threads, threads_at, operations, work, at_work, ended, .. } = readings;
        for at in lags.iter().map(|lag| lag.at).chain((!threads.is_empty()).then_some(threads_at)) {
            server.heard = newest(server.heard, at);
            self.newest = newest(self.newest, at);
        }
        // A physical replica has one channel, without a name, and all critical threads work for it.
        let of_threads = (!threads.is_empty()).then(|| (String::new(), threads_at));
        let heard = lags.iter().map(|lag| (lag.channel.clone(), lag.at)).chain(of_threads);
        for (name, at) in heard {
            if !self.servers.get(&instance).is_some_and(|server| server.channels.contains_key(&name)) {
                let habits = self.learned().wake(&instance, &name);
                if let Some(server) = self.servers.get_mut(&instance) {
                    server.channels.insert(name, Channel::new(at, habits));
                }
            }
        }
        let Some(server) = self.servers.get_mut(&instance) else { return ends };
        for (name, channel) in &mut server.channels {
            let work: Vec<_> = work.iter().filter(|point| point.channel == *name).cloned().collect();
            let at_work: Vec<_> = at_work.iter().filter(|point| point.channel == *name).cloned().collect();
            channel.work(&work, &at_work);
        }
        for lag in lags {
            if let Some(channel) = server.channels.get_mut(&lag.channel) {
                channel.lag(lag);
            }
        }
        if let Some(channel) = server.channels.get_mut("").filter(|_| !threads.is_empty()) {
            channel.threads(threads_at, &threads, &operations);
        }
        let mut resting = Vec::new();
        for (name, at) in ended {
            if let Some(channel) = server.channels.remove(&name) {
                ends.extend(channel.was_shown().then(|| emit::end(&server.resource, &name, &channel, at)));
                resting.push((name, channel.into_habits()));
            }
        }
        for (name, habits) in resting {
            self.learned().rest(&instance, &name, habits);
        }
        ends
    }

    /// A server that answers at the address of one that has fallen silent has taken its place: a data directory that was
    /// made anew. Two that both go on are two: each in a container of its own, say.
    fn replaced(&mut self) -> Vec<ResourceMetrics> {
        let silent = self.newest.saturating_sub(nanos(self.window * SILENT));
        if self.servers.values().all(|server| server.heard >= silent) {
            return Vec::new();
        }
        let place = |server: &Server| {
            let (address, port) = reading::address(&server.resource);
            Some((reading::host(&server.resource).to_owned(), address?.to_owned(), port?))
        };
        let taken: BTreeSet<_> =
            self.servers.values().filter(|server| server.heard >= silent).filter_map(place).collect();
        let replaced: Vec<_> = self
            .servers
            .extract_if(.., |_, server| {
                server.heard < silent && place(server).is_some_and(|place| taken.contains(&place))
            })
            .collect();
        let at = self.newest;
        replaced.into_iter().flat_map(|(_, server)| server.end(at)).collect()
    }

    fn take_devices(&mut self, resource: &Resource, readings: &mut Readings) {
        let at = readings.threads_at.max(readings.devices_at);
        if at > 0 {
            let source = Source {
                host: reading::host(resource),
                instance: reading::instance(resource),
                service: attribute(&resource.attributes, SERVICE_NAME).unwrap_or_default(),
            };
            self.devices.read(source, at, std::mem::take(&mut readings.devices));
        }
    }

    fn due(&mut self, now: u64) -> Vec<ResourceMetrics> {
        let patience = Patience {
            tolerance: nanos(self.window / 10),
            longest: nanos(self.window + self.window / 2),
            noise: NOISE,
            top_k: self.top_k,
        };
        let directory = self.state_directory.as_deref();
        let learned = self.learned.get_or_insert_with(|| Learned::load(directory, &self.state_name));
        let mut due = Vec::new();
        for (instance, server) in &mut self.servers {
            let mut around = Around {
                devices: &self.devices,
                latencies: &mut learned.latencies,
                host: reading::host(&server.resource),
                instance,
            };
            for (name, channel) in &mut server.channels {
                for outcome in channel.due(now, &patience, &mut around) {
                    due.push(emit::tick(&server.resource, channel.start(), name, &outcome));
                }
            }
        }
        due
    }

    /// Servers of which nothing is heard any more: their series end, what was learned of them rests.
    fn forget(&mut self) -> Vec<ResourceMetrics> {
        self.devices.forget(FORGET);
        let gone: Vec<_> = self.servers.extract_if(.., |_, server| server.seen.elapsed() >= FORGET).collect();
        let at = self.newest;
        let mut ends = Vec::new();
        for (instance, server) in gone {
            ends.extend(server.end(at));
            for (name, channel) in server.channels {
                self.learned().rest(&instance, &name, channel.into_habits());
            }
        }
        ends
    }

    fn save(&mut self) {
        let Some(learned) = &mut self.learned else { return };
        let channels = self.servers.iter().flat_map(|(instance, server)| {
            let channels = server.channels.iter();
            channels.map(move |(name, channel)| (instance.as_str(), name.as_str(), channel.habits()))
        });
        learned.write(channels);
    }
}

impl Drop for LagAttribution {
    fn drop(&mut self) {
        self.save();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The newest time heard of. A clock that was set back is followed, or nothing would ever be waited for again.
fn newest(newest: u64, at: u64) -> u64 {
    if at + nanos(CLOCK_STEP) < newest { at } else { newest.max(at) }
}

impl Processor for LagAttribution {
    fn process(&mut self, batch: Batch) -> Result<Vec<Batch>, Refusal> {
        let mut request =
            batch.into_metrics().map_err(|error| Refusal { reason: error.to_string(), permanent: true })?;
        let mut ended = Vec::new();
        for resource in &mut request.resource_metrics {
            ended.extend(self.take(resource));
        }
        ended.extend(self.replaced());
        let newest = self.newest;
        request.resource_metrics.retain(|resource| !resource.scope_metrics.is_empty());
        request.resource_metrics.extend(ended);
        request.resource_metrics.extend(self.due(newest));
        if request.resource_metrics.is_empty() { Ok(Vec::new()) } else { Ok(vec![Batch::metrics(request)]) }
    }

    fn tick(&mut self) -> Vec<Batch> {
        let mut resource_metrics = self.forget();
        // Wall time ends the wait for a file_io receiver that has nothing to say.
        resource_metrics.extend(self.due(unix_nano(SystemTime::now())));
        if self.learned.as_ref().is_some_and(Learned::is_due) {
            self.save();
        }
        if resource_metrics.is_empty() {
            return Vec::new();
        }
        vec![Batch::metrics(ExportMetricsServiceRequest { resource_metrics })]
    }
}
