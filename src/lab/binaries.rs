//! Finds the programs of a `PostgreSQL` server on this host.
//!
//! It does not install anything and does not look at servers that run.

use std::path::{Path, PathBuf};

use super::LabError;
use super::command::Run;

const NEEDED: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// Names the directory to use, instead of a search.
pub const DIRECTORY: &str = "BLAMEIO_POSTGRESQL";

/// A directory that holds `initdb`, `postgres` and `pg_ctl`; `pg_basebackup` is used where it is there.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// Looks into `explicit` alone when it is given, or into the directory that [`DIRECTORY`] names; else asks
    /// `pg_config`, then takes the highest version under the distributions' directories, then each directory of
    /// PATH, then what `scripts/setup` fetched.
    pub fn find(explicit: Option<&Path>) -> Result<Self, LabError> {
        let named = std::env::var_os(DIRECTORY).map(PathBuf::from);
        let explicit = explicit.or(named.as_deref());
        let candidates = match explicit {
            Some(dir) => vec![dir.to_owned()],
            None => candidates(),
        };
        for dir in &candidates {
            if NEEDED.iter().all(|name| dir.join(name).is_file()) {
                return Ok(Self { dir: dir.clone(), major: major(dir)? });
            }
        }
        if let Some(dir) = explicit.filter(|dir| dir.is_dir()) {
            let missing = NEEDED.iter().filter(|name| !dir.join(name).is_file()).copied();
            return Err(LabError::MissingPrograms {
                dir: dir.to_owned(),
                missing: missing.collect::<Vec<_>>().join(", "),
            });
        }
        Err(LabError::NoBinaries { tried: shown(&candidates) })
    }

    /// The programs of one major version, wherever they are.
    pub fn version(major: u32) -> Result<Self, LabError> {
        let all = candidates();
        let complete = all.iter().filter(|dir| NEEDED.iter().all(|name| dir.join(name).is_file()));
        let mut found = complete.filter_map(|dir| Self::find(Some(dir)).ok());
        found
            .find(|binaries| binaries.major == major)
            .ok_or_else(|| LabError::NoBinaries { tried: format!("version {major}; {}", shown(&all)) })
    }

    /// Whether a replica can be made while its primary runs.
    pub fn can_copy_running(&self) -> bool {
        self.dir.join("pg_basebackup").is_file()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The major version, as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn shown(dirs: &[PathBuf]) -> String {
    let tried = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
    if tried.is_empty() { "PATH".to_owned() } else { tried }
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Ok(answer) = Run::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(answer.trim()));
    }
    dirs.extend(versioned("/usr/lib/postgresql", ""));
    dirs.extend(versioned("/usr", "pgsql-"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    dirs.extend(std::env::split_paths(&path));
    dirs.extend(versioned("/var/cache/blameio", "postgresql-"));
    dirs
}

/// `<root>/<prefix><major>/bin`, highest major first.
fn versioned(root: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let major = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn major(dir: &Path) -> Result<u32, LabError> {
    let answer = Run::new(dir.join("postgres")).arg("--version").output()?;
    parse_major(&answer).ok_or_else(|| LabError::Failed {
        program: dir.join("postgres").display().to_string() + " --version",
        status: "unknown answer".to_owned(),
        output: answer,
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian ...)`, `postgres (PostgreSQL) 19devel`.
fn parse_major(answer: &str) -> Option<u32> {
    let version = answer.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_major;

    #[test]
    fn reads_the_major_version_of_releases_and_development_builds() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19devel"), Some(19));
        assert_eq!(parse_major("mysqld 8.0"), None);
    }
}
