//! `blameio`: tells which table, which index and which cause a replica's lag is owed to, in seconds.

use std::process::ExitCode;

use blameio::cli::Cli;
use clap::Parser;
use mimalloc::MiMalloc;

/// The agent makes and drops batches of some hundred KiB on several threads, and must not keep what the largest took.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    blameio::cli::dispatch(Cli::parse())
}
