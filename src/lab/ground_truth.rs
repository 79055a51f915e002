//! The true lag: when the primary flushed which position, taken from the primary itself every 4 ms.
//!
//! Same host, same clock. The agent never uses it; it is what the agent's answers are compared with.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::{LabError, sql};

const INTERVAL: Duration = Duration::from_millis(4);
/// Positions kept: only changes are, so this is over an hour of steady writes and 24 MB at most.
const KEPT: usize = 1_000_000;
const FIRST_SAMPLE: Duration = Duration::from_secs(10);

/// A position and the first time the primary was seen to have flushed it.
#[derive(Debug, Clone, Copy)]
struct Sample {
    lsn: u64,
    at: SystemTime,
}

type Timeline = Arc<Mutex<VecDeque<Sample>>>;

/// The sampler, on a thread of its own so that no other task of the runtime delays it. Dropping it ends it.
#[derive(Debug)]
pub struct GroundTruth {
    timeline: Timeline,
    /// Dropping it tells the thread to end.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GroundTruth {
    /// Starts sampling the primary at `dsn`; returns after the first sample.
    pub fn start(dsn: &str) -> Result<Self, LabError> {
        let timeline = Timeline::default();
        let (stop, stopped) = sync_channel::<()>(1);
        let (ready, first) = sync_channel(1);
        let (dsn, shared) = (dsn.to_owned(), Arc::clone(&timeline));
        let thread = std::thread::Builder::new()
            .name("ground-truth".to_owned())
            .spawn(move || {
                let go_on = || matches!(stopped.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout));
                if let Err(error) = sample_until(&dsn, &shared, &ready, go_on) {
                    tracing::warn!(%error, "the sampler of the true lag broke off");
                    // Nobody listens after the first sample; the gap then shows in the timeline.
                    let _late = ready.try_send(Err(error));
                }
            })
            .map_err(LabError::file("start the thread", std::path::Path::new("ground-truth")))?;
        let truth = Self { timeline, stop: Some(stop), thread: Some(thread) };
        let waited = FIRST_SAMPLE;
        first.recv_timeout(waited).map_err(|_| LabError::Deadline {
            what: "the first sample of the primary".to_owned(),
            waited,
        })??;
        Ok(truth)
    }

    /// When the primary had flushed up to `lsn`: the first sample at or behind it. None when it is not flushed
    /// yet, or was before the sampler's time.
    pub fn flushed_at(&self, lsn: u64) -> Option<SystemTime> {
        let samples = lock(&self.timeline);
        let at = samples.partition_point(|sample| sample.lsn < lsn);
        // The first sample's own position was flushed at an unknown time before it.
        if at == 0 { None } else { samples.get(at).map(|sample| sample.at) }
    }

    /// Lag of a replica that has replayed up to `replayed` at the time `now`: the age of the first position
    /// beyond. Zero when the primary has flushed nothing beyond.
    pub fn lag(&self, replayed: u64, now: SystemTime) -> Duration {
        let samples = lock(&self.timeline);
        let beyond = samples.partition_point(|sample| sample.lsn <= replayed);
        samples.get(beyond).and_then(|sample| now.duration_since(sample.at).ok()).unwrap_or_default()
    }

    /// The newest flushed position seen.
    pub fn newest(&self) -> u64 {
        lock(&self.timeline).back().map(|sample| sample.lsn).unwrap_or_default()
    }

    /// The whole timeline: position, and when it was first seen flushed.
    pub fn samples(&self) -> Vec<(u64, SystemTime)> {
        lock(&self.timeline).iter().map(|sample| (sample.lsn, sample.at)).collect()
    }
}

impl Drop for GroundTruth {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by itself.
            let _reported = thread.join();
        }
    }
}

fn lock(timeline: &Timeline) -> MutexGuard<'_, VecDeque<Sample>> {
    // Samples are whole at every moment: a panic elsewhere does not spoil them.
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sample_until(
    dsn: &str,
    timeline: &Timeline,
    ready: &SyncSender<Result<(), LabError>>,
    go_on: impl Fn() -> bool,
) -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::file("make a runtime for", std::path::Path::new("ground-truth")))?;
    let mut client = Some(runtime.block_on(sql::connect(dsn))?);
    let mut known = false;
    loop {
        let asked = SystemTime::now();
        let flushed = client.as_ref().map(|client| runtime.block_on(sql::flushed(client)));
        match flushed {
            Some(Ok(lsn)) => {
                // The server looked somewhere between question and answer.
                let at = asked + asked.elapsed().unwrap_or_default() / 2;
                push(&mut lock(timeline), Sample { lsn, at });
                let _full_after_the_first = ready.try_send(Ok(()));
                known = true;
            }
            Some(Err(error)) if !known => return Err(error),
            // It was restarted: a primary that is down flushes nothing.
            Some(Err(_)) | None => client = runtime.block_on(sql::connect(dsn)).ok(),
        }
        if !go_on() {
            return Ok(());
        }
    }
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample) {
    if samples.back().is_none_or(|last| last.lsn < sample.lsn) {
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(samples: &[(u64, u64)]) -> GroundTruth {
        let mut kept = VecDeque::new();
        for (lsn, second) in samples {
            push(&mut kept, Sample { lsn: *lsn, at: at(*second) });
        }
        GroundTruth { timeline: Arc::new(Mutex::new(kept)), stop: None, thread: None }
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn lag_is_the_age_of_the_first_position_not_replayed() {
        let truth = truth(&[(100, 1), (100, 2), (200, 3), (300, 5)]);
        assert_eq!(truth.lag(100, at(9)), Duration::from_secs(6));
        assert_eq!(truth.lag(250, at(9)), Duration::from_secs(4));
        assert_eq!(truth.lag(300, at(9)), Duration::ZERO);
    }

    #[test]
    fn a_position_is_flushed_at_the_first_sample_that_covers_it() {
        let truth = truth(&[(100, 1), (200, 3)]);
        assert_eq!(truth.flushed_at(150), Some(at(3)));
        assert_eq!(truth.flushed_at(200), Some(at(3)));
        assert_eq!(truth.flushed_at(100), None);
        assert_eq!(truth.flushed_at(50), None);
        assert_eq!(truth.flushed_at(201), None);
    }
}
