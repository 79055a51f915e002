//! The course of a soak: laboratory, agent, work, one fault after the other, and the judgement.

use std::{fs, path::Path, time::Duration};

use blameio::lab::{Lab, LabOptions, Settings, Storage};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Options,
    faults::inject,
    judge::{Aftermath, Evidence, Finding, judge},
    log::Log,
    plan::{Fault, plan},
    primary::Primary,
    rest::{Baseline, aftermath, wait_in_step},
    sample::{Sample, Subject},
    watcher::Watcher,
    work::Work,
};
use crate::bench::{
    Outcome,
    agent::{AgentProcess, Watched},
};

/// Between two looks whether the agent still runs.
const LOOK: Duration = Duration::from_secs(1);

/// What the agent has in good times is known after so long, or a sixth of a short soak.
const WARM_UP: Duration = Duration::from_mins(3);

/// All that goes on. Fields are dropped in this order: the agent before the servers, the primary's guard before them too.
struct Soak {
    watcher: Watcher,
    agent: Option<AgentProcess>,
    work: Option<Work>,
    primary: Primary,
    log: Log,
    ends: Vec<String>,
    lives: u32,
    lab: Lab,
}

/// Runs it to its end; samples go to `csv`.
pub async fn run(options: &Options, seed: u64, csv: &Path) -> Outcome<Vec<Finding>> {
    let planned = plan(seed, options.duration, options.fault_every, options.slow_disk);
    for (at, fault) in &planned {
        println!("planned: {fault} after {:.0} s", at.as_secs_f64());
    }
    let mut soak = Soak::start(options, seed, csv).await?;
    let begin = Instant::now();
    let end = begin + options.duration;
    soak.wait_until(begin + WARM_UP.min(options.duration / 6).min(options.fault_every)).await?;
    let baseline = Baseline::of(&soak.watcher.seen().samples);
    println!("in good times: {} files, {} threads", baseline.fds, baseline.threads);
    let mut aftermaths = Vec::new();
    for (at, fault) in planned {
        if Instant::now() >= end {
            break;
        }
        soak.wait_until((begin + at).min(end)).await?;
        let after = soak.suffer(options, fault, baseline).await?;
        println!("{:6.0} s: {after:?}", begin.elapsed().as_secs_f64());
        aftermaths.push(after);
    }
    soak.wait_until(end).await?;
    soak.finish(&aftermaths).await
}

impl Soak {
    async fn start(options: &Options, seed: u64, csv: &Path) -> Outcome<Self> {
        let defaults = LabOptions::default();
        // Sparse: room for hours of work.
        let storage = if options.slow_disk { Storage::Slow { bytes: 8 << 30 } } else { Storage::Plain };
        let binaries = options.postgresql_bin.clone();
        let mut lab_options = LabOptions { binaries, storage, ..defaults };
        // As on a server: vacuum and checkpoints come by themselves.
        let usual = Settings::default().with("checkpoint_timeout", "5min").with("max_wal_size", "256MB");
        lab_options.primary = lab_options.primary.with("autovacuum", "on").and(&usual);
        lab_options.replica = lab_options.replica.and(&usual);
        let bursts = "CREATE TABLE bursts (id bigint PRIMARY KEY, note text)";
        lab_options.schema.setup.push(bursts.to_owned());
        let lab = Lab::build(lab_options).await?;
        let watcher = Watcher::start(lab.primary().dsn(), lab.replica().dsn(), options.sample_every, csv)?;
        let mut soak = Self {
            watcher,
            agent: None,
            work: None,
            primary: Primary::of(&lab),
            log: Log::of(&lab.dir().join("agent.log")),
            ends: Vec::new(),
            lives: 0,
            lab,
        };
        soak.start_agent(options).await?;
        soak.work = Some(Work::start(&soak.lab, seed));
        Ok(soak)
    }

    async fn start_agent(&mut self, options: &Options) -> Outcome<()> {
        let watched = Watched::replica(self.lab.replica().dsn(), self.lab.primary().dsn());
        let agent = AgentProcess::start(&options.agent, self.lab.dir(), &watched, "info").await?;
        let subject = Subject { pid: agent.pid(), port: agent.port(), life: self.lives };
        self.lives += 1;
        self.watcher.seen().subject = Some(subject);
        self.agent = Some(agent);
        Ok(())
    }

    /// An agent or a server that ends by itself ends the soak, and an agent that has detached its probes: the rest of it
    /// would prove nothing.
    async fn wait_until(&mut self, moment: Instant) -> Outcome<()> {
        loop {
            if let Some(agent) = &mut self.agent
                && let Some(status) = agent.exited()?
            {
                return Err(format!(
                    "the agent ended by itself with {status}; its log ends:\n{}",
                    end_of(&agent.said())
                )
                .into());
            }
            if probes_are_gone(&self.watcher.seen().samples) {
                let log = self.agent.as_ref().map(AgentProcess::said).unwrap_or_default();
                return Err(format!(
                    "the agent has detached its probes: was something else at work on this machine that makes many \
                     system calls? Its log ends:\n{}",
                    end_of(&log)
                )
                .into());
            }
            for server in [self.lab.primary(), self.lab.replica()] {
                if !server.data().join("postmaster.pid").exists() {
                    let log = fs::read_to_string(server.log()).unwrap_or_default();
                    return Err(format!("a server ended by itself; its log ends:\n{}", end_of(&log)).into());
                }
            }
            if Instant::now() >= moment {
                return Ok(());
            }
            sleep_until((Instant::now() + LOOK).min(moment)).await;
        }
    }

    /// A fault, its end, rest, and the comparison with what was before.
    async fn suffer(&mut self, options: &Options, fault: Fault, baseline: Baseline) -> Outcome<Aftermath> {
        let name = fault.to_string();
        self.log.take(None);
        self.watcher.seen().fault = Some(name.clone());
        if fault == Fault::AgentRestart {
            self.stop_agent().await;
            self.start_agent(options).await?;
        } else if let Err(error) = inject(fault, &mut self.lab, &mut self.primary).await {
            return Err(format!("{name} could not be injected: {error}").into());
        }
        // For a moment the work meets servers that are just up again, or behind.
        self.wait_until(Instant::now() + Duration::from_secs(5)).await?;
        self.rest(true);
        wait_in_step(&self.lab).await?;
        let subject = self.watcher.seen().subject.ok_or("there is no agent")?;
        let after = aftermath(&name, &self.lab, subject, baseline).await;
        self.watcher.seen().fault = None;
        self.log.take(Some(&name));
        // A look or two at a state of rest, too.
        self.wait_until(Instant::now() + options.sample_every.min(Duration::from_secs(12))).await?;
        self.rest(false);
        Ok(after)
    }

    fn rest(&self, rest: bool) {
        if let Some(work) = &self.work {
            work.set(!rest);
        }
        self.watcher.seen().at_rest = rest;
    }

    async fn stop_agent(&mut self) {
        self.watcher.seen().subject = None;
        if let Some(agent) = self.agent.take()
            && let Err(error) = agent.stop().await
        {
            self.ends.push(error.to_string());
        }
    }

    async fn finish(mut self, aftermaths: &[Aftermath]) -> Outcome<Vec<Finding>> {
        self.log.take(None);
        self.rest(true);
        wait_in_step(&self.lab).await?;
        sleep(Duration::from_secs(3)).await;
        self.stop_agent().await;
        self.log.take(Some("the end"));
        for (kind, count) in &self.log.expected {
            println!("log: {count} × {kind}");
        }
        let work = self.work.take().ok_or("there is no work")?;
        println!("work: the last failure was {:?}", work.done().last_failure());
        let findings = {
            let seen = self.watcher.seen();
            let last = seen.samples.last().map_or(0, |sample| sample.life);
            println!("{} samples of {} agents", seen.samples.len(), last + 1);
            judge(&Evidence {
                samples: &seen.samples,
                blind: &seen.blind,
                aftermaths,
                log: &self.log,
                done: work.done(),
                ends: &self.ends,
            })
        };
        work.stop().await;
        Ok(findings)
    }
}

/// Whether the agent that is watched had kernel maps, and has none any more.
fn probes_are_gone(samples: &[Sample]) -> bool {
    samples.last().is_some_and(|last| {
        let mut same = samples.iter().rev().take_while(|sample| sample.life == last.life);
        last.maps == 0 && same.any(|sample| sample.maps > 0)
    })
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_gone_when_the_maps_are_and_not_before_they_came() {
        let sample = |life, maps| Sample { life, maps, ..Sample::default() };
        assert!(!probes_are_gone(&[]));
        assert!(!probes_are_gone(&[sample(0, 0)]), "not attached yet");
        assert!(!probes_are_gone(&[sample(0, 0), sample(0, 5)]));
        assert!(probes_are_gone(&[sample(0, 5), sample(0, 0)]));
        assert!(!probes_are_gone(&[sample(0, 5), sample(1, 0)]), "another agent, not attached yet");
    }
}
