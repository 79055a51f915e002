//! A list of server settings as it is appended to postgresql.conf, where the last line of a name wins.
//!
//! It does not check names or values; the server does, and its log tells.

use std::fmt::Write as _;

/// Names and values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// Adds one setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds all settings of `other` behind ours, so that they win.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// What every primary starts from. Full-page images off: they would spare the replica the very reads that
    /// the laboratory is about. No fsync: its files are on the disk below the replica's, and a primary that waits for it is
    /// somebody else who keeps it busy.
    pub(crate) fn primary_base() -> Self {
        Self::default()
            .with("wal_level", "replica")
            .with("fsync", "off")
            .with("full_page_writes", "off")
            .with("shared_buffers", "256MB")
            .with("max_connections", "30")
            .with("max_wal_size", "4GB")
            // A replica may be stopped for a while, and not every one has a slot.
            .with("wal_keep_size", "1GB")
            .with("checkpoint_timeout", "1h")
    }

    /// What every replica starts from. Buffers small, so that pages come from the file system; no recycling of
    /// WAL files, because a partial write into an old file outside the page cache has to read it first.
    pub(crate) fn replica_base(major: u32) -> Self {
        let base = Self::default()
            .with("hot_standby", "on")
            // It begins with a copy of the primary's settings.
            .with("fsync", "on")
            .with("shared_buffers", "16MB")
            .with("wal_receiver_status_interval", "1s")
            .with("max_standby_streaming_delay", "-1")
            .with("wal_recycle", "off");
        // Prefetching issues the reads from another place in the code than the wait; it came with 15.
        if major >= 15 { base.with("recovery_prefetch", "off") } else { base }
    }

    pub(crate) fn to_conf(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in &self.0 {
            // Writing to a String cannot fail.
            let _unused = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn a_quote_in_a_value_is_doubled() {
        assert_eq!(Settings::default().with("a.b", "it's").to_conf(), "\na.b = 'it''s'\n");
    }
}
