//! What was learned, in a small table of text that survives a restart. Written beside and renamed, so that nobody finds
//! half of it; one that is damaged is told of, and what it held is learned anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// First line. A file of another format is not read.
const HEADER: &str = "blameio lag_attribution 1";

/// Written at most so often.
const PERIOD: Duration = Duration::from_mins(1);

/// A file that is larger is not ours.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    written: Instant,
    warned: bool,
}

impl StateFile {
    /// A file of this name in this directory; neither needs to exist.
    pub fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name), written: Instant::now(), warned: false }
    }

    /// Reads all rows, each a table's name and fields. Nothing if there is no file, or it is damaged.
    pub fn read(&self) -> Vec<Vec<String>> {
        match self.try_read() {
            Ok(rows) => rows,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.damaged(&error.to_string());
                Vec::new()
            }
        }
    }

    /// Tells that what was read makes no sense.
    pub fn damaged(&self, what: &str) {
        tracing::warn!(
            path = %self.path.display(),
            what,
            "what was learned before cannot be read; it is learned anew, and the file is written anew"
        );
    }

    fn try_read(&self) -> io::Result<Vec<Vec<String>>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if fs::metadata(&self.path)?.len() > MOST_BYTES {
            return Err(invalid("the file is too large to be one of these"));
        }
        let text = fs::read_to_string(&self.path)?;
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.first() != Some(&HEADER) {
            return Err(invalid("the first line is not that of this format"));
        }
        lines.remove(0);
        if lines.pop() != Some(&*format!("end\t{}", lines.len())) {
            return Err(invalid("the last line is missing"));
        }
        Ok(lines.into_iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// Whether it is time to write.
    pub fn is_due(&self) -> bool {
        self.written.elapsed() >= PERIOD
    }

    /// Writes all rows. Where that does not work, it says so once and goes on without.
    pub fn write(&mut self, rows: impl Iterator<Item = Vec<String>>) {
        self.written = Instant::now();
        match self.try_write(rows) {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(
                    path = %self.path.display(),
                    %error,
                    "what was learned cannot be kept: after a restart it is learned anew; make the directory \
                     writable for the agent, or set state_directory"
                );
            }
            Err(_) => {}
        }
    }

    fn try_write(&self, rows: impl Iterator<Item = Vec<String>>) -> io::Result<()> {
        let mut text = format!("{HEADER}\n");
        let mut count = 0_usize;
        for row in rows.filter(|row| row.iter().all(|field| !field.contains(['\t', '\n', '\r']))) {
            text.push_str(&row.join("\t"));
            text.push('\n');
            count += 1;
        }
        text.push_str(&format!("end\t{count}\n"));
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let beside = self.path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        vec![
            vec!["latency".into(), "h".into(), "1.5".into()],
            vec!["latency".into(), String::new(), "2".into()],
        ]
    }

    #[test]
    fn rows_come_back_and_a_file_that_was_cut_or_is_another_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(&directory.path().join("new"), "a.state");
        assert!(file.read().is_empty());
        file.write(rows().into_iter());
        assert_eq!(file.read(), rows());
        let text = fs::read_to_string(&file.path).unwrap();
        for damage in
            [&text[..text.len() - 8], "", "another format\nend\t0\n", &text.replace("end\t2", "end\t3")]
        {
            fs::write(&file.path, damage).unwrap();
            assert!(file.read().is_empty(), "{damage:?}");
        }
        file.write(rows().into_iter());
        assert_eq!(file.read(), rows());
    }

    #[test]
    fn a_name_with_a_tab_breaks_no_row() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(directory.path(), "a.state");
        file.write(rows().into_iter().chain([vec!["bad\tname".into()]]));
        assert_eq!(file.read(), rows());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let mut file = StateFile::new(&directory.path().join("file"), "a.state");
        file.write(rows().into_iter());
        assert!(file.warned);
        assert!(file.read().is_empty());
    }
}
