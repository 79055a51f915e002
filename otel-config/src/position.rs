//! Where a value was written: file, line and column.
//!
//! It holds no text of the file; whoever wants to show the line reads the file again.

use std::fmt;
use std::sync::{Arc, LazyLock};

static NOWHERE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

/// A place in a source. Lines and columns start at 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The source as the operator named it: a path, `env:NAME`, `--set a.b`.
    pub file: Arc<str>,
    /// Line, from 1; 0 where there is none.
    pub line: u32,
    /// Column in characters, from 1; 0 where there is none.
    pub column: u32,
}

impl Position {
    /// A place in `file`.
    pub fn new(file: &Arc<str>, line: u32, column: u32) -> Self {
        Self { file: Arc::clone(file), line, column }
    }

    /// The position of what nobody wrote, such as a default.
    pub fn none() -> Self {
        Self { file: Arc::clone(&NOWHERE), line: 0, column: 0 }
    }

    /// Whether this is [`Position::none`].
    pub fn is_none(&self) -> bool {
        self.line == 0 && self.file.is_empty()
    }
}

impl fmt::Display for Position {
    /// `file:line:col`, or the file alone when the finding is about the whole file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.file)
        } else {
            write!(f, "{}:{}:{}", self.file, self.line, self.column)
        }
    }
}
