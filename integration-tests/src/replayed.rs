//! What the replica had replayed at a moment, by a sampler of the tests' own: the agent's word is not taken for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use blameio::lab::{LabError, sql};
use tokio::{sync::oneshot, task::JoinHandle, time::interval};

/// As often as the truth about the primary is sampled.
const EVERY: Duration = Duration::from_millis(4);

/// Positions over time.
#[derive(Debug)]
pub struct Replayed {
    samples: Arc<Mutex<Vec<(SystemTime, u64)>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Replayed {
    /// Starts sampling; a replica that is restarted is asked again.
    pub async fn start(dsn: &str) -> Result<Self, LabError> {
        let mut client = Some(sql::connect(dsn).await?);
        let dsn = dsn.to_owned();
        let samples: Arc<Mutex<Vec<(SystemTime, u64)>>> = Arc::default();
        let (stop, mut stopped) = oneshot::channel();
        let kept = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    _ = ticks.tick() => {}
                }
                let asked = SystemTime::now();
                let position = match &client {
                    Some(client) => sql::replayed(client).await.ok(),
                    None => None,
                };
                match position {
                    Some(position) => {
                        let middle = asked + asked.elapsed().unwrap_or_default() / 2;
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push((middle, position));
                    }
                    None => client = sql::connect(&dsn).await.ok(),
                }
            }
        });
        Ok(Self { samples, stop, task })
    }

    /// The position at a moment; `None` where the nearest look is too far away.
    pub fn at(&self, at: SystemTime) -> Option<u64> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let next = samples.partition_point(|(sampled, _)| *sampled <= at);
        let (sampled, position) = samples.get(next.checked_sub(1)?)?;
        (at.duration_since(*sampled).ok()? < Duration::from_millis(50)).then_some(*position)
    }

    /// Stops sampling.
    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("the sampler does not panic");
    }
}
