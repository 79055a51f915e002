//! A laboratory of `MariaDB` servers with the agent at work on it.

use std::{sync::Arc, time::Duration};

use blameio::{
    command::agent::Agent,
    lab::{
        Culprit, Recorder, Throttle, Tick, Verdict,
        mariadb::{MariaLab, MariaOptions, program},
    },
};
use blameio_integration_tests::scene::{configuration, quiet_place, start_agent};
use blameio_receiver_ebpf::probe_support;

const DEADLINE: Duration = Duration::from_mins(1);
/// What was left behind at a limited rate is applied at once when the limit is gone.
const CATCH_UP: Duration = Duration::from_mins(3);
/// Ticks in which the agent learns what is normal; on a disk that will be slow those too in which the server reads each of its
/// 128 rollback segments twice.
const WARM_UP_TICKS: (usize, usize) = (5, 12);

/// A laboratory, the agent, and what the agent said.
pub(crate) struct Scene {
    pub(crate) lab: MariaLab,
    pub(crate) recorder: Arc<Recorder>,
    agent: Agent,
    warm_up_ticks: usize,
}

/// Whether these tests can run here; says loudly why not.
pub(crate) fn can_run(test: &str) -> bool {
    let reason = program().err().map(|error| error.to_string()).or_else(|| {
        let missing = probe_support().into_iter().find(|support| !support.ok && !support.optional)?;
        Some(format!("probes: {}: {}", missing.name, missing.detail))
    });
    match reason.or_else(|| Throttle::support().err().map(|error| error.to_string())) {
        Some(reason) => {
            eprintln!("SKIPPED {test}: {reason}");
            false
        }
        None => true,
    }
}

impl Scene {
    /// Builds the laboratory and starts the agent on it.
    pub(crate) async fn build() -> Self {
        Self::build_with(MariaOptions::default()).await
    }

    /// The same, of another laboratory.
    pub(crate) async fn build_with(options: MariaOptions) -> Self {
        let parent = quiet_place();
        let lab = MariaLab::build(MariaOptions { parent, ..options }).await.expect("a laboratory");
        let recorder = Arc::new(Recorder::default());
        let configuration = configuration(&lab.replica().dsn(), Some(&lab.primary().dsn()));
        let agent = start_agent(&[configuration], &recorder).await;
        let warm_up_ticks = if lab.disk().is_some() { WARM_UP_TICKS.1 } else { WARM_UP_TICKS.0 };
        Self { lab, recorder, agent, warm_up_ticks }
    }

    /// Waits until the agent has had time to learn what is normal.
    pub(crate) async fn warm_up(&self) {
        let mut ticks = 0;
        let learned = self
            .recorder
            .wait_for(DEADLINE, |_| {
                ticks += 1;
                ticks >= self.warm_up_ticks
            })
            .await;
        assert!(learned, "the agent measures nothing: {:?}", self.recorder.ticks());
    }

    /// Waits until the agent sees so much lag.
    pub(crate) async fn wait_for_lag(&self, seconds: f64) {
        let lagged = self.recorder.wait_for(DEADLINE, |tick| tick.lag >= seconds).await;
        let ticks = self.recorder.ticks();
        let most = ticks.iter().map(|tick| tick.lag).fold(0.0, f64::max);
        assert!(lagged, "the injection made {most} s of lag and not {seconds}: {:?}", ticks.last());
    }

    /// Waits until the agent sees the replica in step.
    pub(crate) async fn wait_in_step(&self) {
        let in_step = self.recorder.wait_for(CATCH_UP, |tick| tick.lag < 0.1).await;
        assert!(in_step, "the replica does not catch up: {:?}", self.recorder.ticks().last());
    }

    /// Judges everything since a tick, and prints it with what simpler tools show.
    pub(crate) fn judge(&self, name: &str, since: usize, culprit: &Culprit) -> Verdict {
        let ticks = self.ticks_since(since);
        let verdict = Verdict::of(&ticks, Some(culprit));
        println!("{name}: injected {culprit}\n  {verdict:?}\n  last tick: {:?}", ticks.last());
        let bytes = self.recorder.bytes();
        let mut rows: Vec<_> = bytes.iter().filter(|(_, bytes)| **bytes > 0.0).collect();
        rows.sort_by(|left, right| right.1.total_cmp(left.1));
        let sum: f64 = rows.iter().map(|(_, bytes)| **bytes).sum();
        println!("  baseline, share of file bytes (table, index, role, operation):");
        for (key, moved) in rows.iter().take(6) {
            println!("    {key:?} {:.1} %", *moved / sum * 100.0);
        }
        assert!(verdict.worst_sum_error <= 0.01, "{name}: blame does not sum to the lag: {verdict:?}");
        verdict
    }

    /// Judges everything since a tick in which nothing was injected.
    pub(crate) fn control(&self, since: usize) -> Verdict {
        let verdict = Verdict::of(&self.ticks_since(since), None);
        println!("control: {verdict:?}");
        verdict
    }

    fn ticks_since(&self, since: usize) -> Vec<Tick> {
        self.recorder.ticks().into_iter().skip(since).collect()
    }

    /// Stops the agent, then everything else.
    pub(crate) async fn end(self) {
        let Self { lab, agent, .. } = self;
        agent.shutdown().await;
        drop(lab);
    }
}
