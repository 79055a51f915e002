//! `blameio run`: the agent.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use blameio_config::LogLevel;
use blameio_databases::{DiscoveredServer, discover};
use tokio::time::{interval, sleep};

use super::{
    agent::{Agent, WATCHDOG, end_signal},
    complain, config, logging, runtime, say,
};
use crate::cli::ConfigArgs;

/// Between two looks for servers on this host.
const DISCOVERY: Duration = Duration::from_secs(10);

/// Runs until told to end.
pub fn run(args: &ConfigArgs) -> ExitCode {
    if args.configs.is_empty() {
        logging::start(LogLevel::Warn);
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(code) => return code,
        };
        return runtime.block_on(discovered(args));
    }
    // Before the configuration is read, its log level is not known.
    let Some(loaded) = config::loaded(args) else { return ExitCode::FAILURE };
    logging::start(loaded.configuration.service.telemetry.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        tracing::info!("Starting blameio...");
        match Agent::start(&loaded.configuration).await {
            Ok(agent) => {
                watch(&agent, end_signal()).await;
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

/// Without a configuration: whatever runs on this host, anew whenever that changes.
async fn discovered(args: &ConfigArgs) -> ExitCode {
    let end = end_signal();
    tokio::pin!(end);
    let mut waiting = false;
    loop {
        let found = local_servers();
        if found.is_empty() {
            if !waiting {
                say("no PostgreSQL server runs on this host; waiting for one (or name it with --config)");
                waiting = true;
            }
            tokio::select! {
                () = &mut end => return ExitCode::SUCCESS,
                () = sleep(DISCOVERY) => continue,
            }
        }
        waiting = false;
        let configs = vec![format!("yaml:{}", configuration(&found))];
        let Some(loaded) = config::loaded(&ConfigArgs { configs, set: args.set.clone() }) else {
            return ExitCode::FAILURE;
        };
        for (directory, server) in &found {
            say(format!("watching {} on port {}, {}", server.system, server.port, directory.display()));
        }
        let agent = match Agent::start(&loaded.configuration).await {
            Ok(agent) => agent,
            Err(error) => {
                complain(error);
                return ExitCode::FAILURE;
            }
        };
        let ended = tokio::select! {
            () = &mut end => true,
            () = watch(&agent, another_server(&found)) => false,
        };
        agent.shutdown().await;
        if ended {
            return ExitCode::SUCCESS;
        }
    }
}

type Servers = BTreeMap<PathBuf, DiscoveredServer>;

fn local_servers() -> Servers {
    discover().into_iter().map(|server| (server.data_directory.clone(), server)).collect()
}

/// Resolves when a server runs that is not among those known. One that ended may come back and is kept.
async fn another_server(known: &Servers) {
    loop {
        sleep(DISCOVERY).await;
        if local_servers().keys().any(|directory| !known.contains_key(directory)) {
            return;
        }
    }
}

/// What one would write by hand for these servers.
fn configuration(servers: &Servers) -> String {
    let mut extensions = String::new();
    let mut names = Vec::new();
    for (directory, server) in servers {
        let name = format!("database/{}", server.suggested_name);
        // Single quotes, doubled inside, keep any path as it is; `$` would expand.
        let path = directory.display().to_string().replace('\'', "''").replace('$', "$$");
        extensions.push_str(&format!("  {name}: {{data_directory: '{path}'}}\n"));
        names.push(name);
    }
    format!(
        "extensions:\n{extensions}\
         receivers: {{file_io: , replication: }}\n\
         processors: {{db_resolver: , lag_attribution: }}\n\
         exporters: {{blame_table: }}\n\
         service:\n\
         \x20 extensions: [{}]\n\
         \x20 telemetry: {{logs: {{level: warn}}, metrics: {{level: none}}}}\n\
         \x20 pipelines:\n\
         \x20   metrics:\n\
         \x20     receivers: [file_io, replication]\n\
         \x20     processors: [db_resolver, lag_attribution]\n\
         \x20     exporters: [blame_table]\n",
        names.join(", ")
    )
}
