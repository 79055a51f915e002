//! The agent's log: what it complained of, and whether that was to be expected.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines kept of what was not to be expected.
const KEPT: usize = 50;

/// Reads a log as it grows.
#[derive(Debug)]
pub struct Log {
    file: PathBuf,
    read: usize,
    /// Errors while nothing was wrong.
    pub unexpected: Vec<String>,
    /// Errors and warnings during faults, and warnings at any time: how many of each kind.
    pub expected: BTreeMap<String, usize>,
    /// Panics, at any time.
    pub panics: Vec<String>,
}

impl Log {
    /// Of a file that may not be there yet.
    pub fn of(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            read: 0,
            unexpected: Vec::new(),
            expected: BTreeMap::new(),
            panics: Vec::new(),
        }
    }

    /// Reads what was written since the last call, in the course of `fault` or in peace.
    pub fn take(&mut self, fault: Option<&str>) {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let new = text.get(self.read..).unwrap_or_default();
        // A line that is being written is read when it is whole.
        let Some(end) = new.rfind('\n') else { return };
        self.read += end + 1;
        for line in new[..end].lines() {
            self.sort(line, fault);
        }
    }

    fn sort(&mut self, line: &str, fault: Option<&str>) {
        if line.contains("panicked at") {
            self.panics.push(line.to_owned());
            return;
        }
        let mut words = line.split_whitespace().skip(1);
        let level = words.next().unwrap_or_default();
        match (level, fault) {
            ("ERROR", None) if self.unexpected.len() < KEPT => self.unexpected.push(line.to_owned()),
            ("ERROR" | "WARN", _) => {
                // Up to the first field: what follows differs from time to time.
                let text: Vec<&str> = words.take_while(|word| !word.contains('=')).take(8).collect();
                let kind = format!("{}: {level} {}", fault.unwrap_or("work"), text.join(" "));
                *self.expected.entry(kind).or_default() += 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn an_error_in_peace_is_unexpected_and_one_of_a_fault_is_not() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut log = Log::of(file.path());
        writeln!(file, "2026-01-01T00:00:00Z ERROR replica cannot be measured error=\"gone\"")
            .expect("written");
        log.take(Some("replica restarted"));
        assert!(log.unexpected.is_empty());
        assert_eq!(log.expected["replica restarted: ERROR replica cannot be measured"], 1);
        writeln!(file, "2026-01-01T00:00:01Z ERROR a worker is late\n2026-01-01T00:00:01Z  INFO all is well")
            .expect("written");
        write!(file, "2026-01-01T00:00:02Z ERROR half a li").expect("written");
        log.take(None);
        assert_eq!(log.unexpected, ["2026-01-01T00:00:01Z ERROR a worker is late"]);
        writeln!(file, "ne\nthread 'main' panicked at src/x.rs:1:1:").expect("written");
        log.take(Some("disk slow"));
        assert_eq!((log.unexpected.len(), log.panics.len()), (1, 1));
    }
}
