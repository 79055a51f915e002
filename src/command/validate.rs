//! `blameio validate`: everything `run` would check before it opens anything. Prints nothing when all is well.

use std::process::ExitCode;

use blameio_pipeline::{graph::Graph, telemetry::Telemetry};

use super::{complain, config, logging};
use crate::{cli::ConfigArgs, components::COMPONENTS};

/// Checks and tells.
pub fn run(args: &ConfigArgs) -> ExitCode {
    logging::start(blameio_config::LogLevel::Warn);
    if args.configs.is_empty() {
        complain("at least one config flag must be provided, as in: blameio validate --config config.yaml");
        return ExitCode::from(2);
    }
    let Some(loaded) = config::loaded(args) else { return ExitCode::FAILURE };
    for warning in &loaded.warnings {
        complain(warning.to_string());
    }
    // Nothing is pushed while validating, so the readers are left out.
    let telemetry = match Telemetry::new(&blameio_config::Telemetry::default()) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in errors {
                complain(error.to_string());
            }
            ExitCode::FAILURE
        }
    }
}
