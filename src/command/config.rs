//! Loads a configuration and says everything that is wrong with it.

use blameio_config::{Loaded, Sources, load};
use blameio_pipeline::graph;

use super::complain;
use crate::{cli::ConfigArgs, components::COMPONENTS};

/// A configuration that was found good, or `None` after all errors were told. Its warnings are the caller's to tell,
/// once logging has the level that the configuration asks for.
pub fn loaded(args: &ConfigArgs) -> Option<Loaded> {
    let sources = Sources { configs: &args.configs, set: &args.set, env: &|name| std::env::var(name).ok() };
    let mut loaded = match load(&sources) {
        Ok(loaded) => loaded,
        Err(found) => {
            complain(format!("failed to get config:\n{found}"));
            return None;
        }
    };
    let mut found = graph::validate(&loaded.configuration, &COMPONENTS);
    if found.has_errors() {
        found.merge(loaded.warnings);
        complain(format!("invalid configuration:\n{found}"));
        return None;
    }
    for pipeline in &loaded.configuration.service.pipelines {
        blameio_processors::check_order(pipeline, &mut found);
    }
    loaded.warnings.merge(found);
    Some(loaded)
}
