//! Whether attaching has cost the host before. A mark is on disk from shortly before the probes are attached until a
//! while after; a mark that is found at a start means that the host or the agent did not survive it. Each receiver has
//! its own, so that it neither counts the attempts of the others nor takes their marks away.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use blameio_config::ComponentId;

use crate::error::ProbeError;

/// So many attempts that were not survived are enough.
const ENOUGH: u32 = 2;

const NAME: &str = "probes-attaching";

/// The mark on disk.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    file: PathBuf,
}

impl Attempts {
    /// The mark of a receiver in this directory, which is made if need be.
    pub(crate) fn of(receiver: &ComponentId, directory: &Path) -> Self {
        // A name may have a slash, and two names must not become one.
        let receiver = receiver.to_string().replace('%', "%25").replace('/', "%2F");
        Self { file: directory.join(format!("{NAME}-{receiver}")) }
    }

    /// Leaves the mark, or refuses: two attempts have not been survived.
    pub(crate) fn begin(&self) -> Result<(), ProbeError> {
        let failed = self.failed();
        if failed >= ENOUGH {
            return Err(ProbeError::NotSurvived { attempts: failed, file: self.file.display().to_string() });
        }
        if let Err(error) = self.leave(failed + 1) {
            // A host without a writable disk must not be a host without probes.
            tracing::warn!(
                file = %self.file.display(), %error,
                "attaching the probes cannot be marked: should they crash the host, the next start would try again; \
                 make the directory writable, or set state_directory"
            );
        }
        Ok(())
    }

    /// Takes the mark away: all is well.
    pub(crate) fn survived(&self) {
        if let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.file.display(), %error, "cannot be removed; remove it by hand");
        }
    }

    fn failed(&self) -> u32 {
        fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// On the disk, not in the page cache: the crash may be the kernel's.
    fn leave(&self, attempts: u32) -> io::Result<()> {
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = File::create(&self.file)?;
        writeln!(file, "{attempts}")?;
        file.sync_all()?;
        self.file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(receiver: &str, directory: &Path) -> Attempts {
        Attempts::of(&receiver.parse().unwrap(), directory)
    }

    #[test]
    fn receivers_that_attach_together_count_their_own_attempts_only() {
        let directory = tempfile::tempdir().unwrap();
        let receivers = ["file_io", "file_io/b", "file_io/b/c", "file_io/b%2Fc"];
        let marks = receivers.map(|receiver| attempts(receiver, directory.path()));
        assert!(marks.iter().all(|mark| mark.begin().is_ok()));
        // The power fails, and all come back.
        assert!(marks.iter().all(|mark| mark.begin().is_ok()));
        marks[0].survived();
        assert!(marks[0].begin().is_ok());
        assert!(marks[1..].iter().all(|mark| mark.begin().is_err()), "their marks are still there");
    }

    #[test]
    fn after_two_attempts_that_were_not_survived_there_is_no_third() {
        let directory = tempfile::tempdir().unwrap();
        let attempts = attempts("file_io", &directory.path().join("state"));
        assert!(attempts.begin().is_ok());
        assert!(attempts.begin().is_ok());
        let error = attempts.begin().unwrap_err().to_string();
        assert!(error.contains("probes-attaching") && error.contains("remove"), "{error}");
        attempts.survived();
        assert!(attempts.begin().is_ok());
    }

    #[test]
    fn one_that_was_survived_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let attempts = attempts("file_io", directory.path());
        for _ in 0..5 {
            assert!(attempts.begin().is_ok());
            attempts.survived();
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_does_not_forbid_the_probes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(attempts("file_io", &file.path().join("below")).begin().is_ok());
    }
}
