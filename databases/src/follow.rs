//! The two workers behind a `Database`: one follows the server's processes and publishes them, one keeps the
//! catalog. Neither ever gives up on a server that is down, and each says once what changed.

mod catalog;
mod server;
mod tasks;

use blameio_config::ComponentId;

use crate::error::DatabaseError;

pub(crate) use catalog::catalog;
pub(crate) use server::server;

/// Says what changed, once a change.
#[derive(Debug, Default)]
struct Said(Option<String>);

impl Said {
    pub(super) fn failure(&mut self, server: &ComponentId, task: &str, error: &DatabaseError) {
        let text = error.root().to_string();
        if self.0.as_ref() != Some(&text) {
            tracing::warn!(%server, "{task}: {text}; it is tried again");
            self.0 = Some(text);
        }
    }

    /// As [`Said::failure`], but for a server that cannot be reached at all somebody else has told it.
    pub(super) fn failure_unless_told(
        &mut self,
        server: &ComponentId,
        task: &str,
        error: &DatabaseError,
        told: bool,
    ) {
        if told && error.is_of_whole_server() {
            tracing::debug!(%server, "{task}: {error}");
        } else {
            self.failure(server, task, error);
        }
    }

    pub(super) fn success(&mut self, server: &ComponentId, task: &str) {
        if self.0.take().is_some() {
            tracing::info!(%server, "{task}: works again");
        }
    }
}
