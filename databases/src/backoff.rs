//! Attempts to reach a server, which become rarer while they fail.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::error::DatabaseError;

/// First pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause while nobody answers: a refused connect costs nothing, and a restart is noticed soon.
const DOWN_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause while a server answers that is no primary: it may be promoted at any time, and a name may lead to
/// another one soon.
const STANDBY_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause while the server refuses: each attempt is a line in its log.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
    last: Option<DatabaseError>,
}

/// When the next attempt is due.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Mutex<State>);

impl Backoff {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an attempt makes sense now; if not, what came of the last one. `server` names who is asked.
    pub(crate) fn due(&self, server: impl FnOnce() -> String) -> Result<(), DatabaseError> {
        let state = self.state();
        match (state.until, &state.last) {
            (Some(until), Some(last)) if until > Instant::now() => Err(DatabaseError::Backoff {
                server: server(),
                wait_ms: u64::try_from((until - Instant::now()).as_millis()).unwrap_or(u64::MAX),
                last: Box::new(last.clone()),
            }),
            _ => Ok(()),
        }
    }

    /// An attempt, or the session it led to, was of no use.
    pub(crate) fn failed(&self, error: &DatabaseError) {
        let mut state = self.state();
        let longest = match error {
            DatabaseError::Refused { code, .. } if !code.starts_with("57P") => REFUSED_PAUSE,
            DatabaseError::AnotherCluster { .. } | DatabaseError::NotUpstream { .. } => REFUSED_PAUSE,
            DatabaseError::InRecovery { .. } => STANDBY_PAUSE,
            _ => DOWN_PAUSE,
        };
        // Who is of another cluster has answered, which begins the pauses anew; so they do not grow to a minute by themselves.
        let pause = match error {
            DatabaseError::AnotherCluster { .. } | DatabaseError::NotUpstream { .. } => longest,
            _ => FIRST_PAUSE.saturating_mul(1 << state.failures.min(16)).min(longest),
        };
        state.failures = state.failures.saturating_add(1);
        state.until = Some(Instant::now() + pause);
        state.last = Some(error.clone());
    }

    /// A session was opened. It may still answer nothing, so the pauses do not begin anew.
    pub(crate) fn opened(&self) {
        let mut state = self.state();
        (state.until, state.last) = (None, None);
    }

    /// A question was answered. That a session could be opened is not enough: a server that accepts connections
    /// and answers nothing would be connected to again and again.
    pub(crate) fn answered(&self) {
        self.state().failures = 0;
    }

    /// There are other ways to the server now.
    pub(crate) fn forget(&self) {
        *self.state() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(backoff: &Backoff) -> u64 {
        match backoff.due(|| "db7".to_owned()) {
            Err(DatabaseError::Backoff { wait_ms, .. }) => wait_ms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attempts_become_rarer_until_a_question_is_answered() {
        let backoff = Backoff::default();
        let error = DatabaseError::Timeout { server: "x".to_owned(), purpose: "x", after_ms: 1 };
        backoff.failed(&error);
        assert!(wait(&backoff) <= 250);
        backoff.failed(&error);
        assert!((251..=500).contains(&wait(&backoff)));
        backoff.answered();
        backoff.failed(&error);
        assert!(wait(&backoff) <= 250);
        for _ in 0..40 {
            backoff.failed(&error);
        }
        assert!((4_000..=5_000).contains(&wait(&backoff)));
        backoff.opened();
        assert_eq!(backoff.due(String::new), Ok(()));
    }
}
