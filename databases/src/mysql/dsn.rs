//! Connection strings of MySQL and MariaDB, as URLs. Each leads to one host: of a string with several one is made for
//! each. A database that it names is of no matter: nothing here needs one.
//!
//! No error and no `Debug` shows any part of the string but host, port and socket.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use blameio_config::Secret;

use crate::{error::DatabaseError, url};

/// Port of a server that names none.
pub(super) const PORT: u16 = 3306;

/// How far the server's certificate is looked at; as the clients of MySQL have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum TlsMode {
    /// No TLS.
    Disabled,
    /// TLS if the server has it, whoever the server is.
    #[default]
    Preferred,
    /// TLS, whoever the server is.
    Required,
    /// TLS, and the certificate is of a trusted authority and for this host.
    VerifyIdentity,
}

/// Where a connection string leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// A connection string, of one host.
#[derive(Clone)]
pub(crate) struct Dsn {
    /// `db.system.name` that its scheme says; the server itself may know better.
    pub(crate) system: &'static str,
    pub(crate) host: Host,
    pub(crate) user: String,
    pub(super) password: Option<String>,
    pub(crate) tls: TlsMode,
    /// PEM file of trusted authorities; the host's own where there is none.
    pub(crate) authorities: Option<PathBuf>,
}

/// Options that clients of MySQL know and that make no difference here.
const IGNORED: &[&str] = &[
    "charset",
    "collation",
    "compression",
    "compression-algorithms",
    "connect-timeout",
    "connect_timeout",
    "connection-attributes",
    "program_name",
    "tls-version",
];

/// Options that would change what the operator asked for if they were ignored.
const REFUSED: &[&str] = &[
    "ssl-cert",
    "ssl-key",
    "ssl-crl",
    "ssl-crlpath",
    "ssl-capath",
    "ssl-cipher",
    "auth-method",
    "server-public-key-path",
];

impl Dsn {
    /// What a connection string looks like.
    pub(crate) const EXAMPLE: &'static str = "write it as \
        mysql://blameio:PASSWORD@db.example.org:3306/?ssl-mode=VERIFY_IDENTITY or \
        mysql://blameio:PASSWORD@localhost/?socket=/run/mysqld/mysqld.sock, with the characters \
        : / ? # @ % of the password percent-encoded";

    /// Reads the connection string of one server.
    pub(crate) fn parse(dsn: &Secret) -> Result<Self, DatabaseError> {
        let mut dsns = Self::parse_primary(dsn)?;
        match (dsns.pop(), dsns.is_empty()) {
            (Some(dsn), true) => Ok(dsn),
            _ => Err(refuse("it names several hosts, and one server is meant; declare a database for each")),
        }
    }

    /// Reads the connection string of the server that is replicated from: one for each of its hosts, any of which may
    /// be it.
    pub(crate) fn parse_primary(dsn: &Secret) -> Result<Vec<Self>, DatabaseError> {
        let text = dsn.expose();
        let (system, rest) = match text.split_once("://") {
            Some(("mysql", rest)) => (super::MYSQL, rest),
            Some(("mariadb", rest)) => (super::MARIADB, rest),
            _ => return Err(refuse("it must begin with mysql:// or mariadb://")),
        };
        url::is_encoded(text).map_err(refuse)?;
        let (before, options) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before.split('/').next().unwrap_or_default();
        let (user, hosts) = authority.split_once('@').unwrap_or(("", authority));
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user, None),
        };
        let wrong = || refuse("the user or the password is not percent-encoded as it should be");
        let user = Some(url::decode(user).ok_or_else(wrong)?).filter(|user| !user.is_empty());
        let password = password.map(|password| url::decode(password).ok_or_else(wrong)).transpose()?;
        let Options { tls, authorities, socket } = Options::read(options)?;
        let hosts = match socket {
            Some(socket) => {
                // As every client has it, `localhost` stands for the socket.
                if !["", "localhost"].contains(&host_and_port(hosts)?.0.as_str()) {
                    return Err(refuse("it names a host and a socket; a socket is on this host"));
                }
                vec![Host::Socket(socket)]
            }
            None => hosts.split(',').map(tcp).collect::<Result<_, _>>()?,
        };
        let one = |host: Host| Self {
            system,
            // There is no TLS on a Unix socket, whatever is asked for.
            tls: if matches!(host, Host::Socket(_)) { TlsMode::Disabled } else { tls },
            host,
            user: user.clone().or_else(url::operating_system_user).unwrap_or_else(|| "root".to_owned()),
            password: password.clone(),
            authorities: authorities.clone(),
        };
        Ok(hosts.into_iter().map(one).collect())
    }

    /// Host name or address and port; of a socket its path, and no port.
    pub(crate) fn address(&self) -> (String, u16) {
        match &self.host {
            Host::Tcp(host, port) => (host.clone(), *port),
            Host::Socket(path) => (path.display().to_string(), 0),
        }
    }

    /// Host and port in one, or the socket.
    pub(crate) fn server(&self) -> String {
        match &self.host {
            Host::Tcp(host, port) => format!("{host}:{port}"),
            Host::Socket(path) => path.display().to_string(),
        }
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn").field("server", &self.server()).field("tls", &self.tls).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Options {
    tls: TlsMode,
    authorities: Option<PathBuf>,
    socket: Option<PathBuf>,
}

impl Options {
    fn read(options: &str) -> Result<Self, DatabaseError> {
        let mut read = Self::default();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            // A value may be a path, which need not be encoded where the driver does not read it.
            let path = || {
                let path = url::decode(value).map(PathBuf::from);
                path.filter(|path| path.is_absolute())
                    .ok_or_else(|| refuse("the value of socket or ssl-ca is not an absolute path"))
            };
            match key {
                "ssl-mode" | "ssl_mode" | "sslmode" => read.tls = tls_mode(value)?,
                "ssl-ca" | "ssl_ca" => read.authorities = Some(path()?),
                "socket" => read.socket = Some(path()?),
                _ if IGNORED.contains(&key) => {}
                _ if REFUSED.contains(&key) => {
                    return Err(refuse(format!("the option {key} is not supported")));
                }
                _ => {
                    return Err(refuse(
                        "an option after '?' is not known; ssl-mode, ssl-ca and socket are, or the password is not \
                         percent-encoded",
                    ));
                }
            }
        }
        Ok(read)
    }
}

fn refuse(reason: impl Into<String>) -> DatabaseError {
    DatabaseError::Dsn { reason: reason.into() }
}

fn tls_mode(value: &str) -> Result<TlsMode, DatabaseError> {
    Ok(match value.to_ascii_uppercase().as_str() {
        "DISABLED" => TlsMode::Disabled,
        "PREFERRED" => TlsMode::Preferred,
        "REQUIRED" => TlsMode::Required,
        "VERIFY_IDENTITY" => TlsMode::VerifyIdentity,
        "VERIFY_CA" => {
            return Err(refuse("ssl-mode=VERIFY_CA is not supported; use VERIFY_IDENTITY"));
        }
        _ => {
            return Err(refuse("ssl-mode must be one of DISABLED, PREFERRED, REQUIRED, VERIFY_IDENTITY"));
        }
    })
}

fn host_and_port(text: &str) -> Result<(String, u16), DatabaseError> {
    let wrong = || refuse("host or port cannot be read, or the password is not percent-encoded");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")).ok_or_else(wrong)?)
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        if port.contains(':') || host.contains(['[', ']']) {
            return Err(wrong());
        }
        (host, port)
    };
    let port =
        if port.is_empty() { PORT } else { port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)? };
    Ok((url::decode(host).ok_or_else(wrong)?, port))
}

fn tcp(text: &str) -> Result<Host, DatabaseError> {
    let (host, port) = host_and_port(text)?;
    if host.is_empty() {
        return Err(refuse("it names no host and no socket"));
    }
    // A name that is not plain could be anything, and is told in errors.
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || "._:-%".contains(c)) {
        return Err(refuse("the host holds a character that no host has; a socket is named by socket=/path"));
    }
    Ok(Host::Tcp(host, port))
}

/// A connection string for a socket, without a password.
pub(super) fn without_password(system: &str, user: &str, socket: &Path) -> Option<Secret> {
    let socket = url::encode(socket.to_str()?);
    Some(Secret::new(format!("{system}://{}@localhost/?socket={socket}", url::encode(user))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Dsn, DatabaseError> {
        Dsn::parse(&Secret::new(text))
    }

    #[test]
    fn hosts_sockets_and_options_are_read() {
        let tcp = |host: &str, port| Host::Tcp(host.to_owned(), port);
        let socket = || Host::Socket("/run/mysqld/mysqld.sock".into());
        for (text, system, host, tls) in [
            ("mysql://a:b@h", "mysql", tcp("h", 3306), TlsMode::Preferred),
            ("mariadb://a:b@h:3307/shop", "mariadb", tcp("h", 3307), TlsMode::Preferred),
            ("mysql://a@[::1]:7/?ssl-mode=required", "mysql", tcp("::1", 7), TlsMode::Required),
            (
                "mysql://a@db-7.x/?ssl_mode=VERIFY_IDENTITY&charset=x",
                "mysql",
                tcp("db-7.x", 3306),
                TlsMode::VerifyIdentity,
            ),
            ("mysql://a@localhost/?socket=/run/mysqld/mysqld.sock", "mysql", socket(), TlsMode::Disabled),
            (
                "mysql://a@/?ssl-mode=REQUIRED&socket=%2Frun%2Fmysqld%2Fmysqld.sock",
                "mysql",
                socket(),
                TlsMode::Disabled,
            ),
            ("mysql://a@localhost", "mysql", tcp("localhost", 3306), TlsMode::Preferred),
        ] {
            let dsn = parse(text).unwrap();
            assert_eq!((dsn.system, &dsn.host, dsn.tls), (system, &host, tls), "{text}");
            assert_eq!(dsn.user, "a");
        }
        let dsn = parse("mysql://a%40b:c%3Ad@h/?ssl-ca=%2Fca.pem").unwrap();
        assert_eq!((dsn.user.as_str(), dsn.password.as_deref()), ("a@b", Some("c:d")));
        assert_eq!(dsn.authorities, Some("/ca.pem".into()));
        assert_eq!(parse("mysql://h").unwrap().password, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, reason) in [
            ("mysql:", "must begin"),
            ("postgresql://a@h", "must begin"),
            ("mysql://", "no host"),
            ("mysql://a@:3306/", "no host"),
            ("mysql://a@h:0/", "port"),
            ("mysql://a@h:1:2/", "port"),
            ("mysql://a@[::1/", "host or port"),
            ("mysql://a@%2Frun%2Fmysqld.sock/", "socket=/path"),
            ("mysql://a@h/?socket=/x", "host and a socket"),
            ("mysql://a@localhost/?socket=x", "absolute"),
            ("mysql://a@h/?ssl-mode=verify_ca", "VERIFY_IDENTITY"),
            ("mysql://a@h/?ssl-mode=x", "ssl-mode must be"),
            ("mysql://a@h/?ssl-cert=/x", "ssl-cert is not supported"),
            ("mysql://a@h/?no=x", "not known"),
            ("mysql://a:b%@h/", "percent-encoded"),
            ("mysql://a:b@c@h/", "percent-encoded"),
            ("mysql://a@h1,h2/", "several hosts"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_primary_may_have_several_hosts() {
        let dsns =
            Dsn::parse_primary(&Secret::new("mysql://a:b@h1,[::1]:7,h3:8/?ssl-mode=REQUIRED")).unwrap();
        let servers: Vec<_> = dsns.iter().map(Dsn::server).collect();
        assert_eq!(servers, ["h1:3306", "::1:7", "h3:8"]);
        assert!(dsns.iter().all(|dsn| dsn.tls == TlsMode::Required));
    }

    #[test]
    fn what_discovery_makes_is_read_again() {
        let made = without_password("mariadb", "ro ot", Path::new("/run/my sql&x=/s@ck")).unwrap();
        let dsn = Dsn::parse(&made).unwrap();
        assert_eq!((dsn.user.as_str(), dsn.host), ("ro ot", Host::Socket("/run/my sql&x=/s@ck".into())));
    }

    proptest! {
        #[test]
        fn nothing_of_a_connection_string_is_told(
            parts in prop::collection::vec("[A-Z]{6,12}", 2..5),
            wrong in "(:|/|\\?|@|%|#|&|=|@@|@/|#@|/@|\\?@|\\[|\\\\| |,|;)",
            end in "(@h/db|@h:port|@h\\?x=1|@h\\?ssl-mode=no|@h/db\\?ssl-mode=DISABLED|@\\[::1\\]:5432/db|@/\\?socket=/x)",
        ) {
            let dsn = format!("mysql://user:{}{end}", parts.join(&wrong));
            let told = match parse(&dsn) {
                Ok(dsn) => format!("{dsn:?} {}", dsn.server()),
                Err(error) => format!("{error} {error:?}"),
            };
            for part in &parts {
                prop_assert!(!told.contains(part), "{}", told);
            }
        }

        #[test]
        fn an_encoded_password_is_read_and_not_told(password in "\\PC{1,20}") {
            let dsn = parse(&format!("mysql://user:{}@db7", url::encode(&password))).unwrap();
            prop_assert_eq!(dsn.password.as_deref(), Some(password.as_str()));
            prop_assert_eq!(format!("{:?}", dsn), "Dsn { server: \"db7:3306\", tls: Preferred, .. }");
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(mysql://)?\\PC*") {
            drop(parse(&text).map(|dsn| format!("{dsn:?}")));
        }
    }
}
