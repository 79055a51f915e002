//! The extensions that run, as the other components find them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use blameio_config::ComponentId;

use crate::{ComponentError, Extension, WatchedServer};

/// Databases with the extensions that declare them.
pub type Databases = Vec<(WatchedServer, Arc<dyn Extension>)>;

/// The extensions by id.
#[derive(Default)]
pub struct Host {
    extensions: BTreeMap<ComponentId, Arc<dyn Extension>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.extensions.keys()).finish()
    }
}

impl Host {
    /// A host with these extensions.
    pub fn new(extensions: BTreeMap<ComponentId, Arc<dyn Extension>>) -> Self {
        Self { extensions }
    }

    /// All extensions.
    pub fn extensions(&self) -> impl Iterator<Item = (&ComponentId, &Arc<dyn Extension>)> {
        self.extensions.iter()
    }

    /// The extensions that declare a database: those named, or all when none is named.
    pub fn databases(
        &self,
        asking: &ComponentId,
        named: &[ComponentId],
    ) -> Result<Databases, ComponentError> {
        if named.is_empty() {
            return Ok(self
                .extensions
                .values()
                .filter_map(|extension| Some((extension.server()?, Arc::clone(extension))))
                .collect());
        }
        named
            .iter()
            .map(|id| {
                let extension = self.extensions.get(id).ok_or_else(|| {
                    ComponentError::new(
                        asking,
                        format!("references extension \"{id}\" which is not configured"),
                        format!(
                            "declare it under extensions and list it in service::extensions; {}",
                            self.declared()
                        ),
                    )
                })?;
                let server = extension.server().ok_or_else(|| {
                    ComponentError::new(
                        asking,
                        format!("references extension \"{id}\" which is not a database"),
                        self.declared(),
                    )
                })?;
                Ok((server, Arc::clone(extension)))
            })
            .collect()
    }

    fn declared(&self) -> String {
        let ids: Vec<_> = self
            .extensions
            .iter()
            .filter(|(_, extension)| extension.server().is_some())
            .map(|(id, _)| id.to_string())
            .collect();
        if ids.is_empty() {
            "no database is declared".to_owned()
        } else {
            format!("declared databases: {}", ids.join(", "))
        }
    }
}
