//! What a thread does for its server. The kernel stores the role as an opaque number.

/// Role of a thread or process of a watched server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum ThreadRole {
    /// Not known, or of no interest.
    #[default]
    Other = 0,
    /// Applies replicated changes.
    Apply = 1,
    /// Receives replicated changes.
    Receive = 2,
    /// Serves a client.
    Client = 3,
    /// Writes checkpoints.
    Checkpoint = 4,
    /// Writes dirty buffers in the background.
    Writer = 5,
    /// Vacuums.
    Vacuum = 6,
    /// Purges old row versions.
    Purge = 7,
    /// Flushes pages.
    PageCleaner = 8,
    /// Writes the log.
    Log = 9,
    /// Takes a backup or sends changes to others.
    Backup = 10,
    /// Does I/O on behalf of other processes.
    IoWorker = 11,
}

impl ThreadRole {
    /// All roles, in the order of their codes.
    pub const ALL: [Self; 12] = [
        Self::Other,
        Self::Apply,
        Self::Receive,
        Self::Client,
        Self::Checkpoint,
        Self::Writer,
        Self::Vacuum,
        Self::Purge,
        Self::PageCleaner,
        Self::Log,
        Self::Backup,
        Self::IoWorker,
    ];

    /// The number that the kernel side stores.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The role for a number from the kernel side; unknown numbers are `Other`.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or_default()
    }

    /// Value of `blameio.thread.role`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Apply => "apply",
            Self::Receive => "receive",
            Self::Client => "client",
            Self::Checkpoint => "checkpoint",
            Self::Writer => "writer",
            Self::Vacuum => "vacuum",
            Self::Purge => "purge",
            Self::PageCleaner => "page_cleaner",
            Self::Log => "log",
            Self::Backup => "backup",
            Self::IoWorker => "io_worker",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_unknown_codes_are_other() {
        for role in ThreadRole::ALL {
            assert_eq!(ThreadRole::from_code(role.code()), role);
        }
        assert_eq!(ThreadRole::from_code(200), ThreadRole::Other);
    }
}
