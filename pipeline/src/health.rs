//! Heartbeats of workers. A worker that is late or gone is seen here, whatever the process says of itself.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

#[derive(Debug)]
struct Worker {
    name: String,
    interval: Duration,
    last: AtomicU64,
    ended: AtomicBool,
}

/// All workers of the agent.
#[derive(Clone, Debug)]
pub struct Health {
    origin: Instant,
    workers: Arc<Mutex<Vec<Weak<Worker>>>>,
}

/// One worker's side; held by the worker as long as it works.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    origin: Instant,
    worker: Arc<Worker>,
}

/// A worker that is late or has ended while it should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// Which worker.
    pub worker: String,
    /// Time since its last heartbeat.
    pub silence: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { origin: Instant::now(), workers: Arc::default() }
    }
}

impl Health {
    /// Registers a worker that promises to beat once an interval.
    pub fn register(&self, name: impl Into<String>, interval: Duration) -> Heartbeat {
        let worker = Arc::new(Worker {
            name: name.into(),
            interval,
            last: AtomicU64::new(millis(self.origin.elapsed())),
            ended: AtomicBool::new(false),
        });
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(&worker));
        Heartbeat { origin: self.origin, worker }
    }

    /// Workers that are late, with how long they have been silent.
    pub fn late(&self) -> Vec<Late> {
        let now = millis(self.origin.elapsed());
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|worker| {
                let silence = Duration::from_millis(now.saturating_sub(worker.last.load(Ordering::Relaxed)));
                let late = worker.ended.load(Ordering::Relaxed) || silence > worker.interval;
                late.then(|| Late { worker: worker.name.clone(), silence })
            })
            .collect()
    }
}

impl Heartbeat {
    /// Says that the worker is alive.
    pub fn beat(&self) {
        self.worker.last.store(millis(self.origin.elapsed()), Ordering::Relaxed);
    }

    /// Says that the worker ended though it should run.
    pub fn failed(&self) {
        self.worker.ended.store(true, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_late_when_it_failed_and_forgotten_when_it_is_gone() {
        let health = Health::default();
        let heartbeat = health.register("receiver/file_io", Duration::from_mins(1));
        assert_eq!(health.late(), Vec::new());
        heartbeat.failed();
        assert_eq!(health.late()[0].worker, "receiver/file_io");
        drop(heartbeat);
        assert_eq!(health.late(), Vec::new());
    }
}
