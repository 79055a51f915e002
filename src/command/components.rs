//! `blameio components`: what this binary is made of, in the Collector's shape.

use std::{fmt::Write, process::ExitCode};

use blameio_pipeline::Factory;

use super::say;
use crate::components::COMPONENTS;

/// Prints the list.
pub fn run() -> ExitCode {
    say(listing().trim_end());
    ExitCode::SUCCESS
}

fn listing() -> String {
    let mut text = String::from("buildinfo:\n    command: blameio\n");
    // Writing to a String cannot fail.
    drop(writeln!(text, "    description: {}", env!("CARGO_PKG_DESCRIPTION")));
    drop(writeln!(text, "    version: {}", env!("CARGO_PKG_VERSION")));
    section(&mut text, "receivers", COMPONENTS.receivers);
    section(&mut text, "processors", COMPONENTS.processors);
    section(&mut text, "exporters", COMPONENTS.exporters);
    text.push_str("connectors: []\n");
    section(&mut text, "extensions", COMPONENTS.extensions);
    text.push_str("providers:\n");
    for scheme in ["env", "file", "yaml"] {
        drop(writeln!(text, "    - scheme: {scheme}\n      module: blameio-config {}", env!("CARGO_PKG_VERSION")));
    }
    text
}

fn section<T: ?Sized>(text: &mut String, name: &str, factories: &[Factory<T>]) {
    drop(writeln!(text, "{name}:"));
    for factory in factories {
        drop(writeln!(text, "    - name: {}", factory.kind));
        drop(writeln!(text, "      module: {} {}", factory.module, env!("CARGO_PKG_VERSION")));
        drop(writeln!(text, "      stability:"));
        if factory.signals.is_empty() {
            drop(writeln!(text, "        extension: {}", factory.stability.as_str()));
        }
        for signal in factory.signals {
            drop(writeln!(text, "        {signal}: {}", factory.stability.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_listing_is_yaml_and_names_every_component() {
        let listing = super::listing();
        assert!(blameio_config::parse(&listing).is_ok());
        for name in ["file_io", "replication", "db_resolver", "lag_attribution", "prometheus", "debug", "database"] {
            assert!(listing.contains(&format!("- name: {name}\n")), "{name}");
        }
    }
}
