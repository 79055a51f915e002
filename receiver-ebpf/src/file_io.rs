//! `file_io`: what the probes counted, as OTLP metrics, once an interval. It knows servers only as `WatchedServer`s
//! and files only by their identity and name; what they belong to is db_resolver's business.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use blameio_config::{ComponentId, Decode, Signal, settings};
use blameio_pipeline::{
    Batch, ComponentError, Context, Control, Factory, Output, Receiver, Stability, WatchedServer,
    output::Refused, schedule::until_next, state,
};
use tokio::time::{sleep, timeout};

use crate::{Limits, Loader, ProbeError, Probes, attempts::Attempts, loader::Asker};

mod budget;
mod clock;
mod collection;
mod disk;
mod emit;
mod host;
mod leaf;
mod losses;
mod others;
mod points;
mod refresh;
mod watch;

use budget::Budget;
use collection::Collection;
use watch::Watch;

settings! {
    /// Counts file I/O and thread time in the kernel.
    pub struct FileIoSettings {
        /// Databases to watch; without it, all that are declared.
        pub databases: Vec<ComponentId> = (),
        /// How often metrics are handed on.
        pub collection_interval: Duration = "1s",
        /// Makes every kernel map so many times larger: for servers with many thousand relations in use. At 1 the maps
        /// take 4 MiB on two processors, and at most 17 when they are full; on 64 processors at most 54.
        pub map_size_factor: u32 = 1,
        /// Most that the probes themselves may take of the host's processors, in percent of all of them, over half a
        /// minute. Probes that take more are detached until the agent is started anew; 0 for no limit. What they take
        /// is in `blameio.probe.time`.
        pub max_cpu_percent: f64 = 5.0,
        /// Where it is marked that the probes are being attached, so that a host that they crash is not crashed a third
        /// time: without it `$STATE_DIRECTORY`, else `/var/lib/blameio`; empty for nowhere.
        pub state_directory: Option<String> = (),
    }
}

/// Factory of `file_io`.
pub const FILE_IO: Factory<dyn Receiver> = Factory {
    kind: "file_io",
    summary: "Counts file I/O and splits the wall time of applying threads, with eBPF",
    module: "blameio-receiver-ebpf",
    signals: &[Signal::Metrics],
    stability: Stability::Development,
    fields: FileIoSettings::FIELDS,
    validate: |node, path, found| {
        if let Some(settings) = FileIoSettings::decode(node, path, found) {
            if settings.collection_interval < Duration::from_millis(100) {
                found.error(&node.position, &path.key("collection_interval"), "must be at least 100ms");
            }
            if !(1..=64).contains(&settings.map_size_factor) {
                found.error(&node.position, &path.key("map_size_factor"), "must be between 1 and 64");
            }
            if !(0.0..=100.0).contains(&settings.max_cpu_percent) {
                found.error(&node.position, &path.key("max_cpu_percent"), "must be between 0 and 100");
            }
        }
    },
    create: |node, context: Context| {
        let settings: FileIoSettings = context.settings(node)?;
        let servers = context
            .host
            .databases(&context.id, &settings.databases)?
            .into_iter()
            .map(|(server, _)| server)
            .collect();
        Ok(Box::new(FileIo {
            servers,
            interval: settings.collection_interval,
            attempts: state::directory(settings.state_directory.as_deref())
                .map(|directory| Attempts::of(&context.id, &directory)),
            asker: context
                .host
                .extensions()
                .find_map(|(_, extension)| extension.as_any().downcast_ref::<Loader>()?.asker()),
            limits: Limits::default().times(settings.map_size_factor),
            max_cpu_percent: settings.max_cpu_percent,
            id: context.id,
        }))
    },
};

/// Between two attempts to load probes that the kernel refused.
const LOAD_RETRY: Duration = Duration::from_secs(30);

/// A batch on its way.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + 'a>>;

/// Who lives so long after attaching has survived it.
const SURVIVED: Duration = Duration::from_mins(1);

/// The receiver.
#[derive(Debug)]
pub struct FileIo {
    id: ComponentId,
    servers: Vec<WatchedServer>,
    interval: Duration,
    limits: Limits,
    /// Most that the probes may take of the host's processors.
    max_cpu_percent: f64,
    attempts: Option<Attempts>,
    /// The thread that may load; without one this process's threads may.
    asker: Option<Asker>,
}

#[async_trait]
impl Receiver for FileIo {
    fn heartbeat_interval(&self) -> Duration {
        LOAD_RETRY + self.interval * 3
    }

    async fn run(mut self: Box<Self>, output: Output, control: Control) -> Result<(), ComponentError> {
        let Some(probes) = self.load(&control).await else { return Ok(()) };
        // Nobody loads any more: the loading thread and its capabilities are gone.
        self.asker = None;
        tracing::info!(
            receiver = %self.id,
            provider = "tracepoint",
            kernel_memory_bytes = probes.memory_bytes(),
            "probes are attached"
        );
        let marked = Marked { attempts: self.attempts.take(), until: Instant::now() + SURVIVED };
        let mut collection =
            Collection::new(&self.id, probes, Watch::new(self.servers), Budget::new(self.max_cpu_percent));
        let Some((too_much, sending)) =
            collect(&mut collection, marked, self.interval, &output, &control).await
        else {
            return Ok(());
        };
        tracing::error!(
            receiver = %self.id,
            percent = (too_much * 10.0).round() / 10.0,
            max_cpu_percent = self.max_cpu_percent,
            "the probes took too much of this host's processors and are detached: no file I/O is counted until the \
             agent is started anew; lag is still measured, and owed to what the servers say. To allow more, raise \
             max_cpu_percent"
        );
        let (ends, mut detached) = tokio::task::block_in_place(|| collection.detach());
        // Only now: a pipeline that blocks must not keep the probes.
        tokio::select! {
            biased;
            () = control.drain.cancelled() => return Ok(()),
            sent = sending => {
                if let Err(refused) = sent {
                    tracing::debug!(receiver = %self.id, %refused, "the last collection was refused");
                }
            }
        }
        // The ends of the series must arrive, or what stands still is taken for measured.
        let mut batch = Batch::metrics(ends);
        loop {
            control.heartbeat.beat();
            match output.send(batch.clone()).await {
                Ok(()) => batch = Batch::metrics(detached.take()),
                Err(refused) => tracing::debug!(receiver = %self.id, %refused, "tried again"),
            }
            if timeout(LOAD_RETRY, control.drain.cancelled()).await.is_ok() {
                return Ok(());
            }
        }
    }
}

/// Hands on what is counted, until the end (`None`) or until the probes take too much: how many percent, and what is still
/// on its way.
async fn collect<'a>(
    collection: &mut Collection,
    mut marked: Marked,
    interval: Duration,
    output: &'a Output,
    control: &Control,
) -> Option<(f64, Sending<'a>)> {
    let mut failing: Option<String> = None;
    loop {
        tokio::select! {
            biased;
            () = control.drain.cancelled() => return None,
            // A new view is applied at once, so that a restarted server is watched from its first second.
            () = collection.changed() => {
                tokio::task::block_in_place(|| collection.apply());
                continue;
            }
            () = sleep(until_next(interval)) => {}
        }
        marked.look();
        match tokio::task::block_in_place(|| collection.take()) {
            Ok(taken) => {
                // Only now: a receiver that cannot read is not alive.
                control.heartbeat.beat();
                failing = None;
                let mut sending: Sending<'_> = Box::pin(output.send(Batch::metrics(taken.request)));
                let judge = || tokio::task::block_in_place(|| collection.too_much());
                match within_budget(sending.as_mut(), taken.too_much, interval, judge).await {
                    Ok(Ok(())) => collection.handed_on(&taken.exited),
                    Ok(Err(refused)) => {
                        let receiver = collection.receiver();
                        tracing::debug!(%receiver, %refused, "a collection was refused; sums lose nothing");
                    }
                    Err(too_much) => return Some((too_much, sending)),
                }
            }
            Err(error) => {
                let error = error.to_string();
                if failing.as_ref() != Some(&error) {
                    tracing::error!(receiver = %collection.receiver(), %error, "probes cannot be read");
                    failing = Some(error);
                }
            }
        }
    }
}

/// Waits until something is done, but no longer than until the probes take too much: how many percent. They are judged
/// once an interval.
async fn within_budget<T>(
    mut done: Pin<&mut (impl Future<Output = T> + ?Sized)>,
    mut too_much: Option<f64>,
    interval: Duration,
    mut judge: impl FnMut() -> Option<f64>,
) -> Result<T, f64> {
    loop {
        if let Some(too_much) = too_much {
            return Err(too_much);
        }
        tokio::select! {
            biased;
            done = done.as_mut() => return Ok(done),
            () = sleep(interval) => too_much = judge(),
        }
    }
}

/// Until when the mark stays on disk that the probes were attached.
struct Marked {
    attempts: Option<Attempts>,
    until: Instant,
}

impl Marked {
    fn look(&mut self) {
        if Instant::now() >= self.until {
            self.clear();
        }
    }

    fn clear(&mut self) {
        if let Some(attempts) = self.attempts.take() {
            attempts.survived();
        }
    }
}

impl Drop for Marked {
    /// An orderly end is no crash.
    fn drop(&mut self) {
        self.clear();
    }
}

impl FileIo {
    async fn try_to_load(&self) -> Result<Probes, ProbeError> {
        if let Some(attempts) = &self.attempts {
            attempts.begin()?;
        }
        let loaded = match &self.asker {
            Some(asker) => asker.load(&self.limits).await,
            None => tokio::task::block_in_place(|| Probes::load(&self.limits)),
        };
        if let (Err(_), Some(attempts)) = (&loaded, &self.attempts) {
            // Refused, and nobody was hurt.
            attempts.survived();
        }
        loaded
    }

    /// Loads the probes, and tries again as long as the kernel refuses: capabilities come back with a restart of the
    /// container, the rest of the agent need not wait for it. `None` when the agent ends first.
    async fn load(&self, control: &Control) -> Option<Probes> {
        let mut said = None;
        loop {
            control.heartbeat.beat();
            match self.try_to_load().await {
                Ok(probes) => return Some(probes),
                Err(error) => {
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        tracing::error!(
                            receiver = %self.id, %error,
                            "no file I/O is counted; lag is still measured, and owed to what the servers say"
                        );
                        said = Some(error);
                    }
                }
            }
            if timeout(LOAD_RETRY, control.drain.cancelled()).await.is_ok() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::sync::oneshot;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_pipeline_that_blocks_does_not_keep_the_probes() {
        let (unblock, mut sending) = oneshot::channel();
        let mut judged = 0;
        let judge = || {
            judged += 1;
            (judged == 3).then_some(7.0)
        };
        let outcome =
            timeout(Duration::from_mins(1), within_budget(Pin::new(&mut sending), None, INTERVAL, judge));
        assert_eq!(outcome.await.unwrap(), Err(7.0));
        // And what was on its way is not lost.
        unblock.send("batch").unwrap();
        assert_eq!(sending.await, Ok("batch"));
    }

    #[tokio::test]
    async fn what_was_too_much_already_is_not_waited_for() {
        let sending = pin!(std::future::pending::<()>());
        assert_eq!(within_budget(sending, Some(6.0), Duration::MAX, || None).await, Err(6.0));
        let sending = pin!(std::future::ready("sent"));
        assert_eq!(within_budget(sending, None, Duration::MAX, || Some(6.0)).await, Ok("sent"));
    }
}
