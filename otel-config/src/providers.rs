//! Where text comes from: files, environment variables, and the command line itself.
//!
//! `http` and `https` are refused: an agent on a database server fetches no configuration.

use std::fs::File;
use std::io::Read;

use crate::yaml::MAX_DOCUMENT;

/// What the schemes of `--config` and `${..}` read from.
pub(crate) const SCHEMES: &str = "valid: file, env, yaml";

/// Reads an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Splits `scheme:rest`; a scheme has at least two characters, as `C:\x` is a path.
pub(crate) fn scheme(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    let valid = scheme.len() >= 2
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    valid.then_some((scheme, rest))
}

/// Whether the name matches `^[a-zA-Z_][a-zA-Z0-9_]*$`.
pub(crate) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Splits `NAME:-default`.
pub(crate) fn variable(opaque: &str) -> (&str, Option<&str>) {
    match opaque.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (opaque, None),
    }
}

/// The text of a file of bounded size; the error names no path.
pub(crate) fn read_file(path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let limit = MAX_DOCUMENT as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() > MAX_DOCUMENT {
        return Err(format!("it is larger than {MAX_DOCUMENT} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}
