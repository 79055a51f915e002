//! Loads the probes on a thread that alone has the capabilities for it. Capabilities belong to threads, and no thread can
//! take another's away; so whoever starts this gives its own up first, and every thread that it makes later has none.

use std::{any::Any, sync::Mutex, sync::mpsc, thread};

use async_trait::async_trait;
use blameio_pipeline::{ComponentError, Extension};
use caps::{CapSet, Capability};
use tokio::sync::oneshot;

use crate::{Limits, ProbeError, Probes};

/// What the agent goes on with: other users' entries in /proc, log files and sockets, and a port below 1024.
const KEPT: [Capability; 4] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_NET_BIND_SERVICE,
];

/// Most requests that wait.
const ASKERS: usize = 64;

struct Ask {
    limits: Limits,
    answer: oneshot::Sender<Result<Probes, ProbeError>>,
}

/// Asks the loading thread. When the last of these is gone, so is the thread, and nobody can load any more.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::SyncSender<Ask>);

impl Asker {
    pub(crate) async fn load(&self, limits: &Limits) -> Result<Probes, ProbeError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { limits: limits.clone(), answer };
        // Each receiver waits for its answer, and no configuration has so many receivers.
        self.0.try_send(ask).map_err(|_| ProbeError::LoaderEnded)?;
        answered.await.map_err(|_| ProbeError::LoaderEnded)?
    }
}

/// The loading thread, as an extension that every `file_io` finds while it is made.
#[derive(Debug)]
pub struct Loader {
    asker: Mutex<Option<Asker>>,
}

impl Loader {
    /// Starts the thread and gives up this thread's capabilities but those that watching needs. To be called before
    /// other threads are made. Kernels before 5.19 ask for capabilities all the time: there all are kept.
    pub fn start() -> Result<Self, String> {
        let (asks, inbox) = mpsc::sync_channel::<Ask>(ASKERS);
        thread::Builder::new()
            .name("blameio-loader".to_owned())
            .spawn(move || {
                for Ask { limits, answer } in inbox {
                    // Whoever asked may have been told to end.
                    drop(answer.send(Probes::load(&limits)));
                }
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        if asks_for_capabilities_all_the_time() {
            tracing::info!("this kernel asks for capabilities all the time: they are kept");
        } else {
            give_up()?;
        }
        Ok(Self { asker: Mutex::new(Some(Asker(asks))) })
    }

    /// For a component that is being made; `None` once everything runs.
    pub(crate) fn asker(&self) -> Option<Asker> {
        self.asker.lock().ok()?.clone()
    }
}

/// Gives up what is not kept, for this thread and those that it makes.
fn give_up() -> Result<(), String> {
    let refused = |error| format!("cannot give up capabilities: {error}");
    // The inheritable set is left alone: it means nothing without another program, and none is started.
    for set in [CapSet::Effective, CapSet::Permitted] {
        let held = caps::read(None, set).map_err(refused)?;
        let kept = held.into_iter().filter(|held| KEPT.contains(held)).collect();
        caps::set(None, set, &kept).map_err(refused)?;
    }
    Ok(())
}

fn asks_for_capabilities_all_the_time() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (5, 19)
}

#[async_trait]
impl Extension for Loader {
    /// By now everybody who will ever load holds an asker.
    async fn start(&self) -> Result<(), ComponentError> {
        if let Ok(mut asker) = self.asker.lock() {
            *asker = None;
        }
        Ok(())
    }

    async fn shutdown(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}
