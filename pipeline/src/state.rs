//! Where the agent keeps the little that survives a restart. Never data of its own accord: what is kept here can be lost
//! at the price of learning it again.

use std::path::PathBuf;

/// The directory of a package that is not started by systemd.
const USUAL: &str = "/var/lib/blameio";

/// The directory that a component keeps its state in. `setting` is what the configuration says: nothing means systemd's
/// `$STATE_DIRECTORY`, else `/var/lib/blameio`; an empty text means that nothing is kept.
pub fn directory(setting: Option<&str>) -> Option<PathBuf> {
    choose(setting, std::env::var("STATE_DIRECTORY").ok().as_deref())
}

fn choose(setting: Option<&str>, systemd: Option<&str>) -> Option<PathBuf> {
    match setting {
        Some("") => None,
        Some(path) => Some(path.into()),
        // systemd joins several by colons.
        None => Some(systemd.and_then(|paths| paths.split(':').next()).unwrap_or(USUAL).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_comes_before_systemd_and_an_empty_text_keeps_nothing() {
        assert_eq!(choose(Some("/data/b"), Some("/run/s")), Some("/data/b".into()));
        assert_eq!(choose(None, Some("/var/lib/a:/var/lib/b")), Some("/var/lib/a".into()));
        assert_eq!(choose(None, None), Some("/var/lib/blameio".into()));
        assert_eq!(choose(Some(""), Some("/run/s")), None);
    }
}
