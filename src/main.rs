//! `blameio`: tells which table, which index and which cause a replica's lag is owed to, in seconds.

use std::process::ExitCode;

use blameio::cli::Cli;
use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// The agent makes and drops batches of some hundred KiB on several threads, and must not keep what the largest took, for
/// each thread once. The settings are in .cargo/config.toml: one arena and no caches of threads, which takes a fifth of what
/// others keep.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    blameio::cli::dispatch(Cli::parse())
}
