//! `blameio components`: what this binary is made of, in the Collector's shape.

use std::process::ExitCode;

use blameio_pipeline::Factory;

use super::say;
use crate::components::COMPONENTS;

/// Prints the list.
pub fn run() -> ExitCode {
    say(listing());
    ExitCode::SUCCESS
}

fn listing() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = vec![
        "buildinfo:".to_owned(),
        "    command: blameio".to_owned(),
        format!("    description: {}", env!("CARGO_PKG_DESCRIPTION")),
        format!("    version: {version}"),
    ];
    lines.extend(section("receivers", COMPONENTS.receivers));
    lines.extend(section("processors", COMPONENTS.processors));
    lines.extend(section("exporters", COMPONENTS.exporters));
    lines.push("connectors: []".to_owned());
    lines.extend(section("extensions", COMPONENTS.extensions));
    lines.push("providers:".to_owned());
    for scheme in ["env", "file", "yaml"] {
        lines.push(format!("    - scheme: {scheme}"));
        lines.push(format!("      module: blameio-config {version}"));
    }
    lines.join("\n")
}

fn section<T: ?Sized>(name: &str, factories: &[Factory<T>]) -> Vec<String> {
    let mut lines = vec![format!("{name}:")];
    for factory in factories {
        lines.push(format!("    - name: {}", factory.kind));
        lines.push(format!("      module: {} {}", factory.module, env!("CARGO_PKG_VERSION")));
        lines.push("      stability:".to_owned());
        let stability = factory.stability.as_str();
        if factory.signals.is_empty() {
            lines.push(format!("        extension: {stability}"));
        }
        lines.extend(factory.signals.iter().map(|signal| format!("        {signal}: {stability}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_listing_is_yaml_and_names_every_component() {
        let listing = super::listing();
        assert!(blameio_config::parse(&listing).is_ok());
        for name in
            ["file_io", "replication", "db_resolver", "lag_attribution", "prometheus", "debug", "database"]
        {
            assert!(listing.contains(&format!("- name: {name}\n")), "{name}");
        }
    }
}
