//! The example configurations are checked by the code that `blameio validate` runs.

use std::{fs, path::Path};

use blameio::components::COMPONENTS;
use blameio_config::{Sources, load};
use blameio_pipeline::{
    graph::{self, Graph},
    telemetry::Telemetry,
};

/// What the examples take from the environment.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "REPLICA_DSN" => "postgresql://blameio:secret@127.0.0.1:5432/postgres",
        "PRIMARY_DSN" => "postgresql://blameio:secret@primary.example.org:5432/postgres?sslmode=verify-full",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Everything that is wrong with a file, and every warning.
fn findings(path: &Path) -> String {
    let configs = [path.display().to_string()];
    let loaded = match load(&Sources { configs: &configs, set: &[], env: &environment }) {
        Ok(loaded) => loaded,
        Err(found) => return found.to_string(),
    };
    let mut found = graph::validate(&loaded.configuration, &COMPONENTS);
    if !found.has_errors() {
        let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).unwrap();
        if let Err(errors) = Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics()) {
            return errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        }
    }
    found.merge(loaded.warnings);
    found.to_string()
}

#[test]
fn every_example_is_a_valid_configuration_without_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../otel-config/examples");
    let mut checked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            assert_eq!(findings(&path), "", "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 0, "no example in {}", folder.display());
}
