//! Who else wants the disk: queries that read a table from end to end, and a process that is no database.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{CancelToken, NoTls};

use super::command::{Run, clean_environment};
use super::control_group::{ControlGroup, Hierarchy};
use super::{LabError, Throttle, sql};

/// Sessions that read a table again and again, each a partition of its own: two that read the same would spare each
/// other the disk. Dropping it lets each go on to the end of its table.
pub struct Scan {
    sessions: JoinSet<Result<(), LabError>>,
    begun: watch::Sender<bool>,
    cancel: Vec<CancelToken>,
}

impl Scan {
    /// Connects `sessions` of them, for the first partitions of a table made by [`super::Schema::with_archive`]. They read
    /// once [`Scan::begin`] is called.
    pub async fn connect(dsn: &str, table: &str, sessions: u32) -> Result<Self, LabError> {
        let mut tasks = JoinSet::new();
        let mut cancel = Vec::new();
        let (begun, beginning) = watch::channel(false);
        for session in 0..sessions {
            let client = sql::connect(dsn).await?;
            let read =
                format!("SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM {table}_p{session}");
            cancel.push(client.cancel_token());
            let mut beginning = beginning.clone();
            tasks.spawn(async move {
                if beginning.wait_for(|begun| *begun).await.is_err() {
                    return Ok(());
                }
                loop {
                    sql::execute(&client, &read).await?;
                }
            });
        }
        Ok(Self { sessions: tasks, begun, cancel })
    }

    /// Lets them read.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Connects and begins at once.
    pub async fn start(dsn: &str, table: &str, sessions: u32) -> Result<Self, LabError> {
        let scan = Self::connect(dsn, table, sessions).await?;
        scan.begin();
        Ok(scan)
    }

    /// Breaks them off; an error is what ended one of them by itself.
    pub async fn stop(mut self) -> Result<(), LabError> {
        let ended = self.sessions.try_join_next();
        self.sessions.shutdown().await;
        for token in &self.cancel {
            token.cancel_query(NoTls).await.map_err(LabError::sql("cancel a scan"))?;
        }
        match ended {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(LabError::Workload { reason: error.to_string() }),
            None => Ok(()),
        }
    }
}

/// `dd`, which reads a file past the page cache again and again. Dropping it ends it.
#[derive(Debug)]
pub struct Rival {
    child: Child,
    /// Its own cgroup; none when it is in the root.
    group: Option<ControlGroup>,
}

impl Rival {
    /// Makes the file that is to be read.
    pub fn file(path: &Path, megabytes: u32) -> Result<(), LabError> {
        let written = Run::new("dd")
            .arg("if=/dev/zero")
            .arg(format!("of={}", path.display()))
            .args(["bs=1M", "conv=fsync", "status=none", &format!("count={megabytes}")])
            .output();
        written.map(drop)
    }

    /// Starts reading `file`, under the limit of `throttle`, in a cgroup of version 2 called `name` or in its root.
    /// Not on hosts where the limit itself is a cgroup of version 2: it would not reach one beside it.
    pub fn start(file: &Path, throttle: &Throttle, name: Option<&str>) -> Result<Self, LabError> {
        if !throttle.leaves_unified_alone() {
            return Err(LabError::NoThrottle { reason: "limits here are cgroups of version 2".to_owned() });
        }
        let group = match name {
            None => None,
            Some(name) => {
                let unified = Hierarchy::unified().ok_or("cgroup v2 is not mounted".to_owned());
                let group = unified.and_then(|unified| ControlGroup::create(&unified, name));
                Some(group.map_err(|reason| LabError::NoThrottle { reason })?)
            }
        };
        let mut command = Command::new("/bin/sh");
        clean_environment(&mut command);
        // It reads when it is where it belongs.
        let script = "read -r _; while dd if=\"$0\" of=/dev/null bs=1M iflag=direct status=none; do :; done";
        command.arg("-c").arg(script).arg(file).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let spawned = command.spawn();
        let child = spawned.map_err(|source| LabError::NotRun { program: "/bin/sh".to_owned(), source })?;
        let mut rival = Self { child, group };
        let pid = rival.pid();
        throttle.add(pid)?;
        if let Some(group) = &rival.group {
            group.add(pid)?;
        }
        if let Some(mut stdin) = rival.child.stdin.take() {
            let path = Path::new("/bin/sh");
            std::io::Write::write_all(&mut stdin, b"\n").map_err(LabError::file("write to", path))?;
        }
        Ok(rival)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.pid());
        // Until it is reaped its number, and its group's, belongs to nobody else.
        let _gone = killpg(group, Signal::SIGKILL);
        let _reaped = self.child.wait();
        // The shell's child ends with its last read.
        let end = Instant::now() + Duration::from_secs(10);
        while killpg(group, None::<Signal>).is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
