//! A throw-away MariaDB or MySQL server: unprivileged, in a directory of its own, on a socket only, gone when dropped.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use blameio_databases::mysql::innodb::{Dialect, Root};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, chown, geteuid},
};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_mins(2);
/// Where Debian's mariadb-server puts what mariadb-server-core lacks. The variable is for those who unpacked it elsewhere.
const PLUGINS: &str = "/usr/lib/mysql/plugin";
const PLUGINS_AT: &str = "BLAMEIO_TEST_MARIADB_PLUGINS";

pub(crate) struct Program {
    daemon: PathBuf,
    dialect: Dialect,
}

pub(crate) struct Server {
    root: TempDir,
    process: Child,
    dialect: Dialect,
    pub(crate) encrypts: bool,
}

/// A session that is fed statements and does not wait for them.
pub(crate) struct Load(Child);

impl Program {
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// `None`, and says so, where there is none.
    pub(crate) fn mariadb(test: &str) -> Option<Self> {
        Self::find(test, "mariadbd", Dialect::MariaDb)
    }

    /// MySQL's own: MariaDB's goes by that name too.
    pub(crate) fn mysql(test: &str) -> Option<Self> {
        Self::find(test, "mysqld", Dialect::MySql)
    }

    fn find(test: &str, name: &str, dialect: Dialect) -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let right = |daemon: &PathBuf| {
            let version = Command::new(daemon).arg("--version").output().ok()?.stdout;
            let mariadb = String::from_utf8_lossy(&version).contains("MariaDB");
            (mariadb == (dialect == Dialect::MariaDb)).then_some(())
        };
        let found =
            path.split(':').map(|directory| Path::new(directory).join(name)).find(|d| right(d).is_some());
        if found.is_none() {
            let product = if dialect == Dialect::MySql { "MySQL" } else { "MariaDB" };
            eprintln!("SKIPPED {test}: no {name} of {product}");
        }
        Some(Self { daemon: found?, dialect })
    }
}

impl Server {
    pub(crate) fn start(program: &Program, settings: &[&str]) -> Self {
        let root = tempfile::Builder::new().prefix("blameio-innodb-").tempdir().unwrap();
        if geteuid().is_root() {
            let nobody = User::from_name("nobody").unwrap().unwrap();
            chown(root.path(), Some(nobody.uid), Some(nobody.gid)).unwrap();
        }
        let path = |name: &str| root.path().join(name).display().to_string();
        let mut common = vec![format!("--datadir={}", path("data")), "--innodb-doublewrite=0".to_owned()];
        common.extend(settings.iter().map(|&setting| setting.to_owned()));
        let install = match program.dialect {
            Dialect::MariaDb => as_nobody(Path::new("mariadb-install-db"), &root)
                .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                .args(&common)
                .output(),
            Dialect::MySql => as_nobody(&program.daemon, &root)
                .args(["--no-defaults", "--initialize-insecure"])
                .args(&common)
                .output(),
        }
        .unwrap();
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        let mut command = as_nobody(&program.daemon, &root);
        command.args(["--no-defaults", "--skip-networking", "--skip-log-bin"]).args(&common);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--max-allowed-packet=64M"]);
        command.arg(format!("--socket={}", path("socket"))).arg(format!("--pid-file={}", path("pid")));
        let plugins = std::env::var(PLUGINS_AT).unwrap_or_else(|_| PLUGINS.to_owned());
        let encrypts = program.dialect == Dialect::MariaDb
            && Path::new(&plugins).join("file_key_management.so").exists();
        if encrypts {
            std::fs::write(path("keys"), "1;770A8A65DA156D24EE2A093277530142\n").unwrap();
            command.arg(format!("--plugin-dir={plugins}")).arg("--plugin-load-add=file_key_management");
            command.arg(format!("--file-key-management-filename={}", path("keys")));
        }
        if program.dialect == Dialect::MySql {
            command.args(["--mysqlx=OFF", "--secure-file-priv=NULL"]);
        }
        let log = File::create(path("log")).unwrap();
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut server = Self { root, process, dialect: program.dialect, encrypts };
        let begun = Instant::now();
        while !server.client(&["-e", "SELECT 1"]).succeeds() {
            let log = || std::fs::read_to_string(server.root.path().join("log")).unwrap_or_default();
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < DEADLINE, "no server: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server.sql("CREATE DATABASE test");
        server
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Load {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-u", "root", "-N", "-B", "-S"]).arg(self.root.path().join("socket"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Load(command.spawn().unwrap())
    }

    /// Runs statements and returns what they print.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let mut client = self.client(&["--default-character-set=utf8mb4"]);
        assert!(client.feed(statements));
        drop(client.0.stdin.take());
        let Load(child) = client;
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// The root pages of all indexes, by tablespace.
    pub(crate) fn roots(&self) -> BTreeMap<u32, Vec<Root>> {
        let table = if self.dialect == Dialect::MariaDb { "innodb_sys_indexes" } else { "innodb_indexes" };
        let query =
            format!("SELECT SPACE, PAGE_NO, INDEX_ID FROM information_schema.{table} WHERE PAGE_NO > 0");
        let mut roots: BTreeMap<u32, Vec<Root>> = BTreeMap::new();
        for line in self.sql(&query).lines() {
            let fields: Vec<u64> = line.split('\t').map(|field| field.parse().unwrap()).collect();
            let [space, page, index] = fields[..] else { panic!("{line}") };
            let Ok(page) = u32::try_from(page) else { continue };
            roots.entry(space.try_into().unwrap()).or_default().push(Root { page, index });
        }
        roots
    }

    /// All tablespace files below the data directory.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (mut found, mut directories) = (Vec::new(), vec![self.root.path().join("data")]);
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.extension() {
                    _ if entry.is_dir() => directories.push(entry),
                    Some(extension) if extension == "ibd" => found.push(entry),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("data").join(name)
    }

    pub(crate) fn name(&self, file: &Path) -> String {
        let name = file.strip_prefix(self.root.path().join("data")).unwrap();
        name.with_extension("").display().to_string()
    }

    /// An orderly end: everything is flushed.
    pub(crate) fn stop(&mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < DEADLINE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().try_into().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away: no need for an orderly end.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Load {
    pub(crate) fn feed(&mut self, statements: &str) -> bool {
        self.0.stdin.as_mut().is_some_and(|input| input.write_all(statements.as_bytes()).is_ok())
    }

    pub(crate) fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn succeeds(self) -> bool {
        self.0.wait_with_output().is_ok_and(|done| done.status.success())
    }
}

pub(crate) fn space_of(file: &Path) -> u32 {
    let mut bytes = [0; 4];
    File::open(file).unwrap().read_exact_at(&mut bytes, 38).unwrap();
    u32::from_be_bytes(bytes)
}

/// Servers refuse to be root's; and this one ends with the thread that started it, however that ends.
fn as_nobody(program: &Path, root: &TempDir) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if geteuid().is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.arg(program).stdin(Stdio::null()).current_dir(root.path()).env("TMPDIR", root.path());
    command
}
