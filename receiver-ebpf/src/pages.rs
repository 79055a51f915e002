//! Whose a page is, in a file that a table shares with its indexes: as `bpf/pages.h` reads it from the page's own head.

use blameio_pipeline::PageFormat;

/// `enum page_format` in pages.h.
pub(crate) const fn code(format: PageFormat) -> u8 {
    match format {
        PageFormat::None => 0,
        PageFormat::InnodbOfMysql => 1,
        PageFormat::InnodbOfMariadb => 2,
    }
}

/// The index that pages of a file belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageIndex {
    /// Not told: the file has one owner, or no index owns these pages.
    #[default]
    None,
    /// The index with this number in its server.
    Id(u32),
    /// Large values, which belong to the clustered index.
    Blob,
    /// Pages that are compressed or encrypted as a whole do not tell.
    Hidden,
}

/// `INDEX_BLOB` in pages.h.
const BLOB: u32 = u32::MAX;
/// `INDEX_HIDDEN` in pages.h.
const HIDDEN: u32 = u32::MAX - 1;

impl PageIndex {
    /// Value of `blameio.file.index`; `None` where nothing is told.
    pub(crate) fn attribute(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Id(id) => Some(id.to_string()),
            Self::Blob => Some("blob".to_owned()),
            Self::Hidden => Some("hidden".to_owned()),
        }
    }

    pub(crate) fn from_raw(value: u32) -> Self {
        match value {
            0 => Self::None,
            BLOB => Self::Blob,
            HIDDEN => Self::Hidden,
            id => Self::Id(id),
        }
    }
}
