//! Keeps files cold while it lives: a thread that evicts them again and again.
//!
//! Replay brings back every page it reads and writes; without this a cold index is warm within a minute.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{LabError, cache};

/// Few pages come back within it at the limited rate, and evicting a whole index takes milliseconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// Evicts once at its start and then every second. Dropping it ends it.
#[derive(Debug)]
pub struct ColdFiles {
    /// Dropping it tells the thread to end.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    files: Vec<PathBuf>,
}

impl ColdFiles {
    /// Starts; `first` are the relations' first files, their segments are looked up anew each time.
    pub fn keep(first: Vec<PathBuf>) -> Result<Self, LabError> {
        let files = first.clone();
        let evict =
            move || cache::evict(&first.iter().flat_map(|file| cache::segments(file)).collect::<Vec<_>>());
        evict()?;
        let (stop, stopped) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new()
            .name("cold-files".to_owned())
            .spawn(move || {
                while matches!(stopped.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout)) {
                    if let Err(error) = evict() {
                        tracing::warn!(%error, "a file could not be kept cold");
                    }
                }
            })
            .map_err(LabError::file("start the thread", std::path::Path::new("cold-files")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), files })
    }

    /// Ends it, and brings the files back into memory.
    pub fn warm(mut self) -> Result<(), LabError> {
        self.end();
        let files: Vec<_> = self.files.iter().flat_map(|file| cache::segments(file)).collect();
        cache::warm(&files).map(drop)
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by itself.
            let _reported = thread.join();
        }
    }
}

impl Drop for ColdFiles {
    fn drop(&mut self) {
        self.end();
    }
}
