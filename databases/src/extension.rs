//! The `database` extension: declares one server, from settings or from discovery.
//!
//! The engine is chosen by the scheme of the connection string. Nothing is opened before `start`.

use std::{any::Any, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use blameio_config::{ComponentId, Decode, Diagnostics, Node, Path, Secret, settings};
use blameio_pipeline::{ComponentError, Context, Extension, Factory, Stability, WatchedServer};

use crate::{database::Database, discover::DiscoveredServer, engines, error::DatabaseError, locate::Place};

settings! {
    /// Declares a database server, to be referred to by this extension's id.
    pub struct DatabaseSettings {
        /// Connection string of the server, `postgresql://user:password@host:5432/postgres?sslmode=verify-full` or
        /// `mysql://user:password@host:3306/?ssl-mode=VERIFY_IDENTITY`. It names one host: each server is a `database` of
        /// its own. Its scheme tells the engine. Without it, the PostgreSQL server at `data_directory` or the only one
        /// that runs on this host is meant, and the agent goes on without SQL where it may not connect.
        pub dsn: Option<Secret>,
        /// Connection string of the server that this one replicates from. With it, transport lag is measured. It may
        /// name several hosts, `host1:5432,host2:5432`: whichever of them is the primary is asked.
        pub primary_dsn: Option<Secret>,
        /// Data directory of a server on this host, where it cannot be found out from the connection string.
        pub data_directory: Option<PathBuf>,
    }
}

/// Makes `database` extensions.
pub const DATABASE: Factory<dyn Extension> = Factory {
    kind: "database",
    summary: "A database server: where it is, what its files are, what its replication does",
    module: "blameio-databases",
    signals: &[],
    stability: Stability::Alpha,
    fields: DatabaseSettings::FIELDS,
    validate,
    create,
};

fn validate(node: &Node, path: &Path, out: &mut Diagnostics) {
    let Some(settings) = DatabaseSettings::decode(node, path, out) else { return };
    let (dsn, primary) = (settings.dsn.as_ref(), settings.primary_dsn.as_ref());
    let mut wrong = Vec::new();
    let mut complain = |key, dsn: &Secret, error| {
        wrong.push((key, error, engines::of_dsn(dsn).map_or(engines::EXAMPLE, |engine| engine.example)));
    };
    if let Some(dsn) = dsn
        && let Err(error) = engines::of_dsn(dsn).and_then(|engine| (engine.check)(dsn))
    {
        complain("dsn", dsn, error);
    }
    if let Some(primary) = primary {
        let read = engines::of_dsn(primary).and_then(|engine| (engine.check_primary)(primary));
        // Which of the two is of the wrong engine is for the operator to say.
        let both = dsn.filter(|dsn| engines::of_dsn(dsn).is_ok());
        if let Err(error) = read.and_then(|()| engines::of_dsns(both, Some(primary)).map(drop)) {
            complain("primary_dsn", primary, error);
        }
    }
    for (key, error, example) in wrong {
        let position = node.get(key).map_or(&node.position, |value| &value.position);
        out.error_with_help(position, &path.key(key), error.to_string(), example);
    }
    if let Some(directory) = &settings.data_directory
        && !directory.is_absolute()
    {
        let position = node.get("data_directory").map_or(&node.position, |value| &value.position);
        out.error_with_help(
            position,
            &path.key("data_directory"),
            "'data_directory' must be an absolute path",
            "write it as SHOW data_directory or SELECT @@datadir prints it",
        );
    }
}

fn create(node: &Node, context: Context) -> Result<Box<dyn Extension>, ComponentError> {
    let mut found = Diagnostics::new();
    let settings = DatabaseSettings::decode(node, &Path::root(), &mut found).ok_or_else(|| {
        ComponentError::new(&context.id, "its settings cannot be read", "run `blameio validate`")
    })?;
    Ok(Box::new(DatabaseExtension::new(context.id, settings)?))
}

/// A declared database server.
#[derive(Debug)]
pub struct DatabaseExtension {
    database: Database,
}

impl DatabaseExtension {
    /// Declares a server. Opens nothing.
    pub fn new(id: ComponentId, settings: DatabaseSettings) -> Result<Self, ComponentError> {
        let place = Place { directory: settings.data_directory, discovered: None };
        Self::with(id, settings.dsn.as_ref(), settings.primary_dsn.as_ref(), place)
    }

    /// Declares a server that discovery has found. It is followed through restarts, and reached as discovery says.
    pub fn discovered(id: ComponentId, server: &DiscoveredServer) -> Result<Self, ComponentError> {
        let place = Place { directory: None, discovered: Some(Arc::new(server.clone())) };
        Self::with(id, None, None, place)
    }

    fn with(
        id: ComponentId,
        dsn: Option<&Secret>,
        primary: Option<&Secret>,
        place: Place,
    ) -> Result<Self, ComponentError> {
        let refuse = |error: DatabaseError| {
            let example = dsn.or(primary).and_then(|dsn| engines::of_dsn(dsn).ok());
            ComponentError::new(
                &id,
                error.to_string(),
                example.map_or(engines::EXAMPLE, |engine| engine.example),
            )
        };
        let system = place.discovered.as_ref().map(|server| server.system);
        let engine = engines::of_dsns(dsn, primary).map_err(refuse)?;
        let engine = engine.unwrap_or_else(|| engines::of_system(system));
        let made = (engine.make)(&id, dsn, primary, place).map_err(refuse)?;
        Ok(Self { database: Database::new(id, made) })
    }

    /// The handle for receivers and processors.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

#[async_trait]
impl Extension for DatabaseExtension {
    async fn start(&self) -> Result<(), ComponentError> {
        self.database.start();
        Ok(())
    }

    async fn shutdown(&self) {
        self.database.close().await;
    }

    fn server(&self) -> Option<WatchedServer> {
        Some(self.database.server())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The database behind an extension, if it declares one.
pub fn database(extension: &dyn Extension) -> Option<&Database> {
    extension.as_any().downcast_ref::<DatabaseExtension>().map(DatabaseExtension::database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(yaml: &str) -> String {
        let mut out = Diagnostics::new();
        (DATABASE.validate)(&blameio_config::parse(yaml).unwrap(), &Path::root(), &mut out);
        out.to_string()
    }

    #[test]
    fn settings_are_checked_without_a_connection_and_without_telling_them() {
        assert_eq!(findings("dsn: postgresql://blameio:geheim@db7/postgres?sslmode=verify-full"), "");
        assert_eq!(findings("dsn: postgresql://blameio:ge%3Fheim@db7/postgres?sslmode=verify-ca"), "");
        let either =
            "primary_dsn: postgresql://blameio:geheim@db7,db8/postgres?target_session_attrs=read-write";
        assert_eq!(findings(either), "");
        assert_eq!(findings("{}"), "");
        for bad in [
            "dsn: mysql://blameio:geheim@db7/?ssl-mode=geheim",
            "dsn: mysql://blameio:geheim@db7,db7/",
            "{dsn: mysql://blameio:geheim@db7, primary_dsn: postgresql://blameio:geheim@db7}",
            "dsn: oracle://blameio:geheim@db7/",
            "dsn: postgresql://blameio:ge/heim@db7:x/",
            "dsn: postgresql://blameio:ge?heim@db7/",
            "dsn: postgresql://blameio:x@geheim@db7/",
            "dsn: postgresql://blameio:geheim@db7:port/",
            "primary_dsn: postgresql://blameio:geheim@db7/?sslmode=geheim",
            "primary_dsn: postgresql://blameio:geheim@db7,db7/?target_session_attrs=standby",
            "dsn: postgresql://blameio:geheim@db7,db7/?target_session_attrs=read-write",
            "data_directory: geheim",
        ] {
            let found = findings(bad);
            assert!(!found.is_empty(), "{bad} was accepted");
            assert!(!found.contains("heim") && !found.contains("db7"), "{found}");
        }
        for good in ["mysql://blameio:geheim@db7/", "mariadb://blameio@localhost/?socket=%2Frun%2Fx.sock"] {
            assert_eq!(findings(&format!("dsn: {good}\nprimary_dsn: mysql://db7,db8")), "");
        }
        assert!(findings("dsn: mysql://db7:x/").contains("mysql://blameio:PASSWORD"));
        assert!(findings("dsn: oracle://db7/").contains("postgresql://"));
    }

    #[test]
    fn an_extension_is_made_without_a_runtime_and_tells_its_server() {
        let id: ComponentId = "database/orders".parse().unwrap();
        let dsn = Some(Secret::new("postgresql://blameio:geheim@db7/"));
        let settings = DatabaseSettings { dsn, ..DatabaseSettings::default() };
        let extension = DatabaseExtension::new(id.clone(), settings).unwrap();
        assert_eq!(extension.server().unwrap().id, id);
        assert!(database(&extension).is_some_and(|database| database.primary().is_none()));
        assert!(!format!("{extension:?}").contains("geheim"));
    }
}
