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
    lab::{Culprit, LabError, Recorder},
};
use judge::Counters;
use mariadb::MariaDb;
use postgresql::PostgreSql;
use scenario::{Engine, Scenario};

mod judge;
mod mariadb;
mod postgresql;
mod scenario;

/// Time with the injection.
const INCIDENT: Duration = Duration::from_secs(25);

/// Options of the demo.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// Database server to make the primary and the replica of
    #[arg(long, value_enum, value_name = "NAME", default_value = "postgresql")]
    engine: Engine,
    /// What to inject
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "control")]
    scenario: Option<Scenario>,
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
    /// What was asked for cannot be.
    Refused,
}

/// Runs the demo.
pub fn run(options: &DemoOptions) -> ExitCode {
    logging::start(LogLevel::Warn);
    block_on(async {
        match choose(options).await {
            Ok(End::Right) => ExitCode::SUCCESS,
            Ok(End::Wrong) => ExitCode::FAILURE,
            // As for any other bad command line.
            Ok(End::Refused) => ExitCode::from(2),
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

/// A primary and a replica that fall behind in one way, on one engine.
trait Stage {
    /// What the server itself counts and simpler tools show.
    const COUNTERS: &'static str;
    /// Most of the lag that may be owed to nobody.
    const UNKNOWN: f64;

    /// Of primary and replica.
    fn ports(&self) -> (u16, u16);
    /// Of primary and replica.
    fn dsns(&self) -> (String, String);
    fn directory(&self) -> String;
    /// Who has to be named; nobody without an injection.
    fn culprit(&self) -> Option<Culprit>;
    /// Time without an injection, in which the agent learns what is normal.
    fn learning(&self) -> Duration;
    /// Starts the changes on the primary, of which so many come in a second.
    async fn begin(&mut self) -> Result<u32, LabError>;
    /// Says what stands in the replica's way from now on.
    async fn inject(&mut self) -> Result<(), LabError>;
    async fn counters(&mut self) -> Result<Counters, LabError>;
    /// Ends the injection and the changes.
    async fn end(&mut self) -> Result<(), LabError>;
}

async fn choose(options: &DemoOptions) -> Result<End, LabError> {
    let scenario = if options.control {
        None
    } else {
        match Scenario::choose(options.scenario, options.engine, say) {
            Ok(scenario) => Some(scenario),
            Err(reason) => {
                complain(format!("demo: {reason}"));
                return Ok(End::Refused);
            }
        }
    };
    let end = end_signal();
    tokio::pin!(end);
    say(format!("making a {} primary and a replica of it in a temporary directory …", options.engine.name()));
    match options.engine {
        Engine::Postgresql => {
            play(PostgreSql::build(options.postgresql_bin.clone(), scenario), &mut end).await
        }
        Engine::Mariadb => play(MariaDb::build(scenario), &mut end).await,
    }
}

async fn play<S: Stage>(
    built: impl Future<Output = Result<S, LabError>>,
    mut end: impl Future<Output = ()> + Unpin,
) -> Result<End, LabError> {
    let mut stage = tokio::select! {
        biased;
        () = &mut end => return Ok(End::Interrupted),
        built = built => built?,
    };
    let (primary, replica) = stage.ports();
    say(format!("primary on port {primary}, replica on port {replica}, in {}", stage.directory()));
    let recorder = Arc::new(Recorder::default());
    let agent = match start_agent(&stage.dsns(), &recorder).await {
        Ok(agent) => agent,
        Err(error) => {
            complain(format!("demo: the agent did not start: {error}"));
            return Ok(End::Wrong);
        }
    };
    let culprit = stage.culprit();
    let evidence = tokio::select! {
        biased;
        () = &mut end => None,
        evidence = make_lag(&mut stage, &recorder) => Some(evidence),
    };
    // The agent ends before the servers: it would tell of their end as of a fault.
    agent.shutdown().await;
    drop(stage);
    let Some(evidence) = evidence.transpose()? else { return Ok(End::Interrupted) };
    let right = judge::judge(&evidence, culprit.as_ref(), S::UNKNOWN);
    Ok(if right { End::Right } else { End::Wrong })
}

/// Lets the agent learn, injects, and returns what was seen with the incident at its height.
async fn make_lag<S: Stage>(stage: &mut S, recorder: &Recorder) -> Result<judge::Evidence, LabError> {
    let (rate, learning) = (stage.begin().await?, stage.learning());
    say(format!("{rate} changes a second on the primary; the agent learns what is normal for {learning:?}"));
    sleep(learning).await;
    let before = stage.counters().await?;
    stage.inject().await?;
    sleep(INCIDENT).await;
    let evidence = judge::Evidence {
        ticks: recorder.ticks(),
        bytes: recorder.bytes(),
        before,
        after: stage.counters().await?,
        counters: S::COUNTERS,
    };
    stage.end().await?;
    Ok(evidence)
}

async fn start_agent(
    (primary, replica): &(String, String),
    recorder: &Arc<Recorder>,
) -> Result<Agent, String> {
    let configuration = format!(
        "extensions: {{database/replica: {{dsn: '{replica}', primary_dsn: '{primary}'}}}}\n\
         receivers: {{file_io: {{state_directory: ''}}, replication: }}\n\
         processors: {{db_resolver: , lag_attribution: {{state_directory: ''}}}}\n\
         exporters: {{blame_table: }}\n\
         service:\n\
         \x20 extensions: [database/replica]\n\
         \x20 telemetry: {{metrics: {{level: none}}}}\n\
         \x20 pipelines: {{metrics: {{receivers: [file_io, replication],\n\
         \x20   processors: [db_resolver, lag_attribution], exporters: [blame_table]}}}}\n"
    );
    let args = ConfigArgs { configs: vec![format!("yaml:{configuration}")], set: Vec::new() };
    let loaded = config::loaded(&args).ok_or("its configuration is not good; see above")?;
    let id: ComponentId = "recorder".parse().map_err(|_| "the recorder's id is not an id")?;
    let exporter: Arc<dyn Exporter> = Arc::clone(recorder) as Arc<dyn Exporter>;
    let more = More { exporter: Some((id, exporter)), ..More::default() };
    Agent::start(&loaded.configuration, more).await
}
