//! `blameio doctor`: what this kernel, these privileges and these grants allow, and for each thing that is missing the
//! exact command or SQL.

use std::{fs, process::ExitCode};

use blameio_databases::{Database, DatabaseExtension, database, discover};
use blameio_pipeline::{graph::Graph, telemetry::Telemetry};
use blameio_receiver_ebpf::probe_support;
use nix::sys::utsname::uname;

use super::{block_on, complain, config, logging, run::NOT_SEEN, say};
use crate::{cli::ConfigArgs, components::COMPONENTS};

/// What came of all checks.
#[derive(Default)]
struct Report {
    missing: usize,
}

impl Report {
    fn section(name: &str) {
        say(format!("\n{name}"));
    }

    fn line(&mut self, ok: bool, what: &str, remedy: Option<&str>) {
        say(format!("  {} {what}", if ok { "ok     " } else { "MISSING" }));
        if !ok {
            self.missing += 1;
        }
        if let Some(remedy) = remedy.filter(|_| !ok) {
            for line in remedy.lines() {
                say(format!("          -> {line}"));
            }
        }
    }
}

/// Looks at everything; exit code 1 when something is missing.
pub fn run(args: &ConfigArgs) -> ExitCode {
    logging::start(blameio_config::LogLevel::Error);
    let mut report = Report::default();
    kernel(&mut report);
    let Some(databases) = databases(args) else { return ExitCode::FAILURE };
    block_on(async move {
        if databases.is_empty() {
            Report::section("databases");
            report.line(
                false,
                "no database server is seen on this host",
                Some(&format!(
                    "{NOT_SEEN}\nor declare a database/NAME extension and pass its file with --config"
                )),
            );
        }
        for database in databases {
            Report::section(&database.id().to_string());
            for finding in database.check().await {
                report.line(finding.ok, &finding.what, finding.remedy.as_deref());
            }
        }
        if report.missing == 0 {
            say("\nall is well");
            ExitCode::SUCCESS
        } else {
            say(format!("\n{} missing", report.missing));
            ExitCode::FAILURE
        }
    })
}

fn kernel(report: &mut Report) {
    Report::section("kernel");
    match uname() {
        Ok(name) => report.line(
            true,
            &format!("Linux {} on {}", name.release().to_string_lossy(), name.machine().to_string_lossy()),
            None,
        ),
        Err(error) => report.line(false, &format!("kernel does not tell its version: {error}"), None),
    }
    if let Ok(lockdown) = fs::read_to_string("/sys/kernel/security/lockdown") {
        let confidential = lockdown.contains("[confidentiality]");
        report.line(
            !confidential,
            &format!("lockdown: {}", lockdown.trim()),
            Some("confidentiality forbids reading the kernel: boot with lockdown=integrity"),
        );
    }
    for support in probe_support() {
        report.line(
            support.ok || support.optional,
            &format!("{}: {}", support.name, support.detail),
            remedy(&support.name),
        );
    }
}

fn remedy(name: &str) -> Option<&'static str> {
    match name {
        "capabilities" => Some(
            "run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep /path/to/blameio\n\
             under systemd: AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_SYS_PTRACE CAP_DAC_READ_SEARCH",
        ),
        "kernel type information" => Some(
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian 11, Ubuntu 20.10, RHEL 8.2 and later have it)",
        ),
        _ => None,
    }
}

/// The declared databases, or those found on this host; `None` after a bad configuration was told.
fn databases(args: &ConfigArgs) -> Option<Vec<Database>> {
    if args.configs.is_empty() {
        return Some(discovered());
    }
    let loaded = config::loaded(args)?;
    let telemetry = Telemetry::new(&blameio_config::Telemetry::default())
        .map_err(|error| complain(error.to_string()))
        .ok()?;
    match Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics()) {
        Ok(graph) => Some(
            graph
                .host()
                .extensions()
                .filter_map(|(_, extension)| database(extension.as_ref()).cloned())
                .collect(),
        ),
        Err(errors) => {
            for error in errors {
                complain(error.to_string());
            }
            None
        }
    }
}

fn discovered() -> Vec<Database> {
    discover()
        .into_iter()
        .filter_map(|server| {
            let id = format!("database/{}", server.suggested_name).parse().ok()?;
            let extension = DatabaseExtension::discovered(id, &server)
                .map_err(|error| complain(error.to_string()))
                .ok()?;
            database(&extension).cloned()
        })
        .collect()
}
