//! The program as an operator meets it: exit codes and messages.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Read,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

fn blameio(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blameio"))
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const GOOD: &str = "\
extensions:
  database/orders:
    dsn: postgresql://blameio:hunter2@127.0.0.1:1/postgres
receivers:
  replication:
  file_io:
processors:
  db_resolver:
  lag_attribution:
    window: 1s
exporters:
  debug:
service:
  extensions: [database/orders]
  telemetry: {metrics: {level: none}}
  pipelines:
    metrics:
      receivers: [replication]
      processors: [db_resolver, lag_attribution]
      exporters: [debug]
";

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    fs::write(file.path(), text).expect("written");
    file
}

fn validate(text: &str) -> Output {
    let file = file(text);
    blameio(&["validate", "--config", file.path().to_str().expect("a path")])
}

#[test]
fn a_good_configuration_validates_in_silence() {
    let output = validate(GOOD);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    assert_eq!(stderr(&output), "");
}

#[test]
fn all_errors_are_told_at_once_each_with_its_place_and_the_nearest_key() {
    let bad = GOOD
        .replace("    window: 1s", "    windw: 1s\n    top_k: many")
        .replace("  debug:\n", "  debug:\n  prometeus:\n")
        .replace("receivers: [replication]", "receivers: [replication, nosuch]");
    let output = validate(&bad);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    let first = told.contains("references receiver \"nosuch\" which is not configured");
    assert!(first && told.contains(".yaml:20:"), "{told}");
    let output = validate(&bad.replace(", nosuch", ""));
    let told = stderr(&output);
    assert!(told.contains(".yaml:10:5") && told.contains("has invalid keys: windw"), "{told}");
    assert!(told.contains("\"window\""), "the nearest key: {told}");
    assert!(told.contains(".yaml:11:") && told.contains("expected type"), "{told}");
    assert!(told.contains("unknown type: \"prometeus\" for id: \"prometeus\""), "{told}");
}

#[test]
fn an_order_of_processors_that_cannot_work_is_warned_of() {
    let output = validate(&GOOD.replace("[db_resolver, lag_attribution]", "[lag_attribution, db_resolver]"));
    assert!(output.status.success());
    let told = stderr(&output);
    assert!(told.contains("list db_resolver first") && told.contains(".yaml:19:"), "{told}");
}

#[test]
fn a_reference_to_a_database_that_is_not_declared_names_those_that_are() {
    let output =
        validate(&GOOD.replace("  replication:\n", "  replication: {databases: [database/other]}\n"));
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.contains("database/other") && told.contains("database/orders"), "{told}");
}

#[test]
fn a_secret_is_never_told() {
    let output = validate(&GOOD.replace("postgresql://", "oracle://"));
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
}

#[test]
fn no_configuration_is_an_error_of_the_command_line() {
    let output = blameio(&["validate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("at least one config flag must be provided"));
}

#[test]
fn components_are_listed_as_the_collector_does() {
    let output = blameio(&["components"]);
    assert!(output.status.success());
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    for section in ["buildinfo:", "receivers:", "processors:", "exporters:", "extensions:", "providers:"] {
        assert!(listing.lines().any(|line| line == section), "{section} in\n{listing}");
    }
}

/// A server that nobody can reach is said once, with what to do, and without the password; the agent lives on and ends
/// in order when told to.
#[test]
fn a_server_that_is_down_is_told_and_the_agent_goes_on_until_it_is_told_to_end() {
    let file = file(GOOD);
    let state = tempfile::tempdir().expect("a directory");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_blameio"))
        .args(["run", "--config"])
        .arg(file.path())
        // What it learns here is nobody's.
        .env("STATE_DIRECTORY", state.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the agent runs");
    let mut told = String::new();
    let mut stream = agent.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        let until = Instant::now() + Duration::from_secs(20);
        while !told.contains("127.0.0.1:1") && Instant::now() < until {
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(read) => told.push_str(&String::from_utf8_lossy(&bytes[..read])),
            }
        }
        (told, stream)
    });
    let (told, mut stream) = reader.join().expect("the reader ends");
    let alive = agent.try_wait().expect("asked").is_none();
    let killed = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(agent.id()).expect("a pid")),
        nix::sys::signal::Signal::SIGTERM,
    );
    let status = agent.wait().expect("ended");
    let mut rest = String::new();
    drop(stream.read_to_string(&mut rest));
    assert!(told.contains("127.0.0.1:1"), "the server is named: {told}");
    assert!(!told.contains("hunter2") && !rest.contains("hunter2"), "{told}{rest}");
    assert!(alive && killed.is_ok() && status.success(), "{status:?}: {told}{rest}");
    assert!(rest.contains("Shutdown complete."), "{rest}");
}

/// Without privileges, doctor says what is missing and the exact command that gives it.
#[test]
fn doctor_tells_a_user_without_privileges_what_to_do() {
    let binary = env!("CARGO_BIN_EXE_blameio");
    let mut command = if nix::unistd::geteuid().is_root() {
        // The build directory may be out of reach for nobody, so the program is handed over in a place that is not.
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        command
    } else {
        Command::new("env")
    };
    let dir = tempfile::Builder::new().prefix("blameio-doctor-").tempdir().expect("a directory");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("permissions");
    let copy = dir.path().join("blameio");
    fs::copy(binary, &copy).expect("copied");
    let output = command.arg(&copy).arg("doctor").output().expect("doctor runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}{}", stderr(&output));
    assert!(told.contains("MISSING") && told.contains("setcap cap_bpf,cap_perfmon"), "{told}");
}

#[test]
fn a_scenario_that_is_not_there_is_refused_with_those_that_are() {
    for (args, code, told) in [
        (["--scenario", "nosuch"].as_slice(), 2, "[possible values: cold-index, lock, rival]"),
        (
            &["--engine", "mariadb", "--scenario", "rival"],
            2,
            "no scenario rival with MariaDB; there are cold-index, lock",
        ),
        (&["--control", "--scenario", "lock"], 2, "cannot be used with"),
    ] {
        let output = blameio(&[&["demo"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(stderr(&output).contains(told), "{args:?}: {}", stderr(&output));
    }
    let help = blameio(&["demo", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for name in ["cold-index: ", "lock: ", "rival: "] {
        assert_eq!(help.matches(&format!("- {name}")).count(), 1, "{help}");
    }
}
