//! Lets the servers come to rest and compares the agent with what it was before.

use std::time::Duration;

use blameio::lab::{Lab, LabError, sql};
use tokio::time::{Instant, sleep};

use super::{
    judge::Aftermath,
    sample::{Counter, Sample, Subject, look},
};
use crate::bench::Outcome;

/// Replay of what piled up, on a slow machine.
const CATCH_UP: Duration = Duration::from_mins(3);

/// From then on: the agent's own retries are at most 30 s apart.
const RETURN: Duration = Duration::from_mins(1);

const LOOK: Duration = Duration::from_millis(500);

/// A connection of the moment and its thread.
const SLACK: u64 = 2;

/// Most connections of the agent on one server.
const CONNECTIONS: u64 = 2;

/// Most lag at rest, in seconds.
const STILL: f64 = 0.2;

/// What an agent has in good times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Baseline {
    /// Open files.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
}

impl Baseline {
    /// The most of several looks.
    pub fn of(samples: &[Sample]) -> Self {
        let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
        Self { fds: most(|sample| sample.fds), threads: most(|sample| sample.threads) }
    }

    fn left_over(self, sample: &Sample) -> String {
        let mut left = Vec::new();
        for (what, now, before) in
            [("files", sample.fds, self.fds), ("threads", sample.threads, self.threads)]
        {
            if now > before + SLACK {
                left.push(format!("{now} {what}, before {before}"));
            }
        }
        for (what, count) in [("primary", sample.primary), ("replica", sample.replica)] {
            match count {
                Some(count) if count <= CONNECTIONS => {}
                Some(count) => left.push(format!("{count} connections to the {what}")),
                None => left.push(format!("the {what} does not answer")),
            }
        }
        left.join(", ")
    }
}

/// Waits until the primary writes nothing and the replica has replayed all of it.
pub async fn wait_in_step(lab: &Lab) -> Outcome<()> {
    let end = Instant::now() + CATCH_UP;
    let mut last = None;
    loop {
        let now = positions(lab).await;
        // Twice the same, one second apart: what was begun is done.
        if let Ok((flushed, replayed)) = now
            && replayed >= flushed
            && last == Some(flushed)
        {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("the replica is not in step within {CATCH_UP:?}: {now:?}").into());
        }
        last = now.ok().map(|(flushed, _)| flushed);
        sleep(Duration::from_secs(1)).await;
    }
}

/// Flushed and replayed, on connections of the moment: the servers are restarted all the time.
async fn positions(lab: &Lab) -> Result<(u64, u64), LabError> {
    let primary = sql::connect(&lab.primary().dsn()).await?;
    let replica = sql::connect(&lab.replica().dsn()).await?;
    Ok((sql::flushed(&primary).await?, sql::replayed(&replica).await?))
}

/// Looks until all is as before, or the time is up.
pub async fn aftermath(fault: &str, lab: &Lab, subject: Subject, baseline: Baseline) -> Aftermath {
    let (mut primary, mut replica) = (Counter::of(lab.primary().dsn()), Counter::of(lab.replica().dsn()));
    let end = Instant::now() + RETURN;
    loop {
        let (lag, left_over) = match look(subject, &mut primary, &mut replica).await {
            Ok(sample) => (sample.lag, baseline.left_over(&sample)),
            Err(error) => (None, error.to_string()),
        };
        let good = lag.is_some_and(|lag| lag <= STILL) && left_over.is_empty();
        if good || Instant::now() > end {
            return Aftermath { fault: fault.to_owned(), lag, left_over };
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_before_is_named() {
        let before = Baseline { fds: 40, threads: 5 };
        let sample = Sample { fds: 42, threads: 5, primary: Some(1), replica: Some(2), ..Sample::default() };
        assert_eq!(before.left_over(&sample), "");
        let more = Sample { fds: 43, primary: Some(3), replica: None, ..sample };
        assert_eq!(
            before.left_over(&more),
            "43 files, before 40, 3 connections to the primary, the replica does not answer"
        );
    }
}
