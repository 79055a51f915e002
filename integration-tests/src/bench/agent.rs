//! The agent as a process of its own: the binary that users run, with its log and its scrape page.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    Outcome,
    scrape::{Page, scrape},
};

/// From the start until it serves what it measures.
const START: Duration = Duration::from_mins(1);

/// It drains for 10 s at most.
const STOP: Duration = Duration::from_secs(20);

/// Which servers to watch and how.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Name, connection string, and that of its primary.
    pub servers: Vec<(&'static str, String, Option<String>)>,
    /// What has to be on the page before the agent counts as ready.
    pub ready_when: &'static str,
}

impl Watched {
    /// A replica that is measured against its primary.
    pub fn replica(replica: String, primary: String) -> Self {
        Self {
            servers: vec![("replica", replica, Some(primary))],
            ready_when: "blameio_replication_lag_seconds",
        }
    }

    fn configuration(&self, page: u16, own: u16, level: &str) -> String {
        let ids: Vec<String> = self.servers.iter().map(|(name, ..)| format!("database/{name}")).collect();
        let extensions: Vec<String> = self
            .servers
            .iter()
            .map(|(name, dsn, primary)| {
                let primary =
                    primary.as_ref().map(|dsn| format!(", primary_dsn: '{dsn}'")).unwrap_or_default();
                format!("database/{name}: {{dsn: '{dsn}'{primary}}}")
            })
            .collect();
        format!(
            "extensions: {{{}}}\n\
             receivers: {{file_io: , replication: }}\n\
             processors: {{db_resolver: , lag_attribution: }}\n\
             exporters: {{prometheus: {{endpoint: '127.0.0.1:{page}', send_timestamps: true}}}}\n\
             service:\n\
             \x20 extensions: [{}]\n\
             \x20 telemetry:\n\
             \x20   logs: {{level: {level}}}\n\
             \x20   metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}\n\
             \x20 pipelines: {{metrics: {{receivers: [file_io, replication],\n\
             \x20   processors: [db_resolver, lag_attribution], exporters: [prometheus]}}}}\n",
            extensions.join(", "),
            ids.join(", ")
        )
    }
}

/// A running agent. Dropping it kills it; so does our own end, however it comes.
#[derive(Debug)]
pub struct AgentProcess {
    child: Child,
    pid: u32,
    page: u16,
    log: PathBuf,
    /// Where in the log this agent's lines begin.
    begins: usize,
}

impl AgentProcess {
    /// Starts `binary` and waits until it measures. Its log is appended to `directory/agent.log`, its state kept there.
    pub async fn start(binary: &Path, directory: &Path, watched: &Watched, level: &str) -> Outcome<Self> {
        if !binary.is_file() {
            return Err(format!("{} is not there: build it first (make build)", binary.display()).into());
        }
        let (page, own) = free_ports()?;
        let file = directory.join("agent.yaml");
        fs::write(&file, watched.configuration(page, own, level))?;
        let log = directory.join("agent.log");
        let begins = fs::read_to_string(&log).unwrap_or_default().len();
        let output = File::options().create(true).append(true).open(&log)?;
        // It ends with us even when we are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary).arg("run").arg("--config").arg(&file);
        command
            .env("STATE_DIRECTORY", directory)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("cannot run setpriv (util-linux): {error}"))?;
        let pid = child.id().ok_or("the agent has no process id")?;
        let mut agent = Self { child, pid, page, log, begins };
        agent.wait_ready(watched.ready_when).await?;
        Ok(agent)
    }

    async fn wait_ready(&mut self, metric: &str) -> Outcome<()> {
        let end = Instant::now() + START;
        loop {
            if let Some(status) = self.exited()? {
                return Err(format!("the agent ended with {status}: {}", self.last_lines()).into());
            }
            // Only an agent whose probes are attached is what we measure.
            let attached = self.said().contains("probes are attached");
            if attached && scrape(self.page).await.is_ok_and(|page| page.of(metric).next().is_some()) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the agent shows no {metric} in {START:?}: {}", self.last_lines()).into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_lines(&self) -> String {
        let text = self.said();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The port of its page.
    pub fn port(&self) -> u16 {
        self.page
    }

    /// What this agent has logged.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.get(self.begins..).unwrap_or_default().to_owned()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it serves now.
    pub async fn scrape(&self) -> Outcome<Page> {
        Ok(scrape(self.page).await.map_err(|error| format!("the agent's page: {error}"))?)
    }

    /// Ends it as systemd would. Anything but an orderly end in time is an error.
    pub async fn stop(mut self) -> Outcome<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)?;
        let status = timeout(STOP, self.child.wait())
            .await
            .map_err(|_| format!("the agent did not end within {STOP:?} of SIGTERM"))??;
        if status.success() { Ok(()) } else { Err(format!("the agent ended with {status}").into()) }
    }
}

/// Two ports that are free now.
fn free_ports() -> io::Result<(u16, u16)> {
    let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}
