//! Findings about a configuration, collected so that all of them are reported at once.
//!
//! A message never holds a value of the configuration, which might be a secret: only keys, ids and types.

use std::borrow::Borrow;
use std::fmt;

use crate::node::Node;
use crate::path::Path;
use crate::position::Position;

/// Whether a finding keeps the configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Where, if somebody wrote it.
    pub position: Option<Position>,
    /// The path of keys, joined by `::`; empty at the root.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A collection of findings, and the error that they make together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    findings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No findings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error.
    pub fn error(&mut self, position: impl Borrow<Position>, path: &Path, message: impl Into<String>) {
        self.push(Severity::Error, position.borrow(), path, message.into(), None);
    }

    /// Adds an error that tells what to do; an empty help is none.
    pub fn error_with_help(
        &mut self,
        position: impl Borrow<Position>,
        path: &Path,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = Some(help.into()).filter(|help| !help.is_empty());
        self.push(Severity::Error, position.borrow(), path, message.into(), help);
    }

    /// Adds a warning.
    pub fn warn(&mut self, position: impl Borrow<Position>, path: &Path, message: impl Into<String>) {
        self.push(Severity::Warning, position.borrow(), path, message.into(), None);
    }

    /// Adds the error of a value whose type the field cannot take.
    pub fn wrong_type(&mut self, node: &Node, path: &Path, expected: &str) {
        let message = format!(
            "'{}' expected type '{expected}', got unconvertible type '{}'",
            path.last(),
            node.type_name()
        );
        let help = match (expected, node.type_name()) {
            ("string", "int" | "float64" | "bool") => "put the value in quotes",
            ("int" | "uint16" | "uint32" | "uint64" | "float64" | "bool", "string") => {
                "write the value without quotes"
            }
            _ => "",
        };
        self.error_with_help(&node.position, path, message, help);
    }

    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// How many findings are errors.
    pub fn error_count(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// Whether there is no finding at all.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The findings in the order in which they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.findings.iter()
    }

    /// Takes over the findings of another collection.
    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
    }

    /// `value`, unless an error was found.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.has_errors() { Err(self) } else { Ok(value) }
    }

    fn push(
        &mut self,
        severity: Severity,
        at: &Position,
        path: &Path,
        message: String,
        help: Option<String>,
    ) {
        let position = Some(at).filter(|at| !at.is_none()).cloned();
        self.findings.push(Diagnostic { severity, position, path: path.to_string(), message, help });
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:col: path: message (help)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = &self.position {
            write!(f, "{position}: ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostics {
    /// One line for each finding, sorted by position, those without one last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Diagnostic> = self.findings.iter().collect();
        sorted.sort_by_key(|finding| (finding.position.is_none(), finding.position.clone()));
        for (index, finding) in sorted.into_iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
