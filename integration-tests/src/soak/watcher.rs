//! Looks at the agent at regular times, whatever goes on meanwhile.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::sample::{Counter, HEADING, Sample, Subject, look};

/// Between a page whose lag and blame were of two ticks and the next one.
const AGAIN: Duration = Duration::from_millis(300);

/// What is looked at, what goes on, and what was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// The agent; nothing while it is restarted.
    pub subject: Option<Subject>,
    /// The fault that is being injected or got over; nothing in peace.
    pub fault: Option<String>,
    /// Whether the work rests.
    pub at_rest: bool,
    /// In order.
    pub samples: Vec<Sample>,
    /// Looks that failed in peace.
    pub blind: Vec<String>,
}

impl Seen {
    fn phase(&self) -> String {
        let usual = if self.at_rest { "rest" } else { "work" };
        self.fault.clone().unwrap_or_else(|| usual.to_owned())
    }
}

/// A task of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts; samples go to `csv` too, at once, so that a soak that breaks off leaves them.
    pub fn start(primary: String, replica: String, every: Duration, csv: &Path) -> io::Result<Self> {
        let mut file = File::create(csv)?;
        file.write_all(HEADING.as_bytes())?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let (begin, mut ticks) = (Instant::now(), interval(every));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut primary, mut replica) = (Counter::of(primary), Counter::of(replica));
            loop {
                ticks.tick().await;
                let (Some(subject), before) = ({
                    let seen = lock(&shared);
                    (seen.subject, seen.fault.clone())
                }) else {
                    continue;
                };
                let mut looked = look(subject, &mut primary, &mut replica).await;
                if looked.is_err() {
                    sleep(AGAIN).await;
                    looked = look(subject, &mut primary, &mut replica).await;
                }
                let mut seen = lock(&shared);
                // What spans the begin or the end of a fault belongs to it.
                let peace = before.is_none() && seen.fault.is_none();
                let phase = before.unwrap_or_else(|| seen.phase());
                let seconds = begin.elapsed().as_secs_f64();
                match looked {
                    Ok(sample) => {
                        if peace && sample.lag.is_none() {
                            seen.blind.push(format!("at {seconds:.0} s the page had no lag"));
                        }
                        let sample = Sample { seconds, phase, ..sample };
                        if let Err(error) = file.write_all(sample.csv().as_bytes()) {
                            eprintln!("soak: a sample could not be written: {error}");
                        }
                        seen.samples.push(sample);
                    }
                    Err(error) if peace => seen.blind.push(format!("at {seconds:.0} s: {error}")),
                    Err(_) => {}
                }
            }
        });
        Ok(Self { seen, task })
    }

    /// What was seen, to read and to tell.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
