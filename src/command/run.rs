//! `blameio run`: the agent.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use blameio_config::LogLevel;
use blameio_databases::{DatabaseExtension, DiscoveredServer, discover};
use blameio_pipeline::Extension;
use blameio_receiver_ebpf::Loader;
use tokio::time::{interval, sleep};

use super::{
    agent::{Agent, More, WATCHDOG, end_signal},
    block_on, complain, config, logging, say,
};
use crate::cli::ConfigArgs;

/// Between two looks for servers on this host.
const DISCOVERY: Duration = Duration::from_secs(10);

/// Why a server that runs may not be seen.
pub(super) const NOT_SEEN: &str = "start one; or, if one runs, let this user see it: run as root, or with the \
     capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, in the host's pid namespace";

/// What one would write by hand for servers of this host; the servers themselves are added in code.
const DISCOVERED: &str = "\
receivers: {file_io: , replication: }
processors: {db_resolver: , lag_attribution: }
exporters: {blame_table: }
service:
  telemetry: {logs: {level: warn}, metrics: {level: none}}
  pipelines:
    metrics:
      receivers: [file_io, replication]
      processors: [db_resolver, lag_attribution]
      exporters: [blame_table]
";

/// Runs until told to end.
pub fn run(args: &ConfigArgs) -> ExitCode {
    if args.configs.is_empty() {
        logging::start(LogLevel::Warn);
        let more = keep_few_privileges();
        return block_on(discovered(args, more));
    }
    // Before the configuration is read, its log level is not known.
    let Some(loaded) = config::loaded(args) else { return ExitCode::FAILURE };
    logging::start(loaded.configuration.service.telemetry.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let more = keep_few_privileges();
    block_on(async {
        tracing::info!("Starting blameio...");
        // Before anything is attached, so that an end is orderly from the first moment on.
        let end = end_signal();
        match Agent::start(&loaded.configuration, more).await {
            Ok(agent) => {
                watch(&agent, end).await;
                agent.shutdown().await;
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(error);
                ExitCode::FAILURE
            }
        }
    })
}

/// From here on one thread can load probes, and no other thread can do what an intruder would like to; that one ends when
/// the probes are attached. Before the runtime's threads are made, since each inherits what its maker has.
fn keep_few_privileges() -> More {
    let mut more = More::default();
    match (Loader::start(), "loader/probes".parse()) {
        (Ok(loader), Ok(id)) => drop(more.extensions.insert(id, Arc::new(loader) as Arc<dyn Extension>)),
        (Err(error), _) => {
            tracing::warn!(%error, "every thread keeps the privileges that the agent was started with");
        }
        (_, Err(error)) => tracing::warn!(%error, "the loading thread has no name"),
    }
    more
}

async fn watch(agent: &Agent, end: impl Future<Output = ()>) {
    let mut looks = interval(WATCHDOG);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = looks.tick() => agent.complain_of_late_workers(),
        }
    }
}

/// Without a configuration: whatever runs on this host.
async fn discovered(args: &ConfigArgs, mut more: More) -> ExitCode {
    let end = end_signal();
    tokio::pin!(end);
    let mut found = look().await;
    if found.is_empty() {
        say(format!(
            "no database server is seen on this host; waiting for one. {NOT_SEEN}; or name it with --config"
        ));
    }
    while found.is_empty() {
        tokio::select! {
            () = &mut end => return ExitCode::SUCCESS,
            () = sleep(DISCOVERY) => found = look().await,
        }
    }
    let configs = vec![format!("yaml:{DISCOVERED}")];
    let Some(loaded) = config::loaded(&ConfigArgs { configs, set: args.set.clone() }) else {
        return ExitCode::FAILURE;
    };
    for server in &found {
        let role = if server.is_standby { "standby" } else { "primary" };
        let (port, directory) = (server.port, server.data_directory.display());
        say(format!("watching the {} {role} on port {port}, {directory}", server.system));
        let Ok(id) = format!("database/{}", server.suggested_name).parse() else { continue };
        match DatabaseExtension::discovered(id, server) {
            Ok(extension) => {
                let id = extension.database().id().clone();
                more.extensions.insert(id, Arc::new(extension) as Arc<dyn Extension>);
            }
            Err(error) => complain(error.to_string()),
        }
    }
    let agent = match Agent::start(&loaded.configuration, more).await {
        Ok(agent) => agent,
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        () = watch(&agent, end) => {}
        () = tell_of_others(found) => {}
    }
    agent.shutdown().await;
    ExitCode::SUCCESS
}

/// Reading /proc takes some milliseconds and may get stuck on a file system that is.
async fn look() -> Vec<DiscoveredServer> {
    tokio::task::spawn_blocking(discover).await.unwrap_or_default()
}

/// Says once of each server that was started later that it is not watched: a restart of the agent would cost what it
/// knows of the others. Never ends.
async fn tell_of_others(known: Vec<DiscoveredServer>) {
    // A server that was made anew in the same place is followed.
    let place = |server: &DiscoveredServer| (server.data_directory.clone(), server.port);
    let mut known: BTreeSet<(PathBuf, u16)> = known.iter().map(place).collect();
    loop {
        sleep(DISCOVERY).await;
        for server in look().await {
            if known.insert(place(&server)) {
                say(format!(
                    "another {} server was started on port {}; restart blameio to watch it too",
                    server.system, server.port
                ));
            }
        }
    }
}
