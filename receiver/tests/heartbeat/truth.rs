//! The truth: how long a row takes from its commit on the primary until a replica shows it, by the test's own clock and
//! sessions.

use std::time::Instant;

use crate::agent::Agent;

/// Rows of a round.
const ROWS: i64 = 25;
/// The machine may be busy in between, and what takes a millisecond then takes ten, in one of the two measurements.
const ROUNDS: i64 = 4;
/// What is promised, and the part of a long delay by which one row's differs from the next one's: two of them are compared.
const MOST: f64 = 0.002;
const DIFFER: f64 = 0.05;

/// Fails if what the agent tells of a replica is off by more than 2 ms in the mean, in every round.
pub(crate) async fn is_met(
    agent: &Agent,
    (server, writer): (&str, &str),
    mut write: impl AsyncFnMut(i64),
    mut newest: impl AsyncFnMut() -> i64,
) -> f64 {
    let first = newest().await;
    let mut best = f64::MAX;
    for round in 0..ROUNDS {
        let (mut off, mut took, mut told) = (0.0, 0.0, 0.0);
        for row in (first + round * ROWS..).skip(1).take(usize::try_from(ROWS).unwrap()) {
            write(row).await;
            let committed = Instant::now();
            let mut before = committed;
            let shown = loop {
                let asked = Instant::now();
                let seen = newest().await;
                let middle = asked + asked.elapsed() / 2;
                if seen >= row {
                    break before + middle.saturating_duration_since(before) / 2;
                }
                before = middle;
            };
            let truth = shown.saturating_duration_since(committed).as_secs_f64();
            agent.next().await;
            let delay = agent.delay(server, writer).unwrap();
            off += (delay - truth).abs();
            told += delay;
            took += truth;
        }
        let [off, took, told] = [off, took, told].map(|sum| sum / ROWS as f64);
        eprintln!(
            "{server}: {:.2} ms in truth, {:.2} ms told, off by {:.2} ms in the mean",
            took * 1e3,
            told * 1e3,
            off * 1e3
        );
        best = best.min(off);
        if off <= MOST + took * DIFFER {
            return best;
        }
    }
    panic!("{server}: off by {:.2} ms in the mean", best * 1e3);
}
