//! The command line: what can be asked for, and who answers.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::command::{self, demo::DemoOptions};

/// Tells which table, which index and which cause a replica's lag is owed to, in seconds.
#[derive(Debug, Parser)]
#[command(name = "blameio", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent. Without --config: watch the servers found on this host and print the blame table
    Run(ConfigArgs),
    /// Check a configuration without starting anything
    Validate(ConfigArgs),
    /// List the components of this binary, as YAML
    Components,
    /// Tell what this kernel, these privileges and these grants allow, and how to mend what is missing
    Doctor(ConfigArgs),
    /// Make a primary and a lagging replica on this machine, and find the culprit
    Demo(DemoOptions),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// File or `scheme:value` (file, env, yaml). May be repeated: later ones win, maps merge, lists replace
    #[arg(long = "config", value_name = "URI")]
    pub configs: Vec<String>,
    /// Set one value after all --config, as in `--set=receivers.file_io.collection_interval=5s`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Runs what was asked for.
pub fn dispatch(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(args) => command::run::run(&args),
        Command::Validate(args) => command::validate::run(&args),
        Command::Components => command::components::run(),
        Command::Doctor(args) => command::doctor::run(&args),
        Command::Demo(options) => command::demo::run(&options),
    }
}
