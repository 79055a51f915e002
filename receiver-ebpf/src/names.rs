//! The name of a file from the tail of directory entries that the kernel kept at first sight. The name of that
//! moment: a later rename is not followed.

use crate::Probes;
use crate::raw::{FileId, FileName, NAMES};

/// The names from the root down, joined with '/'. `None` if there are none.
pub(crate) fn tail(name: &FileName) -> Option<String> {
    let depth = usize::try_from(name.depth).map_or(NAMES, |depth| depth.min(NAMES));
    let mut parts = Vec::with_capacity(depth);
    for bytes in name.names[..depth].iter().rev() {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        parts.push(String::from_utf8_lossy(&bytes[..end]));
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

impl Probes {
    /// The last names of a file's path when it was first counted, up to four: `data/base/16384/16385`. Read from the
    /// kernel at every call: the caller keeps it. `None` if it was not kept.
    #[must_use]
    pub fn file_name(&mut self, id: &FileId) -> Option<String> {
        self.maps.files.get(id).ok().flatten().and_then(|name| tail(&name))
    }
}
