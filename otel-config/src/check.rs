//! What the parts of a configuration promise each other: every reference leads somewhere, every
//! pipeline has two ends. The texts are the Collector's, which operators search for.

use std::collections::{BTreeSet, HashSet};

use crate::component::{Component, ComponentId, Reference};
use crate::configuration::Configuration;
use crate::diagnostics::Diagnostics;
use crate::nearest::suggestion;
use crate::path::Path;

/// Checks every reference of the service.
pub(crate) fn check(configuration: &Configuration, out: &mut Diagnostics) {
    let Configuration { receivers, processors, exporters, connectors, extensions, service } = configuration;
    let path = Path::root().key("service");
    Role { word: "extension", known: &ids(&[extensions]) }.exist(
        &service.extensions,
        &path.key("extensions"),
        out,
    );
    let receivers = ids(&[receivers, connectors]);
    let exporters = ids(&[exporters, connectors]);
    let processors = ids(&[processors]);
    for pipeline in &service.pipelines {
        let path = path.key("pipelines").key(&pipeline.id.to_string());
        for (word, list) in [("receiver", &pipeline.receivers), ("exporter", &pipeline.exporters)] {
            if list.is_empty() {
                out.error(&pipeline.position, &path, format!("must have at least one {word}"));
            }
        }
        for (word, known, list) in [
            ("receiver", &receivers, &pipeline.receivers),
            ("processor", &processors, &pipeline.processors),
            ("exporter", &exporters, &pipeline.exporters),
        ] {
            let role = Role { word, known };
            role.exist(list, &path, out);
            role.are_distinct(list, &path, out);
        }
    }
}

fn ids<'a>(sections: &[&'a [Component]]) -> BTreeSet<&'a ComponentId> {
    sections.iter().copied().flatten().map(|component| &component.id).collect()
}

struct Role<'a> {
    word: &'a str,
    known: &'a BTreeSet<&'a ComponentId>,
}

impl Role<'_> {
    fn exist(&self, references: &[Reference], path: &Path, out: &mut Diagnostics) {
        for Reference { id, position } in references {
            if !self.known.contains(id) {
                let message = format!("references {} \"{id}\" which is not configured", self.word);
                let known: Vec<String> = self.known.iter().map(ToString::to_string).collect();
                let help = suggestion(&id.to_string(), known.iter().map(String::as_str)).unwrap_or_default();
                out.error_with_help(position, path, message, help);
            }
        }
    }

    fn are_distinct(&self, references: &[Reference], path: &Path, out: &mut Diagnostics) {
        let mut seen = HashSet::new();
        for Reference { id, position } in references {
            if !seen.insert(id) {
                out.error(position, path, format!("references {} \"{id}\" multiple times", self.word));
            }
        }
    }
}
