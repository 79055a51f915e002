//! One replica: looks at its positions, and at its primary's, every few milliseconds, and hands on what came of it
//! once an interval.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use blameio_databases::{Database, PrimarySampler, ReplicaInfo, ReplicaSample, ReplicaSampler, WaitKind};
use blameio_pipeline::{Batch, Control, Output, schedule::until_next};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tokio::time::{Instant as Clock, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    ReplicationSettings,
    emit::{Report, Status, Told, report},
    lag::{LagMeter, Positions},
    log,
    pace::Pace,
    progress::Progress,
    waits::Waits,
    work::Ledger,
};

/// How often what changes rarely is asked for.
const INFO_INTERVAL: Duration = Duration::from_secs(10);

/// A look that takes longer than this is of no use: the position has moved on.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What the looks of one channel found so far. Held by its tasks; the lock is never kept over a wait.
pub(super) struct Channel {
    origin: Instant,
    meter: LagMeter,
    waits: Waits,
    /// Since when the sums count.
    start: SystemTime,
    received: Progress,
    applied: Progress,
    /// Work that the log asks for; `None` where it is not read.
    pub(super) work: Option<Ledger>,
    pub(super) last: Option<ReplicaSample>,
    info: ReplicaInfo,
    /// Whose the looks are: another instance starts anew.
    instance: Option<Uuid>,
    /// What the last report told.
    told: Told,
    /// Since when replay waits for the agent itself.
    own_fault: Option<Instant>,
    /// The last error, said once and not 50 times a second.
    failing: Option<String>,
}

pub(super) type Shared = Arc<Mutex<Channel>>;

pub(super) async fn run(database: Database, settings: ReplicationSettings, output: Output, control: Control) {
    let start = SystemTime::now();
    let shared: Shared = Arc::new(Mutex::new(Channel {
        origin: Instant::now(),
        meter: LagMeter::default(),
        waits: Waits::new(start),
        start,
        received: Progress::default(),
        applied: Progress::default(),
        work: None,
        last: None,
        info: ReplicaInfo::default(),
        instance: None,
        told: Told::default(),
        own_fault: None,
        failing: None,
    }));
    let end = control.drain.child_token();
    let _end_on_return = end.clone().drop_guard();
    if let Some(primary) = database.primary() {
        tokio::spawn(watch_primary(
            database.id().to_string(),
            primary,
            Arc::clone(&shared),
            settings.sample_interval,
            end.clone(),
        ));
    }
    if settings.read_log {
        tokio::spawn(log::follow(database.clone(), Arc::clone(&shared), end.clone()));
    }
    let mut replica = database.replica();
    let mut pace = Pace::new(settings.sample_interval, Clock::now());
    let mut info_due = Instant::now();
    loop {
        let collect = sleep(until_next(settings.collection_interval));
        tokio::pin!(collect);
        loop {
            tokio::select! {
                biased;
                () = control.drain.cancelled() => return,
                () = &mut collect => break,
                () = sleep_until(pace.due()) => {
                    look(&database, &mut replica, &shared).await;
                    pace.looked(Clock::now(), in_step(&shared));
                }
            }
        }
        look(&database, &mut replica, &shared).await;
        if Instant::now() >= info_due {
            match timeout(LOOK_TIMEOUT, replica.info()).await {
                Ok(Ok(info)) => {
                    info_due = Instant::now() + INFO_INTERVAL;
                    lock(&shared).info = info;
                }
                // Asked again at the next collection: an intended delay that is not known would count as lag.
                _ => tracing::debug!(database = %database.id(), "what changes rarely could not be read"),
            }
        }
        control.heartbeat.beat();
        if let Some(batch) = collect_batch(&database, &shared)
            && let Err(refused) = output.send(batch).await
        {
            tracing::debug!(database = %database.id(), %refused, "a measurement was refused; the next one follows");
        }
    }
}

pub(super) fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Channel> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The position of a replica that has applied all that it received, and waits for nothing but more.
fn in_step(shared: &Shared) -> Option<u64> {
    let channel = lock(shared);
    let sample = channel.last.as_ref()?;
    let waits = sample.wait.as_ref().is_some_and(|wait| wait.kind != WaitKind::Starved);
    sample.replayed.filter(|replayed| sample.received == Some(*replayed) && !waits)
}

async fn look(database: &Database, replica: &mut ReplicaSampler, shared: &Shared) {
    let seen = timeout(LOOK_TIMEOUT, replica.sample()).await;
    let mut channel = lock(shared);
    let error = match seen {
        Ok(Ok(sample)) => {
            let positions = positions(&sample, channel.origin);
            channel.meter.replica(&positions);
            if sample.in_recovery {
                let received = channel.meter.received(&positions);
                channel.received.look(received);
                channel.applied.look(sample.replayed);
            }
            channel.waits.sample(sample.monotonic, sample.wait.as_ref());
            if let Some(work) = &mut channel.work {
                work.sample(sample.monotonic, sample.replayed.filter(|_| is_at_work(&sample)));
            }
            let own = sample.wait.as_ref().is_some_and(|wait| wait.own);
            match channel.own_fault {
                None if own => {
                    channel.own_fault = Some(sample.monotonic);
                    tracing::error!(
                        database = %database.id(),
                        "replay waits for a session of the agent itself; it is named as the holder, please report this"
                    );
                }
                Some(since) if !own => {
                    let waited = sample.monotonic.saturating_duration_since(since);
                    tracing::info!(database = %database.id(), ?waited, "replay waits for no session of the agent any more");
                    channel.own_fault = None;
                }
                _ => {}
            }
            channel.last = Some(sample);
            if channel.failing.take().is_some() {
                tracing::info!(database = %database.id(), "replica answers again");
            }
            return;
        }
        Ok(Err(error)) => error.root().to_string(),
        Err(_) => format!("no answer within {LOOK_TIMEOUT:?}; the server or the network is stuck"),
    };
    channel.last = None;
    if channel.failing.as_ref() != Some(&error) {
        tracing::warn!(database = %database.id(), %error, "replica cannot be measured; its lag is held and marked stale");
        channel.failing = Some(error);
    }
}

async fn watch_primary(
    id: String,
    mut primary: PrimarySampler,
    shared: Shared,
    every: Duration,
    end: CancellationToken,
) {
    let mut pace = Pace::new(every, Clock::now());
    let mut failing: Option<String> = None;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep_until(pace.due()) => {}
        }
        let seen = timeout(LOOK_TIMEOUT, primary.flushed()).await;
        // Its position dates what the replica waits for: the first of it after a rest too.
        pace.looked(Clock::now(), None);
        let error = match seen {
            Ok(Ok(seen)) => {
                let mut channel = lock(&shared);
                let at = seconds(seen.monotonic, channel.origin);
                channel.meter.primary(at, seen.flushed, seen.timeline);
                if failing.take().is_some() {
                    tracing::info!(database = %id, "primary answers again");
                }
                continue;
            }
            Ok(Err(error)) => error.root().to_string(),
            Err(_) => format!("no answer within {LOOK_TIMEOUT:?}; the server or the network is stuck"),
        };
        if failing.as_ref() != Some(&error) {
            tracing::warn!(database = %id, %error, "primary cannot be measured");
            failing = Some(error);
        }
    }
}

/// Whether somebody applies. Who hands out work to others waits for them, and for more while they have not applied all.
fn is_at_work(sample: &ReplicaSample) -> bool {
    sample.in_recovery
        && match sample.wait.as_ref().map(|wait| wait.kind) {
            None | Some(WaitKind::Other) => true,
            Some(WaitKind::Starved) => sample.received > sample.replayed,
            Some(WaitKind::Paused | WaitKind::Lock | WaitKind::Conflict | WaitKind::Delayed) => false,
        }
}

fn positions(sample: &ReplicaSample, origin: Instant) -> Positions {
    Positions {
        at: seconds(sample.monotonic, origin),
        received: sample.received,
        replayed: sample.replayed,
        commit_age: sample.last_replayed_commit_age,
        streaming: sample.streaming,
        timeline: sample.timeline,
    }
}

fn seconds(at: Instant, origin: Instant) -> f64 {
    at.saturating_duration_since(origin).as_secs_f64()
}

fn collect_batch(database: &Database, shared: &Shared) -> Option<Batch> {
    let view = database.server().view();
    let identity = view.identity.as_deref()?;
    let mut channel = lock(shared);
    let channel = &mut *channel;
    if channel.instance.replace(identity.instance_id).is_some_and(|before| before != identity.instance_id) {
        // What was held for one instance is not true of the next.
        channel.meter = LagMeter::default();
        channel.start = SystemTime::now();
        channel.waits = Waits::new(channel.start);
        (channel.received, channel.applied) = (Progress::default(), Progress::default());
        channel.told = Told::default();
    }
    let sample = channel.last.as_ref();
    let is_replica = sample.is_none_or(|sample| sample.in_recovery);
    let positions = sample.map(|sample| positions(sample, channel.origin));
    let lag = if is_replica { channel.meter.measure(positions.as_ref()) } else { None };
    let backlog = positions.filter(|_| is_replica).and_then(|positions| channel.meter.backlog(&positions));
    let now = Instant::now();
    let at = sample.map_or_else(SystemTime::now, |sample| sample.at);
    let ended_waits = channel.waits.expire(now, at);
    let work = channel.work.as_mut().filter(|work| work.instance == identity.instance_id);
    let (work, work_times) = work.map_or_else(Default::default, |work| {
        if !is_replica {
            return work.finish(now, at);
        }
        if let Some(replayed) = sample.and_then(|sample| sample.replayed) {
            work.applied(replayed, now);
        }
        let times = work.times(now, at);
        (work.points(now, at), times)
    });
    let report_of = Report {
        identity,
        at,
        start: channel.start,
        lag,
        backlog,
        received: sample.and(channel.received.bytes()),
        applied: sample.and(channel.applied.bytes()),
        info: &channel.info,
        waits: &channel.waits,
        ended_waits,
        work,
        work_times,
        status: Status::of(sample, &channel.info),
    };
    let resource = report(&report_of, &mut channel.told);
    Some(Batch::metrics(ExportMetricsServiceRequest { resource_metrics: vec![resource] }))
}
