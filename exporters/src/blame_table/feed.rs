//! Puts the channels' texts together: tables are set apart, and a log is not filled with lines that say the same.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{layout::Shown, state::View};

/// How often a line that says nothing new is written to a log nevertheless, as a sign of life.
const ALIVE: Duration = Duration::from_mins(1);

/// What was written of each channel, by server and name.
#[derive(Debug)]
pub(super) struct Feed {
    /// Whether the output is read as a log: what is not written now is still there from before.
    log: bool,
    told: HashMap<(String, String), (Option<String>, Instant)>,
}

impl Feed {
    pub(super) fn new(log: bool) -> Self {
        Self { log, told: HashMap::new() }
    }

    /// What was written cannot be relied on: it was lost, or something else was said since.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }

    /// The text of all channels; empty if nothing is worth saying. A table is followed by a blank line.
    pub(super) fn text(&mut self, all: Vec<(View, Shown)>, now: Instant) -> String {
        let before = std::mem::take(&mut self.told);
        let mut text = String::new();
        for (view, shown) in all {
            let key = (view.server, view.channel);
            if let Some(told) = before.get(&key)
                && self.log
                && shown.gist.is_some()
                && told.0 == shown.gist
                && now.saturating_duration_since(told.1) < ALIVE
            {
                self.told.insert(key, told.clone());
                continue;
            }
            text += &shown.text;
            if shown.gist.is_none() {
                text.push('\n');
            }
            self.told.insert(key, (shown.gist, now));
        }
        text
    }
}
