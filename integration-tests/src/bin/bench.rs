//! `make bench`: what the agent costs, as a table and as rows that are kept.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use blameio::{command::agent::end_signal, lab::Binaries};
use blameio_integration_tests::bench::{
    Options, Outcome, measure,
    record::{Circumstances, record, table},
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
            eprintln!("bench: interrupted; everything that was made is removed");
            ExitCode::from(130)
        }
        failed = run(&options) => match failed {
            Ok(0) => ExitCode::SUCCESS,
            Ok(failed) => {
                eprintln!("bench: {failed} cases were not measured");
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// How many cases could not be measured. A target that is missed is a result.
async fn run(options: &Options) -> Outcome<usize> {
    let binaries = Binaries::find(options.postgresql_bin.as_deref())?;
    let circumstances = Circumstances::now(&binaries.dir().join("postgres"))?;
    println!("{}", circumstances.line());
    let mut failed = 0;
    for case in options.chosen() {
        let name = case.name();
        println!("\n== {name}");
        match measure(case, options).await {
            Ok(measured) => {
                print!("{}", table(&measured.rows));
                if !options.quick && !options.no_record {
                    record(&name, &measured, &circumstances)?;
                }
            }
            Err(error) => {
                failed += 1;
                eprintln!("{name}: not measured: {error}");
            }
        }
    }
    Ok(failed)
}
