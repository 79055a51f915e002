//! `make soak`: hours of mixed work with faults, and whether the agent came through.
#![forbid(unsafe_code)]

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use blameio::{command::agent::end_signal, lab::Binaries};
use blameio_integration_tests::{
    bench::{Outcome, record::Circumstances},
    soak::{Options, report, run},
};
use clap::Parser;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    // Whatever was made is taken down when the future is dropped.
    let end = end_signal();
    tokio::select! {
        biased;
        () = end => {
            eprintln!("soak: interrupted; everything that was made is removed");
            ExitCode::from(130)
        }
        passed = soak(&options) => match passed {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("soak: broken off: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

async fn soak(options: &Options) -> Outcome<bool> {
    let binaries = Binaries::find(options.postgresql_bin.as_deref())?;
    let circumstances = Circumstances::now(&binaries.dir().join("postgres"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = options.seed.unwrap_or(now);
    let csv = std::env::temp_dir().join(format!("blameio-soak-{seed}.csv"));
    println!("seed {seed}, samples in {}", csv.display());
    let findings = run(options, seed, &csv).await?;
    let section = report::section(&findings, options, seed, &circumstances);
    println!("\n{section}");
    if options.record {
        report::record(&section, &csv, &circumstances)?;
    }
    Ok(findings.iter().all(|finding| finding.kept != Some(false)))
}
