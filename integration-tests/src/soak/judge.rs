//! Whether the agent came through: each promise with the figure that it is judged by.

use super::{log::Log, sample::Sample, work::Done};
use crate::bench::statistics::slope;

const MIB: f64 = 1024.0 * 1024.0;

/// A slope over less is an accident.
const SHORTEST: f64 = 1_200.0;

/// Most growth of memory in an hour: the larger of a share, and so many MiB.
const GROWTH: (f64, f64) = (0.05, 2.0);

/// Most of |Σ blame − lag| as a share of the lag.
const DRIFT: f64 = 0.01;

/// Lag of a replica that has nothing to do, in seconds.
const AT_REST: f64 = 0.2;

/// Series of one server: those of files are 1,000 at most, beside them stand the rows of blame, sums for each cause, and
/// what the server and its channel have once.
const SERIES: usize = 2_000;

/// Lag that has to be reached: else nothing was put to the test.
const LAG: f64 = 3.0;

/// What was seen after a fault, when the servers had come to rest.
#[derive(Clone, Debug)]
pub struct Aftermath {
    /// Which fault.
    pub fault: String,
    /// Lag when at rest; nothing when it did not come to rest in time.
    pub lag: Option<f64>,
    /// What has not returned to what it was; empty when all has.
    pub left_over: String,
}

/// All that was seen.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// In order.
    pub samples: &'a [Sample],
    /// Looks that failed in peace: what went wrong.
    pub blind: &'a [String],
    /// One for each fault.
    pub aftermaths: &'a [Aftermath],
    /// The agent's log.
    pub log: &'a Log,
    /// The work.
    pub done: &'a Done,
    /// How an agent ended that should not have, or not so.
    pub ends: &'a [String],
}

/// One promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was promised.
    pub promise: &'static str,
    /// What was seen.
    pub seen: String,
    /// Whether it was kept; nothing when the run was too short to say.
    pub kept: Option<bool>,
}

/// Judges.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    let find = |promise, seen: String, kept: bool| Finding { promise, seen, kept: Some(kept) };
    let samples = evidence.samples;
    let mut findings = vec![
        growth("resident memory is flat", samples, |sample| sample.rss),
        growth("kernel maps are flat", samples, |sample| sample.maps),
    ];
    let left: Vec<String> = evidence
        .aftermaths
        .iter()
        .filter(|aftermath| !aftermath.left_over.is_empty())
        .map(|aftermath| format!("{}: {}", aftermath.fault, aftermath.left_over))
        .collect();
    let faults = evidence.aftermaths.len();
    findings.push(find(
        "files, threads and connections return after each fault",
        if left.is_empty() { format!("after {faults} of {faults}") } else { left.join("; ") },
        left.is_empty() && faults > 0,
    ));
    let series = samples.iter().map(|sample| sample.series).max().unwrap_or(0);
    findings.push(find("series are bounded", format!("{series} at most"), series > 0 && series <= SERIES));
    let drifts: Vec<f64> = samples.iter().filter_map(Sample::drift).collect();
    let worst = drifts.iter().copied().fold(0.0, f64::max);
    let seen = format!("{:.4} % at worst, {} samples", worst * 100.0, drifts.len());
    findings.push(find("the account adds up to the lag", seen, !drifts.is_empty() && worst <= DRIFT));
    let rests: Vec<Option<f64>> = evidence.aftermaths.iter().map(|aftermath| aftermath.lag).collect();
    let worst = rests.iter().map(|lag| lag.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    let seen = format!("{worst:.3} s at worst, {faults} times");
    findings.push(find("lag is nothing at rest", seen, faults > 0 && worst <= AT_REST));
    let peak = samples.iter().filter_map(|sample| sample.lag).fold(0.0, f64::max);
    findings.push(find("the replica was made to lag", format!("{peak:.1} s at most"), peak >= LAG));
    findings.extend([
        none("lag and blame are on the page in peace", evidence.blind),
        none("no error without a fault", &evidence.log.unexpected),
        none("no panic", &evidence.log.panics),
        none("the agent ends only when told, and in order", evidence.ends),
    ]);
    findings.push(work(evidence.done));
    findings
}

/// In the last agent's life, once its first quarter is over: until then it learns what there is.
fn growth(promise: &'static str, samples: &[Sample], of: fn(&Sample) -> u64) -> Finding {
    let life = samples.last().map_or(0, |last| last.life);
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.life == life).collect();
    let (begin, end) =
        samples.first().zip(samples.last()).map_or((0.0, 0.0), |(first, last)| (first.seconds, last.seconds));
    let late = begin + (end - begin) / 4.0;
    let points: Vec<(f64, f64)> = samples
        .into_iter()
        .filter(|sample| sample.seconds >= late)
        .map(|sample| (sample.seconds / 3600.0, of(sample) as f64 / MIB))
        .collect();
    let hours = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0);
    let Some(slope) = slope(&points) else {
        return Finding { promise, seen: "too few samples".to_owned(), kept: None };
    };
    let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
    let limit = (mean * GROWTH.0).max(GROWTH.1);
    let minutes = hours * 60.0;
    let seen =
        format!("{slope:+.3} MiB an hour over {minutes:.0} min at {mean:.1} MiB; {limit:.1} are allowed");
    let kept = (hours * 3600.0 >= SHORTEST).then_some(slope <= limit);
    Finding { promise, seen, kept }
}

fn none(promise: &'static str, against: &[String]) -> Finding {
    let seen = match against {
        [] => "none".to_owned(),
        [first, ..] => format!("{} times, first: {first}", against.len()),
    };
    Finding { promise, seen, kept: Some(against.is_empty()) }
}

fn work(done: &Done) -> Finding {
    use std::sync::atomic::Ordering::Relaxed;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    let kinds = [&done.updates, &done.bursts, &done.tables, &done.databases, &done.scans, &done.locks];
    let sat_in = count(&done.sat_in);
    let seen = format!(
        "{} rows updated, {} bursts, {} tables and {} databases made and dropped, {} scans, {} locks held, {} \
         statements failed, {sat_in} times a database could not be dropped",
        count(&done.updates),
        count(&done.bursts),
        count(&done.tables),
        count(&done.databases),
        count(&done.scans),
        count(&done.locks),
        count(&done.failures)
    );
    let kept = kinds.iter().all(|kind| count(kind) > 0) && sat_in == 0;
    Finding { promise: "work of every kind was done, and hindered by nobody", seen, kept: Some(kept) }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
