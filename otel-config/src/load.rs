//! The whole way from the command line's sources to a checked configuration.
//!
//! It reads files and asks the given environment; it starts nothing and knows no component.

use std::sync::Arc;

use crate::check::check;
use crate::configuration::Configuration;
use crate::diagnostics::Diagnostics;
use crate::expand::expand;
use crate::layers;
use crate::node::Node;
use crate::path::Path;
use crate::position::Position;
use crate::providers::{SCHEMES, is_variable_name, read_file, scheme, variable};
use crate::yaml;

/// As many sources as the Collector takes.
const MAX_SOURCES: usize = 100;

/// Where a configuration comes from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// `path`, `file:path`, `yaml:text` or `env:NAME`; a later one goes over the earlier ones.
    pub configs: &'a [String],
    /// `a.b.c=value`, over all of `configs`.
    pub set: &'a [String],
    /// The environment, given so that nothing reads the real one behind the caller's back.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// A configuration that passed all checks of this crate.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub configuration: Configuration,
    /// What does not keep it from running.
    pub warnings: Diagnostics,
    /// The merged and expanded tree.
    pub root: Node,
}

/// Reads, merges, expands, decodes and checks a configuration. The error holds everything found.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Diagnostics> {
    let mut out = Diagnostics::new();
    let documents = documents(sources, &mut out);
    let merged = layers::merge(&documents, &mut out);
    let Some(mut root) = merged.filter(|_| !out.has_errors()) else { return Err(out) };
    expand(&mut root, sources.env, &mut out);
    if root.position.is_none()
        && let [(name, _), ..] = documents.as_slice()
    {
        root.position = Position::new(&Arc::from(name.as_str()), 1, 1);
    }
    // A value that could not be expanded is null now and would only raise false findings.
    if out.has_errors() {
        return Err(out);
    }
    let configuration = Configuration::decode(&root, &mut out);
    if let Some(configuration) = &configuration {
        check(configuration, &mut out);
    }
    match configuration {
        Some(configuration) if !out.has_errors() => Ok(Loaded { configuration, warnings: out, root }),
        _ => Err(out),
    }
}

/// Parses one YAML text as it stands, without layering or expansion; for tests and tools.
pub fn parse(text: &str) -> Result<Node, Diagnostics> {
    let mut out = Diagnostics::new();
    match yaml::parse(text, &Arc::from("yaml"), &mut out) {
        Some(node) => out.into_result(node),
        None => Err(out),
    }
}

/// The name and text of every source.
fn documents(sources: &Sources<'_>, out: &mut Diagnostics) -> Vec<(String, String)> {
    let root = Path::root();
    if sources.configs.is_empty() {
        out.error(Position::none(), &root, "at least one config flag must be provided");
    }
    if sources.configs.len() > MAX_SOURCES {
        out.error(Position::none(), &root, format!("more than {MAX_SOURCES} configurations"));
        return Vec::new();
    }
    let configs = sources.configs.iter().enumerate();
    let configs = configs.map(|(index, uri)| (name(uri, index), config(uri, sources.env)));
    let set = sources.set.iter().map(|set| (set_name(set), set_text(set)));
    let mut documents = Vec::new();
    for (name, text) in configs.chain(set) {
        match text {
            Ok(text) => documents.push((name, text)),
            Err((message, help)) => {
                out.error_with_help(Position::new(&Arc::from(name), 0, 0), &root, message, help);
            }
        }
    }
    documents
}

/// What the positions of a source are called. Inline YAML goes by its number: it may hold secrets.
fn name(uri: &str, index: usize) -> String {
    match scheme(uri) {
        Some(("file", path)) => path.to_owned(),
        Some(("env", opaque)) => format!("env:{}", variable(opaque).0),
        Some(("yaml", _)) => format!("--config {} (yaml)", index + 1),
        Some((other, _)) => format!("--config {} ({other})", index + 1),
        None => uri.to_owned(),
    }
}

type Retrieved = Result<String, (String, &'static str)>;

fn config(uri: &str, env: &dyn Fn(&str) -> Option<String>) -> Retrieved {
    let file = |path| read_file(path).map_err(|error| (format!("unable to read the file: {error}"), ""));
    match scheme(uri) {
        None => file(uri),
        Some(("file", path)) => file(path),
        Some(("yaml", text)) => Ok(text.to_owned()),
        Some(("env", opaque)) => match variable(opaque) {
            (name, _) if !is_variable_name(name) => {
                let regex = "must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$";
                Err((format!("environment variable \"{name}\" has invalid name: {regex}"), ""))
            }
            (name, default) => env(name)
                .or_else(|| default.map(str::to_owned))
                .ok_or_else(|| (format!("the environment variable \"{name}\" is not set"), "")),
        },
        Some((other, _)) => Err((format!("scheme \"{other}\" is not supported"), SCHEMES)),
    }
}

fn set_name(set: &str) -> String {
    match set.split_once('=') {
        Some((key, _)) => format!("--set {key}"),
        None => "--set".to_owned(),
    }
}

/// `a.b=c` becomes the document `a::b: c`, as in the Collector.
fn set_text(set: &str) -> Retrieved {
    match set.split_once('=') {
        Some((key, value)) => Ok(format!("{}: {value}", key.trim().replace('.', "::"))),
        None => Err(("missing equal sign".to_owned(), "write --set key=value")),
    }
}

#[cfg(test)]
mod tests;
