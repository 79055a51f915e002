//! The path of keys that leads to a value, as the Collector writes it: `service::pipelines::traces`.
//!
//! It is for messages only; nothing is looked up by it.

use std::fmt;

/// A path of keys from the top of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    segments: Vec<String>,
}

impl Path {
    /// The top of the configuration.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of `key` below this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut segments = self.segments.clone();
        segments.push(key.to_owned());
        Self { segments }
    }

    /// The path of an element of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }

    /// The last key, empty at the root.
    pub fn last(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }

    /// The path joined by dots, as the Collector's decoder prints it.
    pub fn dotted(&self) -> String {
        self.segments.join(".")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("::"))
    }
}
