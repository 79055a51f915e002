//! `blameio demo`: a real primary and a real replica, made for the purpose; a lag with a known cause; the real
//! pipeline; and a comparison of what it said with what was done.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use blameio_config::{ComponentId, LogLevel};
use blameio_pipeline::Exporter;
use clap::Args;
use tokio::time::sleep;

use super::{
    agent::{Agent, More, end_signal},
    block_on, complain, config, logging, say,
};
use crate::{
    cli::ConfigArgs,
    lab::{Binaries, Culprit, Lab, LabError, LabOptions, LockConflict, Recorder, Storage, Throttle, Updates},
};

mod judge;

/// Time without an injection, in which the agent learns what is normal.
const WARM_UP: Duration = Duration::from_secs(8);

/// Time with the injection.
const INCIDENT: Duration = Duration::from_secs(25);

/// Options of the demo.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// Inject nothing: no culprit may be named
    #[arg(long)]
    control: bool,
    /// Directory of PostgreSQL's server programs, when they are not found
    #[arg(long, value_name = "DIR")]
    postgresql_bin: Option<PathBuf>,
}

/// How a demo ended.
enum End {
    Right,
    Wrong,
    Interrupted,
}

/// Runs the demo.
pub fn run(options: &DemoOptions) -> ExitCode {
    logging::start(LogLevel::Warn);
    block_on(async {
        match play(options).await {
            Ok(End::Right) => ExitCode::SUCCESS,
            Ok(End::Wrong) => ExitCode::FAILURE,
            Ok(End::Interrupted) => {
                say("interrupted; everything that was made is removed");
                // As a shell reports a process that SIGINT ended.
                ExitCode::from(130)
            }
            Err(error) => {
                complain(format!("demo: {error}"));
                ExitCode::FAILURE
            }
        }
    })
}

/// What stands in the replica's way.
enum Injection {
    None,
    ColdIndex,
    Lock,
}

impl Injection {
    fn choose(control: bool) -> Self {
        if control {
            return Self::None;
        }
        match Throttle::support() {
            Ok(how) => {
                say(format!("slow disk: a loop device, its reads limited by {how}"));
                Self::ColdIndex
            }
            Err(reason) => {
                say(format!(
                    "slow disk: not on this host ({reason}); a held lock stands in replay's way instead"
                ));
                Self::Lock
            }
        }
    }

    fn culprit(&self) -> Option<Culprit> {
        match self {
            Self::None => None,
            Self::ColdIndex => Some(Culprit {
                cause: "replay",
                table: Some("orders".to_owned()),
                index: Some(crate::lab::Schema::COLD_INDEX.to_owned()),
            }),
            Self::Lock => Some(Culprit { cause: "lock", table: Some("orders".to_owned()), index: None }),
        }
    }

    async fn start(&self, lab: &mut Lab) -> Result<Option<LockConflict>, LabError> {
        match self {
            Self::None => Ok(None),
            Self::ColdIndex => {
                say(format!(
                    "\ninjected: {} is out of memory, and the disk does {} reads a second\n",
                    crate::lab::Schema::COLD_INDEX,
                    Lab::READ_IOPS
                ));
                lab.inject_cold_index().await.map(|()| None)
            }
            Self::Lock => {
                say("\ninjected: a query on the replica holds a lock on orders that replay needs\n");
                lab.hold_lock("orders").await.map(Some)
            }
        }
    }
}

async fn play(options: &DemoOptions) -> Result<End, LabError> {
    let end = end_signal();
    tokio::pin!(end);
    Binaries::find(options.postgresql_bin.as_deref())?;
    let injection = Injection::choose(options.control);
    say("making a primary and a streaming replica in a temporary directory …");
    let storage = match injection {
        Injection::ColdIndex => LabOptions::default().storage,
        Injection::None if Throttle::support().is_ok() => LabOptions::default().storage,
        _ => Storage::Plain,
    };
    let lab_options =
        LabOptions { binaries: options.postgresql_bin.clone(), storage, ..LabOptions::default() };
    let mut lab = tokio::select! {
        biased;
        () = &mut end => return Ok(End::Interrupted),
        lab = Lab::build(lab_options) => lab?,
    };
    say(format!(
        "primary on port {}, replica on port {}, in {}",
        lab.primary().port(),
        lab.replica().port(),
        lab.dir().display()
    ));
    let recorder = Arc::new(Recorder::default());
    let agent = match start_agent(&lab, &recorder).await {
        Ok(agent) => agent,
        Err(error) => {
            complain(format!("demo: the agent did not start: {error}"));
            return Ok(End::Wrong);
        }
    };
    let evidence = tokio::select! {
        biased;
        () = &mut end => None,
        evidence = make_lag(&mut lab, &injection, &recorder) => Some(evidence),
    };
    // The agent ends before the servers: it would tell of their end as of a fault.
    agent.shutdown().await;
    drop(lab);
    let Some(evidence) = evidence.transpose()? else { return Ok(End::Interrupted) };
    let right = judge::judge(&evidence, injection.culprit().as_ref());
    Ok(if right { End::Right } else { End::Wrong })
}

/// Lets the agent learn, injects, and returns what was seen with the incident at its height.
async fn make_lag(
    lab: &mut Lab,
    injection: &Injection,
    recorder: &Recorder,
) -> Result<judge::Evidence, LabError> {
    say(format!(
        "{} updates a second on the primary; the agent learns what is normal for {WARM_UP:?}",
        Lab::RATE
    ));
    let workload = lab.start_workload(&Updates::orders(), Lab::RATE).await?;
    sleep(WARM_UP).await;
    let blocks_before = judge::statio(lab.replica_client()).await?;
    let held = injection.start(lab).await?;
    sleep(INCIDENT).await;
    let evidence = judge::Evidence {
        ticks: recorder.ticks(),
        bytes: recorder.bytes(),
        blocks_before,
        blocks_after: judge::statio(lab.replica_client()).await?,
    };
    drop(held);
    workload.stop().await?;
    Ok(evidence)
}

async fn start_agent(lab: &Lab, recorder: &Arc<Recorder>) -> Result<Agent, String> {
    let configuration = format!(
        "extensions: {{database/replica: {{dsn: '{}', primary_dsn: '{}'}}}}\n\
         receivers: {{file_io: {{state_directory: ''}}, replication: }}\n\
         processors: {{db_resolver: , lag_attribution: {{state_directory: ''}}}}\n\
         exporters: {{blame_table: }}\n\
         service:\n\
         \x20 extensions: [database/replica]\n\
         \x20 telemetry: {{metrics: {{level: none}}}}\n\
         \x20 pipelines: {{metrics: {{receivers: [file_io, replication],\n\
         \x20   processors: [db_resolver, lag_attribution], exporters: [blame_table]}}}}\n",
        lab.replica().dsn(),
        lab.primary().dsn()
    );
    let args = ConfigArgs { configs: vec![format!("yaml:{configuration}")], set: Vec::new() };
    let loaded = config::loaded(&args).ok_or("its configuration is not good; see above")?;
    let id: ComponentId = "recorder".parse().map_err(|_| "the recorder's id is not an id")?;
    let exporter: Arc<dyn Exporter> = Arc::clone(recorder) as Arc<dyn Exporter>;
    let more = More { exporter: Some((id, exporter)), ..More::default() };
    Agent::start(&loaded.configuration, more).await
}
