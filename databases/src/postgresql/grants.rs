//! What a role must be granted, as SQL that can be copied, and the word about it while the agent runs.

use std::sync::{Mutex, PoisonError};

use super::connect::Session;

/// Where SQL about roles is run: on a replica it fails.
pub(super) const ON_THE_PRIMARY: &str = "on the primary (a replica has it by replication)";
/// What is lost without `pg_monitor`.
pub(super) const LOST: &str =
    "waits of replay, who holds them, the roles of some processes and the upstream's address are hidden";

/// An identifier as SQL needs it.
pub(super) fn quote(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// What mends a role that is no member of `pg_monitor`.
pub(super) fn monitor(role: &str) -> String {
    format!("{ON_THE_PRIMARY}: GRANT pg_monitor TO {};", quote(role))
}

/// Warns of a missing grant, once a start of the server.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<Option<i64>>);

impl Grants {
    /// Whether this start of the server has not yet been told of.
    fn is_new(&self, started: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(started) != Some(started)
    }

    /// Says what the role of this session lacks.
    pub(super) fn tell(&self, server: &str, session: &Session) {
        if !session.monitors && self.is_new(session.started) {
            let (role, remedy) = (&session.role, monitor(&session.role));
            tracing::warn!(server, "{role} is not a member of pg_monitor: {LOST}; {remedy}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_quotes_get_them() {
        assert_eq!(quote("blameio"), "blameio");
        assert_eq!(quote("Blame io"), "\"Blame io\"");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert!(
            monitor("A").starts_with("on the primary")
                && monitor("A").ends_with("GRANT pg_monitor TO \"A\";")
        );
    }

    #[test]
    fn each_start_is_told_of_once() {
        let grants = Grants::default();
        assert!(grants.is_new(1) && !grants.is_new(1) && grants.is_new(2) && !grants.is_new(2));
    }
}
