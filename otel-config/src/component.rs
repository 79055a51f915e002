//! Ids of components, `type` or `type/name`, and the sections that hold them.
//!
//! Whether a type exists is not known here.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::node::Node;
use crate::position::Position;

/// The longest type: `^[a-zA-Z][0-9a-zA-Z_]{0,62}$` in the Collector.
const MAX_KIND: usize = 63;
/// The longest name in characters, as in the Collector.
const MAX_NAME: usize = 1024;

/// The id of a component.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    kind: String,
    name: String,
}

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidId {
    /// Nothing but white space.
    #[error("id must not be empty")]
    Empty,
    /// `/name`.
    #[error("the part before / should not be empty")]
    NoKind,
    /// `type/`.
    #[error("the part after / should not be empty")]
    NoName,
    /// Before the slash.
    #[error("invalid character(s) in the type: it must match ^[a-zA-Z][0-9a-zA-Z_]{{0,62}}$")]
    Kind,
    /// After the slash.
    #[error(
        "invalid character(s) in the name: spaces, symbols and control characters are not allowed, nor more than 1024 characters"
    )]
    Name,
}

impl ComponentId {
    /// The type, as in `otlp/gateway`: `otlp`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name, empty if there is none.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ComponentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.trim().is_empty() {
            return Err(InvalidId::Empty);
        }
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        if kind.is_empty() {
            return Err(InvalidId::NoKind);
        }
        if name == Some("") {
            return Err(InvalidId::NoName);
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if kind.len() > MAX_KIND
            || !kind.starts_with(|c: char| c.is_ascii_alphabetic())
            || !kind.chars().all(word)
        {
            return Err(InvalidId::Kind);
        }
        let name = name.unwrap_or_default();
        if name.chars().count() > MAX_NAME || !name.chars().all(in_name) {
            return Err(InvalidId::Name);
        }
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// The Collector's `[^\pZ\pC\pS]`. Beyond ASCII, white space and control characters are refused, and
/// symbols are not: the tables of all symbols are not worth carrying.
fn in_name(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}

/// A configured component.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its id.
    pub id: ComponentId,
    /// Where the id was written.
    pub position: Position,
    /// Its settings, null for the defaults.
    pub body: Node,
}

/// A use of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The component.
    pub id: ComponentId,
    /// Where it is used.
    pub position: Position,
}

#[cfg(test)]
mod tests {
    use super::{ComponentId, InvalidId};

    #[test]
    fn ids_follow_the_collectors_rules() {
        for (text, kind, name) in [
            ("otlp", "otlp", ""),
            (" otlp / Gateway ", "otlp", "Gateway"),
            ("a/b/c", "a", "b/c"),
            ("a_1/é-2.x", "a_1", "é-2.x"),
        ] {
            let id: ComponentId = text.parse().unwrap();
            assert_eq!((id.kind(), id.name()), (kind, name));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for (text, error) in [
            ("", InvalidId::Empty),
            ("  ", InvalidId::Empty),
            ("/x", InvalidId::NoKind),
            ("x/ ", InvalidId::NoName),
            ("1x", InvalidId::Kind),
            ("x-y", InvalidId::Kind),
            ("x/a b", InvalidId::Name),
            ("x/a$", InvalidId::Name),
        ] {
            assert_eq!(text.parse::<ComponentId>(), Err(error), "{text:?}");
        }
        assert!("x".repeat(63).parse::<ComponentId>().is_ok());
        assert!("x".repeat(64).parse::<ComponentId>().is_err());
    }
}
