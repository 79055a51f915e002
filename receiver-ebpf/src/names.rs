//! The name of a file from the tail of directory entries that the kernel keeps. It is read again when the leaf's entry
//! is another one than before; the renaming of a directory above is not followed.

use std::collections::HashMap;

use crate::Probes;
use crate::error::ProbeError;
use crate::raw::{FileId, FileName, NAMES};

/// The names from the root down, joined with '/'. `None` if there are none. One that was cut ends in `…`, so that
/// nobody takes it for a whole one.
pub(crate) fn tail(name: &FileName) -> Option<String> {
    let depth = usize::try_from(name.depth).map_or(NAMES, |depth| depth.min(NAMES));
    let mut parts = Vec::with_capacity(depth);
    for (index, bytes) in name.names[..depth].iter().enumerate().rev() {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let mut part = String::from_utf8_lossy(&bytes[..end]).into_owned();
        if name.truncated >> index & 1 == 1 {
            part.push('…');
        }
        parts.push(part);
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

impl Probes {
    /// The last names of a file's path, up to four: `data/base/16384/16385`. Read from the kernel at every call: the
    /// caller keeps it until [`Probes::renamed`] tells of changes. `None` if it was not kept.
    #[must_use]
    pub fn file_name(&mut self, id: &FileId) -> Option<String> {
        self.maps.files.get(id).ok().flatten().and_then(|name| tail(&name))
    }

    /// All names, if one was replaced since the last call: the file was renamed, or its inode has another owner.
    pub fn renamed(&mut self) -> Result<Option<HashMap<FileId, String>>, ProbeError> {
        // Before the names: what changes meanwhile is told of by the next call.
        let renamed = self.maps.naming.get(&0)?.map_or(0, |naming| naming.renamed);
        if renamed == self.renamed {
            return Ok(None);
        }
        let mut names = HashMap::new();
        self.maps.files.for_each(|id, values| {
            names.extend(values.first().and_then(tail).map(|name| (id, name)));
        })?;
        self.renamed = renamed;
        Ok(Some(names))
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn a_cut_name_is_not_taken_for_a_whole_one() {
        let mut name = FileName { depth: 2, ..FileName::zeroed() };
        name.names[0][..3].copy_from_slice(b"163");
        name.names[1][..4].copy_from_slice(b"base");
        assert_eq!(tail(&name).as_deref(), Some("base/163"));
        name.truncated = 1;
        assert_eq!(tail(&name).as_deref(), Some("base/163…"));
    }
}
