//! `blameio`: tells which table, which index and which cause a replica's lag is owed to, in seconds.

use std::process::ExitCode;

use blameio::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    blameio::cli::dispatch(Cli::parse())
}
