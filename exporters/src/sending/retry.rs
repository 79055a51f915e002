//! One batch's way out: attempts with a timeout, and growing intervals between them.
//!
//! It decides when a batch is given up, and says so in the log. Counting is the caller's.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use blameio_pipeline::{Batch, ExportError, Exporter};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::settings::RetrySettings;

/// Delivers batches one attempt after the other.
pub(super) struct Attempts {
    pub(super) exporter: Arc<dyn Exporter>,
    /// Limit of one attempt; zero for none.
    pub(super) timeout: Duration,
    pub(super) settings: RetrySettings,
    /// Cancelled at shutdown: who waits for the next attempt makes it at once, and it is the last.
    pub(super) draining: CancellationToken,
    /// Names the exporter in the log.
    pub(super) who: String,
}

impl Attempts {
    /// Delivers a batch, or tells why it was given up; that it will not work later is part of the answer.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<(), ExportError> {
        let result = self.repeat(batch).await;
        if let Err(error) = &result {
            tracing::error!(
                exporter = %self.who, dropped_items = batch.items(), error = %crate::plain(&error.to_string()),
                "Exporting failed. Dropping data."
            );
        }
        result
    }

    async fn repeat(&self, batch: &Batch) -> Result<(), ExportError> {
        let started = Instant::now();
        let mut backoff = Backoff::new(&self.settings);
        loop {
            let last = self.draining.is_cancelled();
            let (reason, after) = match self.attempt(batch).await {
                Ok(()) => return Ok(()),
                Err(ExportError::Permanent { reason }) => {
                    return Err(ExportError::Permanent { reason: format!("not retryable error: {reason}") });
                }
                Err(ExportError::Retry { reason, after }) => (reason, after),
            };
            let given_up = |why: &str| Err(ExportError::Retry { reason: format!("{why}: {reason}"), after });
            if !self.settings.enabled {
                return given_up("retry_on_failure is not enabled");
            }
            if last {
                return given_up("shutting down, no more retries left");
            }
            let interval = backoff.next().max(after.unwrap_or_default());
            let limit = self.settings.max_elapsed_time;
            if !limit.is_zero() && started.elapsed() + interval > limit {
                return given_up("no more retries left");
            }
            tracing::info!(
                exporter = %self.who, error = %crate::plain(&reason), interval = ?interval,
                "Exporting failed. Will retry the request after interval."
            );
            self.draining.run_until_cancelled(sleep(interval)).await;
        }
    }

    async fn attempt(&self, batch: &Batch) -> Result<(), ExportError> {
        // What an exporter decodes ends with its attempt: a batch may wait long for the next.
        let attempt = self.exporter.export(batch.encoded());
        if self.timeout.is_zero() {
            return attempt.await;
        }
        timeout(self.timeout, attempt).await.unwrap_or_else(|_| {
            let reason = format!("no answer within the timeout of {:?}", self.timeout);
            Err(ExportError::Retry { reason, after: None })
        })
    }
}

/// Intervals that grow to a limit, each spread at random so that many agents do not come back at once.
struct Backoff<'a> {
    settings: &'a RetrySettings,
    interval: Duration,
    random: RandomState,
    drawn: u64,
}

impl<'a> Backoff<'a> {
    fn new(settings: &'a RetrySettings) -> Self {
        Self { settings, interval: settings.initial_interval, random: RandomState::new(), drawn: 0 }
    }

    fn next(&mut self) -> Duration {
        let settings = self.settings;
        // The hasher's keys are random: a number of this process's own, without a generator to depend on.
        self.drawn += 1;
        let uniform = self.random.hash_one(self.drawn) as f64 / u64::MAX as f64;
        let spread = 1.0 + settings.randomization_factor * (2.0 * uniform - 1.0);
        let interval = scaled(self.interval, spread);
        self.interval = scaled(self.interval, settings.multiplier).min(settings.max_interval);
        interval
    }
}

fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_grow_to_the_limit_within_their_spread() {
        let settings = RetrySettings::default();
        let mut backoff = Backoff::new(&settings);
        for expected in [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0] {
            let interval = backoff.next().as_secs_f64();
            assert!((expected * 0.5..=expected * 1.5).contains(&interval), "{interval} for {expected}");
        }
    }
}
