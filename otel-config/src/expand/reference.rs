//! One `${..}`: finding it in a text and fetching what it refers to.

use std::ops::Range;

use crate::diagnostics::Diagnostics;
use crate::path::Path;
use crate::position::Position;
use crate::providers::{Environment, SCHEMES, is_variable_name, read_file, scheme, variable};

/// What a reference led to.
pub(super) enum Retrieved {
    Text(String),
    /// An environment variable that is not set and has no default.
    Unset,
}

impl Retrieved {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Unset => None,
        }
    }
}

/// The first `${..}` that holds no other one; `$${` is not one.
pub(super) fn innermost(text: &str) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(close) = text[from..].find('}') {
        let end = from + close + 1;
        if let Some(open) = text[from..end].rfind("${") {
            let start = from + open;
            let dollars = text[..start].bytes().rev().take_while(|byte| *byte == b'$').count();
            if dollars % 2 == 0 {
                return Some(start..end);
            }
        }
        from = end;
    }
    None
}

/// The inside of a `${..}` and where it stands.
pub(super) struct Reference<'a> {
    pub(super) inner: &'a str,
    /// It was written in the configuration and not in a value that was expanded.
    pub(super) written: bool,
    pub(super) at: &'a Position,
    pub(super) path: &'a Path,
}

impl Reference<'_> {
    /// Fetches the text; `None` after an error.
    pub(super) fn retrieve(&self, env: Environment<'_>, out: &mut Diagnostics) -> Option<Retrieved> {
        match scheme(self.inner) {
            Some(("env", opaque)) => self.variable(opaque, env, out),
            Some(("yaml", opaque)) => Some(Retrieved::Text(opaque.to_owned())),
            Some(("file", path)) => match read_file(path) {
                // The line end that editors add is no part of a password.
                Ok(text) => Some(Retrieved::Text(text.strip_suffix('\n').unwrap_or(&text).to_owned())),
                Err(error) => {
                    let message = format!("unable to read the file \"{}\": {error}", self.shown(path));
                    out.error(self.at, self.path, message);
                    None
                }
            },
            Some((name, rest)) => self.unsupported(name, rest, out),
            None => match self.inner.split_once(':') {
                Some((name, rest)) => self.unsupported(name, rest, out),
                None => self.variable(self.inner, env, out),
            },
        }
    }

    fn unsupported(&self, name: &str, rest: &str, out: &mut Diagnostics) -> Option<Retrieved> {
        let help = if rest.starts_with('-') {
            "a default needs env: in front: ${env:NAME:-default}"
        } else {
            SCHEMES
        };
        let message = format!("scheme \"{}\" is not supported", self.shown(name));
        out.error_with_help(self.at, self.path, message, help);
        None
    }

    fn variable(&self, opaque: &str, env: Environment<'_>, out: &mut Diagnostics) -> Option<Retrieved> {
        let (name, default) = variable(opaque);
        if !is_variable_name(name) {
            let message = format!(
                "environment variable \"{}\" has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$",
                self.shown(name)
            );
            out.error(self.at, self.path, message);
            return None;
        }
        match (env(name), default) {
            (Some(value), _) => {
                if value.is_empty() {
                    tracing::info!(
                        name = self.shown(name),
                        "Configuration references empty environment variable"
                    );
                }
                Some(Retrieved::Text(value))
            }
            (None, Some(default)) => Some(Retrieved::Text(default.to_owned())),
            (None, None) => {
                let message =
                    format!("Configuration references unset environment variable \"{}\"", self.shown(name));
                out.warn(self.at, self.path, message);
                Some(Retrieved::Unset)
            }
        }
    }

    fn shown<'t>(&self, text: &'t str) -> &'t str {
        if self.written { text } else { "[REDACTED]" }
    }
}
