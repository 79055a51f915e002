//! Log lines, on standard error. `RUST_LOG` wins over the configuration.

use blameio_config::LogLevel;
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. A second call changes nothing.
pub fn start(level: LogLevel) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // Libraries are of interest only when something is wrong with them.
        EnvFilter::new(format!("warn,blameio={level},blameio_databases={level},blameio_exporters={level},blameio_pipeline={level},blameio_processors={level},blameio_receiver={level},blameio_receiver_ebpf={level},blameio_config={level}"))
    });
    let started = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // Whoever read our standard error is gone: saying so there would be a panic.
        .log_internal_errors(false)
        .try_init();
    drop(started);
}
