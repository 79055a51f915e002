//! Connection strings of PostgreSQL, as URLs. `sslmode`, `sslrootcert` and `target_session_attrs` are read here, the rest by
//! the driver. Each leads to one host: of a string with several one is made for each.
//!
//! No error and no `Debug` shows any part of the string but host and port.

use std::{fmt, path::PathBuf};

use blameio_config::Secret;
use tokio_postgres::config::{Config, Host, SslMode};

use crate::{error::DatabaseError, url};

/// How far the server's certificate is looked at; as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it, whoever the server is.
    #[default]
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS, and the certificate is of a trusted authority.
    VerifyCa,
    /// TLS, and the certificate is of a trusted authority and for this host.
    VerifyFull,
}

/// Where trusted authorities are taken from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Roots {
    /// The host's own.
    #[default]
    System,
    /// A PEM file.
    File(PathBuf),
}

/// A connection string, of one host.
#[derive(Clone)]
pub(crate) struct Dsn {
    pub(crate) config: Config,
    pub(crate) tls: TlsMode,
    pub(crate) roots: Roots,
}

/// Options that libpq knows and that make no difference here.
const IGNORED: &[&str] = &[
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "gssencmode",
    "gssdelegation",
    "krbsrvname",
    "sslcompression",
    "sslsni",
    "ssl_min_protocol_version",
];

/// Options that would change what the operator asked for if they were ignored.
const REFUSED: &[&str] = &[
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "service",
    "passfile",
    "requirepeer",
    "replication",
];

impl Dsn {
    /// What a connection string looks like.
    pub(crate) const EXAMPLE: &'static str = "write it as \
        postgresql://blameio:PASSWORD@db.example.org:5432/postgres?sslmode=verify-full, with the characters \
        : / ? # @ % of the password percent-encoded";

    /// Reads the connection string of one server.
    pub(crate) fn parse(dsn: &Secret) -> Result<Self, DatabaseError> {
        let (mut dsns, _) = Self::hosts(dsn)?;
        match (dsns.pop(), dsns.is_empty()) {
            (Some(dsn), true) => Ok(dsn),
            _ => Err(refuse("it names several hosts, and one server is meant; declare a database for each")),
        }
    }

    /// Reads the connection string of a primary: one for each of its hosts, any of which may be it.
    pub(crate) fn parse_primary(dsn: &Secret) -> Result<Vec<Self>, DatabaseError> {
        let (dsns, wanted) = Self::hosts(dsn)?;
        // The primary is meant in any case.
        match wanted.as_deref() {
            None | Some("any" | "read-write" | "primary") => Ok(dsns),
            _ => Err(refuse("target_session_attrs must be read-write, primary or any: a primary is meant")),
        }
    }

    /// One for each host, in their order, and what `target_session_attrs` says.
    fn hosts(dsn: &Secret) -> Result<(Vec<Self>, Option<String>), DatabaseError> {
        scheme(dsn.expose())?;
        url::is_encoded(dsn.expose()).map_err(refuse)?;
        let (text, options) = dsn.expose().split_once('?').unwrap_or((dsn.expose(), ""));
        let (mut tls, mut roots, mut wanted) = (None, None, None);
        let (mut kept, mut places) = (Vec::new(), Vec::new());
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "sslmode" => tls = Some(tls_mode(value)?),
                "sslrootcert" => {
                    let wrong = || refuse("the value of sslrootcert is not percent-encoded as it should be");
                    roots = Some(url::decode(value).ok_or_else(wrong)?);
                }
                "target_session_attrs" => wanted = Some(value.to_owned()),
                _ if IGNORED.contains(&key) => {}
                _ if REFUSED.contains(&key) => {
                    return Err(refuse(format!("the option {key} is not supported")));
                }
                "host" | "hostaddr" | "port" => places.push(option),
                _ => kept.push(option),
            }
        }
        let roots = match roots.as_deref() {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(PathBuf::from(path)),
        };
        let tls = match (tls.unwrap_or_default(), &roots) {
            // As libpq has it, for the sake of old configurations: a root certificate is there to be used.
            (TlsMode::Require, Roots::File(_)) => TlsMode::VerifyCa,
            (tls, _) => tls,
        };
        let all = read(text, &[&kept[..], &places[..]].concat())?;
        let mut config = read(&without_hosts(text), &kept)?;
        if config.get_user().is_none() {
            config.user(operating_system_user());
        }
        if config.get_dbname().is_none() {
            // libpq would take the user's name; that database need not exist, this one does.
            config.dbname("postgres");
        }
        // A port may stand alone before the path where the host is an option.
        let named = |host: &&Host| !matches!(host, Host::Tcp(name) if name.is_empty());
        let hosts: Vec<_> = all.get_hosts().iter().filter(named).collect();
        let (addresses, ports) = (all.get_hostaddrs(), all.get_ports());
        let count = hosts.len().max(addresses.len());
        if count == 0 {
            return Err(refuse("it names no host"));
        }
        let odd = |length: usize| length != 0 && length != count;
        let joined = |host: &&Host| matches!(host, Host::Tcp(name) if name.contains(','));
        if odd(hosts.len()) || odd(addresses.len()) || (ports.len() != 1 && odd(ports.len())) {
            return Err(refuse("its hosts, addresses and ports do not go together"));
        }
        if hosts.iter().any(joined) {
            return Err(refuse("several hosts must stand before the path, as host1:5432,host2:5432"));
        }
        let one = |at: usize| {
            let mut config = config.clone();
            match hosts.get(at) {
                Some(Host::Tcp(name)) => {
                    config.host(name);
                }
                Some(Host::Unix(path)) => {
                    config.host_path(path);
                }
                None => {}
            }
            if let Some(address) = addresses.get(at) {
                config.hostaddr(*address);
            }
            config.port(ports.get(at).or(ports.first()).copied().unwrap_or(5432));
            // As libpq has it: there is no TLS on a Unix socket, whatever is asked for.
            let socket = matches!(hosts.get(at), Some(Host::Unix(_))) && addresses.is_empty();
            let tls = if socket { TlsMode::Disable } else { tls };
            config.ssl_mode(match tls {
                TlsMode::Disable => SslMode::Disable,
                TlsMode::Prefer => SslMode::Prefer,
                TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
            });
            Self { config, tls, roots: roots.clone() }
        };
        Ok(((0..count).map(one).collect(), wanted))
    }

    /// Host name, address or socket directory, and port.
    pub(crate) fn address(&self) -> (String, u16) {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        (host, self.config.get_ports().first().copied().unwrap_or(5432))
    }

    /// Host and port in one.
    pub(crate) fn server(&self) -> String {
        let (host, port) = self.address();
        format!("{host}:{port}")
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn").field("server", &self.server()).field("tls", &self.tls).finish_non_exhaustive()
    }
}

fn refuse(reason: impl Into<String>) -> DatabaseError {
    DatabaseError::Dsn { reason: reason.into() }
}

/// The driver's own error may quote what it does not understand, which may be half a password.
fn read(text: &str, options: &[&str]) -> Result<Config, DatabaseError> {
    let url = if options.is_empty() { text.to_owned() } else { format!("{text}?{}", options.join("&")) };
    url.parse().map_err(|_| {
        refuse("host, port, or an option after '?' cannot be read, or the password is not percent-encoded")
    })
}

/// A connection string without its hosts.
fn without_hosts(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let user = authority.split_once('@').map_or(String::new(), |(user, _)| format!("{user}@"));
    format!("{scheme}://{user}{path}")
}

fn scheme(text: &str) -> Result<(), DatabaseError> {
    match text.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgresql" | "postgres") => Ok(()),
        _ => Err(refuse("it must begin with postgresql:// or postgres://")),
    }
}

fn tls_mode(value: &str) -> Result<TlsMode, DatabaseError> {
    Ok(match value {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => {
            return Err(refuse("sslmode must be one of disable, prefer, require, verify-ca, verify-full"));
        }
    })
}

pub(crate) fn operating_system_user() -> String {
    url::operating_system_user().unwrap_or_else(|| "postgres".to_owned())
}

/// A connection string for a socket directory or an address, without a password.
pub(crate) fn without_password(user: &str, host: &str, port: u16) -> Secret {
    Secret::new(format!("postgresql://{}@{}:{port}/postgres", url::encode(user), url::encode(host)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Dsn, DatabaseError> {
        Dsn::parse(&Secret::new(text))
    }

    #[test]
    fn the_sslmodes_of_libpq_are_understood() {
        for (text, tls, roots) in [
            ("postgresql://a@h", TlsMode::Prefer, Roots::System),
            ("postgres://a@h?sslmode=disable", TlsMode::Disable, Roots::System),
            ("postgres://a@h/db?connect_timeout=3&sslmode=require", TlsMode::Require, Roots::System),
            (
                "postgres://a@h?sslmode=require&sslrootcert=%2Fca.pem",
                TlsMode::VerifyCa,
                Roots::File("/ca.pem".into()),
            ),
            ("postgres://a@h?sslmode=verify-ca", TlsMode::VerifyCa, Roots::System),
            ("postgres://a@h?sslrootcert=system&sslmode=verify-full", TlsMode::VerifyFull, Roots::System),
        ] {
            let dsn = parse(text).unwrap();
            assert_eq!((dsn.tls, dsn.roots), (tls, roots), "{text}");
        }
    }

    #[test]
    fn sockets_hosts_and_defaults_are_understood() {
        assert_eq!(
            parse("postgresql://a@%2Frun%2Fpg:5433/x").unwrap().address(),
            ("/run/pg".to_owned(), 5433)
        );
        let dsn = parse("postgresql://db7").unwrap();
        assert_eq!(dsn.address(), ("db7".to_owned(), 5432));
        assert_eq!(dsn.config.get_dbname(), Some("postgres"));
        assert!(dsn.config.get_user().is_some());
        let made = Dsn::parse(&without_password("postgres", "/var/run/postgre sql", 5434)).unwrap();
        assert_eq!(made.address(), ("/var/run/postgre sql".to_owned(), 5434));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for text in
            ["db7", "http://db7", "postgresql://", "postgresql://a@h?sslcert=x", "postgresql://a@h?sslmode=x"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_is_refused() {
        for text in [
            "postgresql://blameio:x@Sup3rTail@127.0.0.1:55433/postgres",
            "postgresql://blameio:a@b/c@db7/postgres",
            "postgresql://blameio:s3cre#t@p/w@db7/postgres",
            "postgresql://blameio:s3cre#t@db7",
            "postgresql://blameio:a/b@db7/postgres",
            "postgresql://blameio:a?b@db7/postgres",
            "postgresql://db7?password=p@ss",
            "postgresql://db7:5432/postgres?password=p@ss",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("the password is not percent-encoded"), "{text}: {error}");
        }
        for text in [
            "postgresql://blameio:a%40b%2Fc%23d%3Fe@db7/postgres",
            "postgresql://blameio:a:b,c!$&'()*+;=~@db7/postgres",
            "postgresql://blameio@[::1]:5432/postgres",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_host_of_a_primary_is_asked_by_its_own_name_and_one_server_has_one() {
        let asked = |text: &str| {
            let dsns = Dsn::parse_primary(&Secret::new(text)).map_err(|error| error.to_string())?;
            assert!(
                dsns.iter().all(|dsn| dsn.config.get_hosts().len() + dsn.config.get_hostaddrs().len() == 1)
            );
            assert!(
                dsns.iter()
                    .all(|dsn| dsn.config.get_user() == Some("a") && dsn.config.get_ports().len() == 1)
            );
            Ok::<_, String>(dsns.iter().map(Dsn::server).collect::<Vec<_>>())
        };
        for (text, servers) in [
            ("postgresql://a:b%40@h1,h2:5433/x?target_session_attrs=read-write", vec!["h1:5432", "h2:5433"]),
            (
                "postgresql://a@[::1]:5432,db-7:5433?target_session_attrs=primary&connect_timeout=2",
                vec!["::1:5432", "db-7:5433"],
            ),
            (
                "postgresql://a@/x?hostaddr=10.0.0.1,10.0.0.2&port=6000&target_session_attrs=any",
                vec!["10.0.0.1:6000", "10.0.0.2:6000"],
            ),
        ] {
            assert_eq!(asked(text), Ok(servers.into_iter().map(str::to_owned).collect()), "{text}");
            assert!(parse(text).unwrap_err().to_string().contains("several hosts"), "{text}");
        }
        assert_eq!(asked("postgresql://a@h1/x"), Ok(vec!["h1:5432".to_owned()]));
        assert_eq!(parse("postgresql://a@:5433/x?host=%2Frun%2Fpg").unwrap().server(), "/run/pg:5433");
        let dsn = parse("postgresql://a:b%40@h1:7/x?sslmode=require&target_session_attrs=any").unwrap();
        assert_eq!((dsn.config.get_password(), dsn.config.get_dbname()), (Some(&b"b@"[..]), Some("x")));
        for text in [
            "postgresql://a@h1,h2/x?target_session_attrs=standby",
            "postgresql://a@h1/x?target_session_attrs=read-only",
            "postgresql://a@/x?host=h1,h2",
            "postgresql://a@h1,h2/x?port=1",
            "postgresql://a@h1/x?hostaddr=10.0.0.1,10.0.0.2",
        ] {
            assert!(Dsn::parse_primary(&Secret::new(text)).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_connection_string_is_told(
            parts in prop::collection::vec("[A-Z]{6,12}", 2..5),
            wrong in "(:|/|\\?|@|%|#|&|=|@@|@/|#@|/@|\\?@|\\[|\\\\| |,|;)",
            end in "(@h/db|@h:port|@h\\?x=1|@h\\?sslmode=no|@h/db\\?sslmode=disable|@\\[::1\\]:5432/db)",
        ) {
            let dsn = format!("postgresql://user:{}{end}", parts.join(&wrong));
            let told = match parse(&dsn) {
                Ok(dsn) => format!("{dsn:?} {} {:?}", dsn.server(), dsn.config.get_dbname()),
                Err(error) => format!("{error} {error:?}"),
            };
            for part in &parts {
                prop_assert!(!told.contains(part), "{}", told);
            }
        }

        #[test]
        fn an_encoded_password_is_read_and_not_told(password in "\\PC{1,20}") {
            let encoded: Vec<_> = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let encoded = encoded.concat();
            let dsn = parse(&format!("postgresql://user:{encoded}@db7/postgres")).unwrap();
            prop_assert_eq!(dsn.config.get_password(), Some(password.as_bytes()));
            prop_assert_eq!(format!("{:?}", dsn), "Dsn { server: \"db7:5432\", tls: Prefer, .. }");
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(postgresql://)?\\PC*") {
            drop(parse(&text).map(|dsn| format!("{dsn:?}")));
        }
    }
}
