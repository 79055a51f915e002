//! A laboratory with the agent at work on it: what every intervention test begins with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use blameio::{
    cli::ConfigArgs,
    command::{
        agent::{Agent, More},
        config, logging,
    },
    lab::{Culprit, GroundTruth, Lab, LabOptions, Recorder, Row, Storage, Throttle, Tick, Verdict},
};
use blameio_config::LogLevel;
use blameio_pipeline::Exporter;
use blameio_receiver_ebpf::probe_support;

use crate::replayed::Replayed;

/// No condition of these tests takes longer on a machine that works.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A burst that the primary makes in seconds takes this replica many times as long.
const CATCH_UP: Duration = Duration::from_mins(3);

/// Ticks in which the agent learns what is normal.
const WARM_UP_TICKS: usize = 5;

/// A laboratory, the agent, and what the agent said.
pub struct Scene {
    /// The servers.
    pub lab: Lab,
    /// What the agent said.
    pub recorder: Arc<Recorder>,
    agent: Agent,
    replayed: Replayed,
}

/// How a scene differs from the usual one.
#[derive(Clone, Debug)]
pub struct SceneOptions {
    /// The laboratory.
    pub lab: LabOptions,
    /// Whether the agent may ask the primary.
    pub with_primary: bool,
    /// Whether a second replica is on the same disk, watched by the same agent as `database/second`.
    pub second: bool,
    /// More of the configuration, merged over the usual one.
    pub more: String,
}

impl Default for SceneOptions {
    fn default() -> Self {
        let storage =
            if Throttle::support().is_ok() { LabOptions::default().storage } else { Storage::Plain };
        Self {
            lab: LabOptions { storage, ..LabOptions::default() },
            with_primary: true,
            second: false,
            more: "{}".to_owned(),
        }
    }
}

/// Whether a test that needs a laboratory can run here; says loudly why not.
pub fn can_run(test: &str, needs_slow_disk: bool) -> bool {
    let reason = blameio::lab::Binaries::find(None).err().map(|error| error.to_string()).or_else(|| {
        let missing = probe_support().into_iter().find(|support| !support.ok && !support.optional)?;
        Some(format!("probes: {}: {}", missing.name, missing.detail))
    });
    let reason = reason.or_else(|| {
        if needs_slow_disk { Throttle::support().err().map(|error| error.to_string()) } else { None }
    });
    match reason {
        Some(reason) => {
            eprintln!("SKIPPED {test}: {reason}");
            false
        }
        None => true,
    }
}

/// A directory in memory, where this machine has one with room for a laboratory: what others do to its disk is no part of a
/// test that counts who else is named.
pub fn quiet_place() -> Option<PathBuf> {
    const PLACE: &str = "/dev/shm";
    const ROOM: u64 = 6 << 30;
    let kind = nix::sys::statfs::statfs(PLACE).ok()?.filesystem_type();
    let room = nix::sys::statvfs::statvfs(PLACE).ok()?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    (kind == nix::sys::statfs::TMPFS_MAGIC && free >= ROOM).then(|| PLACE.into())
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port()
}

/// The usual configuration for a replica.
pub fn configuration(replica: &str, primary: Option<&str>) -> String {
    let primary = primary.map(|dsn| format!(", primary_dsn: '{dsn}'")).unwrap_or_default();
    format!(
        "extensions: {{database/replica: {{dsn: '{replica}'{primary}}}}}\n\
         receivers: {{file_io: {{state_directory: ''}}, replication: }}\n\
         processors: {{db_resolver: , lag_attribution: {{state_directory: ''}}}}\n\
         exporters: {{debug: }}\n\
         service:\n\
         \x20 extensions: [database/replica]\n\
         \x20 telemetry: {{metrics: {{level: none}}}}\n\
         \x20 pipelines: {{metrics: {{receivers: [file_io, replication],\n\
         \x20   processors: [db_resolver, lag_attribution], exporters: [debug]}}}}\n"
    )
}

/// Starts an agent whose words are recorded.
pub async fn start_agent(configs: &[String], recorder: &Arc<Recorder>) -> Agent {
    logging::start(LogLevel::Warn);
    let args = ConfigArgs {
        configs: configs.iter().map(|config| format!("yaml:{config}")).collect(),
        set: Vec::new(),
    };
    let loaded = config::loaded(&args).expect("the test's configuration is good");
    let exporter: Arc<dyn Exporter> = Arc::clone(recorder) as Arc<dyn Exporter>;
    let id = "recorder".parse().expect("an id");
    let more = More { exporter: Some((id, exporter)), ..More::default() };
    Agent::start(&loaded.configuration, more).await.expect("the agent starts")
}

impl Scene {
    /// Builds the laboratory, starts the agent, and waits until it measures.
    pub async fn build(options: SceneOptions) -> Self {
        let mut lab = Lab::build(options.lab.clone()).await.expect("a laboratory");
        if options.second {
            lab.add_replica().expect("a second replica");
        }
        Self::watch(lab, options).await
    }

    /// Starts the agent on a laboratory that is there already, whatever goes on in it.
    pub async fn watch(lab: Lab, options: SceneOptions) -> Self {
        let second = lab.replicas().get(1).map(blameio::lab::Cluster::dsn);
        // What was built or copied before must not be written back in the middle of what is measured.
        nix::unistd::sync();
        let replayed = Replayed::start(&lab.replica().dsn()).await.expect("the replica answers");
        let recorder = Arc::new(Recorder::default());
        let primary = lab.primary().dsn();
        let usual = configuration(&lab.replica().dsn(), options.with_primary.then_some(primary.as_str()));
        let mut configs = vec![usual, options.more];
        configs.extend(second.map(|second| {
            format!(
                "extensions: {{database/second: {{dsn: '{second}', primary_dsn: '{primary}'}}}}\n\
                 service: {{extensions: [database/replica, database/second]}}\n"
            )
        }));
        let agent = start_agent(&configs, &recorder).await;
        Self { lab, recorder, agent, replayed }
    }

    /// Waits until the agent has had time to learn what is normal.
    pub async fn warm_up(&self) {
        let mut ticks = 0;
        let learned = self
            .recorder
            .wait_for(DEADLINE, |_| {
                ticks += 1;
                ticks >= WARM_UP_TICKS
            })
            .await;
        assert!(learned, "the agent measures nothing: {:?}", self.recorder.ticks());
    }

    /// Waits until the agent sees so much lag.
    pub async fn wait_for_lag(&self, seconds: f64) {
        let port = self.port();
        let lagged = self.recorder.wait_for(DEADLINE, |tick| tick.port == port && tick.lag >= seconds).await;
        let ticks = self.recorder.ticks();
        let most = ticks.iter().map(|tick| tick.lag).fold(0.0, f64::max);
        assert!(lagged, "the injection made {most} s of lag and not {seconds}: {:?}", ticks.last());
    }

    /// Waits until the agent sees the replica in step.
    pub async fn wait_in_step(&self) {
        let port = self.port();
        let in_step = self.recorder.wait_for(CATCH_UP, |tick| tick.port == port && tick.lag < 0.1).await;
        assert!(in_step, "the replica does not catch up: {:?}", self.recorder.ticks().last());
    }

    fn port(&self) -> i64 {
        self.lab.replica().port().into()
    }

    /// What was said of the replica since a tick.
    pub fn ticks_since(&self, since: usize) -> Vec<Tick> {
        let port = self.port();
        self.recorder.ticks().into_iter().skip(since).filter(|tick| tick.port == port).collect()
    }

    /// Judges everything since a tick and holds it against the promises that every single-cause intervention has to
    /// keep.
    pub fn judge(&self, name: &str, since: usize, culprit: &Culprit) {
        self.verdict(name, since, culprit).hold();
    }

    /// Judges everything since a tick and prints it; what it is worth is asserted by [`Judged::hold`].
    pub fn verdict(&self, name: &str, since: usize, culprit: &Culprit) -> Judged {
        self.verdict_of(name, self.ticks_since(since), culprit)
    }

    /// The same of ticks in which rows were put together.
    pub fn verdict_of(&self, name: &str, ticks: Vec<Tick>, culprit: &Culprit) -> Judged {
        let verdict = Verdict::of(&ticks, Some(culprit));
        let error = self.lag_error(&ticks);
        println!("{name}: injected {culprit}\n  {verdict:?}\n  lag error against P(flushed): {error:?}");
        println!("  last tick: {:?}", ticks.last());
        Judged { name: name.to_owned(), culprit: culprit.clone(), ticks, verdict, error }
    }

    /// How far the lag is from the truth at its own timestamp, in seconds.
    pub fn lag_error(&self, ticks: &[Tick]) -> LagError {
        lag_error(ticks, self.lab.truth(), &self.replayed)
    }

    /// Prints what simpler tools show in the same run: share of file bytes, and share of `pg_statio` blocks.
    pub async fn print_baselines(&self) {
        let bytes = self.recorder.bytes();
        let mut rows: Vec<_> = bytes.iter().filter(|(_, bytes)| **bytes > 0.0).collect();
        rows.sort_by(|left, right| right.1.total_cmp(left.1));
        let sum: f64 = rows.iter().map(|(_, bytes)| **bytes).sum();
        println!("  baseline, share of file bytes (table, index, role, operation):");
        for (key, moved) in rows.iter().take(5) {
            println!("    {key:?} {:.1} %", *moved / sum * 100.0);
        }
        let devices = self.recorder.devices();
        let mut rows: Vec<_> = devices.iter().filter(|(_, seconds)| **seconds > 0.0).collect();
        rows.sort_by(|left, right| right.1.total_cmp(left.1));
        let sum: f64 = rows.iter().map(|(_, seconds)| **seconds).sum();
        println!("  baseline, share of device time (device, table or culprit, index, role):");
        for (key, seconds) in rows.iter().take(5) {
            println!("    {key:?} {:.1} %", *seconds / sum * 100.0);
        }
        let statio = "SELECT COALESCE(sum(heap_blks_read + COALESCE(idx_blks_read, 0)), 0)::bigint \
                      FROM pg_statio_user_tables";
        let blocks: i64 = self.lab.replica_client().query_one(statio, &[]).await.expect("pg_statio").get(0);
        println!(
            "  baseline, pg_statio blocks read on the replica: {blocks} (replay is never counted there)"
        );
    }

    /// Stops the agent, then everything else.
    pub async fn end(self) {
        let Self { lab, agent, replayed, .. } = self;
        agent.shutdown().await;
        replayed.stop().await;
        drop(lab);
    }
}

/// What the agent said of an injection.
#[must_use]
#[derive(Debug)]
pub struct Judged {
    name: String,
    culprit: Culprit,
    ticks: Vec<Tick>,
    /// How right it was.
    pub verdict: Verdict,
    error: LagError,
}

impl Judged {
    /// Asserts what every single-cause intervention has to keep.
    pub fn hold(&self) {
        self.hold_but(|_| false);
    }

    /// The same where somebody else owes a part, who is not first.
    pub fn hold_beside(&self, other: &Culprit) {
        self.hold_but(|row| other.matches(row));
    }

    fn hold_but(&self, is_known: impl Fn(&Row) -> bool) {
        let Self { name, culprit, ticks, verdict, error } = self;
        assert!(verdict.worst_sum_error <= 0.01, "{name}: blame does not sum to the lag: {verdict:?}");
        assert!(verdict.right_first >= 0.95, "{name}: {culprit} is not first: {verdict:?}\n{ticks:?}");
        assert!(verdict.unknown <= 0.05, "{name}: too much is unknown: {verdict:?}\n{ticks:?}");
        let strangers = verdict.strangers.iter().all(is_known);
        assert!(strangers, "{name}: somebody else is named too: {verdict:?}\n{ticks:?}");
        assert!(error.mean <= 0.020, "{name}: the lag is not the lag: {error:?}");
    }
}

/// Distance of the measured lag from the truth, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct LagError {
    /// Ticks compared.
    pub ticks: usize,
    /// Mean of the absolute error.
    pub mean: f64,
    /// Largest absolute error.
    pub worst: f64,
}

fn lag_error(ticks: &[Tick], truth: &GroundTruth, replayed: &Replayed) -> LagError {
    let errors: Vec<f64> = ticks
        .iter()
        .filter_map(|tick| {
            let position = replayed.at(tick.at)?;
            Some((truth.lag(position, tick.at).as_secs_f64() - tick.lag).abs())
        })
        .collect();
    LagError {
        ticks: errors.len(),
        mean: errors.iter().sum::<f64>() / errors.len().max(1) as f64,
        worst: errors.iter().copied().fold(0.0, f64::max),
    }
}
