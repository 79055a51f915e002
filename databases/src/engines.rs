//! The engines there are, and which of them a connection string means.

use std::sync::Arc;

use blameio_config::{ComponentId, Secret};

use crate::{
    catalog::CatalogReader, engine::Engine, error::DatabaseError, identity::ClusterId, locate::Place, mysql,
    postgresql,
};

/// One server, ready to be asked.
pub(crate) struct Made {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) catalog: CatalogReader,
    /// The server that it replicates from, where that is named.
    pub(crate) primary: Option<Arc<dyn Engine>>,
    pub(crate) cluster: Arc<ClusterId>,
}

/// Makes a server.
type Make = fn(&ComponentId, Option<&Secret>, Option<&Secret>, Place) -> Result<Made, DatabaseError>;

/// An engine, before any server of it is known.
pub(crate) struct EngineKind {
    /// Schemes of its connection strings.
    schemes: &'static [&'static str],
    /// Values of `db.system.name`.
    systems: &'static [&'static str],
    /// What its connection strings look like.
    pub(crate) example: &'static str,
    /// Reads the connection string of a server.
    pub(crate) check: fn(&Secret) -> Result<(), DatabaseError>,
    /// Reads the connection string of a server that is replicated from.
    pub(crate) check_primary: fn(&Secret) -> Result<(), DatabaseError>,
    /// Makes a server of its connection string, that of its primary, and its place. Opens nothing.
    pub(crate) make: Make,
}

/// The one that is meant where nothing says which comes first.
const ENGINES: &[EngineKind] = &[
    EngineKind {
        schemes: &["postgresql", "postgres"],
        systems: &[postgresql::SYSTEM],
        example: postgresql::dsn::Dsn::EXAMPLE,
        check: |dsn| postgresql::dsn::Dsn::parse(dsn).map(drop),
        check_primary: |dsn| postgresql::dsn::Dsn::parse_primary(dsn).map(drop),
        make: postgresql::make,
    },
    EngineKind {
        schemes: &["mysql", "mariadb"],
        systems: &[mysql::MYSQL, mysql::MARIADB],
        example: mysql::dsn::Dsn::EXAMPLE,
        check: |dsn| mysql::dsn::Dsn::parse(dsn).map(drop),
        check_primary: |dsn| mysql::dsn::Dsn::parse_primary(dsn).map(drop),
        make: mysql::make,
    },
];

/// What a connection string looks like where it does not say whose it is.
pub(crate) const EXAMPLE: &str = ENGINES[0].example;

/// The engine of a server that discovery has found, or of one of which nothing is known.
pub(crate) fn of_system(system: Option<&str>) -> &'static EngineKind {
    let named = ENGINES.iter().find(|engine| system.is_some_and(|system| engine.systems.contains(&system)));
    named.unwrap_or(&ENGINES[0])
}

/// The engine that a connection string means.
pub(crate) fn of_dsn(dsn: &Secret) -> Result<&'static EngineKind, DatabaseError> {
    let scheme = dsn.expose().split_once("://").map(|(scheme, _)| scheme);
    let named = ENGINES.iter().find(|engine| scheme.is_some_and(|scheme| engine.schemes.contains(&scheme)));
    named.ok_or_else(|| DatabaseError::Dsn {
        reason: "it must begin with postgresql://, mysql:// or mariadb://".to_owned(),
    })
}

/// The engine that both connection strings mean.
pub(crate) fn of_dsns(
    dsn: Option<&Secret>,
    primary: Option<&Secret>,
) -> Result<Option<&'static EngineKind>, DatabaseError> {
    let (dsn, primary) = (dsn.map(of_dsn).transpose()?, primary.map(of_dsn).transpose()?);
    match (dsn, primary) {
        (Some(dsn), Some(primary)) if !std::ptr::eq(dsn, primary) => Err(DatabaseError::Dsn {
            reason: "dsn and primary_dsn name servers of different engines".to_owned(),
        }),
        (dsn, primary) => Ok(dsn.or(primary)),
    }
}
