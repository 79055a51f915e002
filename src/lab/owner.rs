//! Chooses the user a server runs as: `PostgreSQL` refuses root.
//!
//! It changes no user of this process.

use std::path::Path;

use nix::unistd::{Gid, Uid, User};

use super::LabError;

/// A user and its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// `postgres`, else `nobody`, when we are root; nothing when we are not.
pub(crate) fn server_owner() -> Option<Owner> {
    if !Uid::effective().is_root() {
        return None;
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .map(|user| Owner { uid: user.uid, gid: user.gid })
}

/// Makes a directory that belongs to `owner` and only to it, as `PostgreSQL` demands of a data directory.
pub(crate) fn private_dir(path: &Path, owner: Option<Owner>) -> Result<(), LabError> {
    std::fs::create_dir_all(path).map_err(LabError::file("create", path))?;
    if let Some(owner) = owner {
        nix::unistd::chown(path, Some(owner.uid), Some(owner.gid))
            .map_err(|e| LabError::file("chown", path)(e.into()))?;
    }
    mode(path, 0o700)
}

/// Lets other users pass through `path` without listing it.
pub(crate) fn passable(path: &Path) -> Result<(), LabError> {
    mode(path, 0o711)
}

fn mode(path: &Path, mode: u32) -> Result<(), LabError> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(LabError::file("chmod", path))
}
