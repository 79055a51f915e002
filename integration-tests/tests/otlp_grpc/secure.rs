//! TLS: who is believed, who is let in, and certificates that change while the agent runs.

use std::{fs, path::Path, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    exporter::{SOON, Sender, batch, until},
    receiver::{Options, Receiver, Server},
};

/// An authority that vouches for servers and clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of the tests");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn server(&self, name: &str) -> ServerTlsConfig {
        let pair = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        ServerTlsConfig::new().identity(Identity::from_pem(pair.certificate, pair.key))
    }
}

fn secured(tls: ServerTlsConfig) -> Options {
    Options { tls: Some(tls), ..Options::default() }
}

/// Settings of one attempt, whose outcome is seen.
fn settings(port: u16, tls: &str) -> String {
    format!(
        "endpoint: 'localhost:{port}', tls: {{{tls}}}, timeout: 30s, sending_queue: {{enabled: false}}, \
         retry_on_failure: {{enabled: false}}"
    )
}

async fn attempt(port: u16, tls: &str) -> Result<(), String> {
    let sender = Sender::start(&settings(port, tls)).await;
    sender.send(batch(1)).await.map_err(|error| error.to_string())
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).expect("a file");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_server_that_can_be_believed_is_sent_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let ca = write(&dir.path().join("ca.pem"), &authority.pem());
    let stranger = write(&dir.path().join("stranger.pem"), &Authority::new().pem());
    let receiver = Receiver::default();
    let server = Server::start(&receiver, secured(authority.server("localhost")));
    for (tls, reason) in [
        (String::new(), "UnknownIssuer"),
        (format!("ca_file: {stranger}"), "check tls::ca_file"),
        (format!("ca_file: {ca}, server_name_override: other.example.org"), "server_name_override"),
        (format!("ca_file: {}", dir.path().join("gone.pem").display()), "gone.pem cannot be read"),
        ("insecure: true".to_owned(), "connection broke"),
    ] {
        let error = attempt(server.port, &tls).await.expect_err(&tls);
        assert!(error.contains(reason), "{tls}: {error}");
    }
    assert!(receiver.attempts().is_empty());
    let pem = authority.pem().replace('\n', "\\n");
    let accepted = [
        format!("ca_file: {ca}"),
        format!("ca_pem: \"{pem}\""),
        format!("ca_file: {ca}, min_version: '1.3'"),
        format!("ca_file: {ca}, max_version: '1.2'"),
        format!("ca_file: {ca}, include_system_ca_certs_pool: true"),
        format!("ca_file: {ca}, insecure: true"),
        "insecure_skip_verify: true".to_owned(),
    ];
    for tls in &accepted {
        attempt(server.port, tls).await.expect(tls);
    }
    assert_eq!(receiver.taken().len(), accepted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_a_server_can_be_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let ca = write(&dir.path().join("ca.pem"), &authority.pem());
    let receiver = Receiver::default();
    let server = Server::start(&receiver, secured(authority.server("collector.example.org")));
    let error = attempt(server.port, &format!("ca_file: {ca}")).await.expect_err("another name");
    assert!(error.contains("collector.example.org"), "{error}");
    attempt(server.port, &format!("ca_file: {ca}, server_name_override: collector.example.org"))
        .await
        .expect("its name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_a_certificate_is_shown_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let ca = write(&dir.path().join("ca.pem"), &authority.pem());
    let client = authority.issue("agent.example.org", ExtendedKeyUsagePurpose::ClientAuth);
    let cert = write(&dir.path().join("agent.pem"), &client.certificate);
    let key = write(&dir.path().join("agent.key"), &client.key);
    let other = authority.issue("agent.example.org", ExtendedKeyUsagePurpose::ClientAuth);
    let wrong = write(&dir.path().join("other.key"), &other.key);
    let receiver = Receiver::default();
    let tls = authority.server("localhost").client_ca_root(Certificate::from_pem(authority.pem()));
    let server = Server::start(&receiver, secured(tls));
    attempt(server.port, &format!("ca_file: {ca}")).await.expect_err("nobody in particular");
    let error = attempt(server.port, &format!("ca_file: {ca}, cert_file: {cert}, key_file: {wrong}")).await;
    assert!(error.expect_err("not its key").contains("do not go together"));
    assert!(receiver.attempts().is_empty());
    attempt(server.port, &format!("ca_file: {ca}, cert_file: {cert}, key_file: {key}"))
        .await
        .expect("let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_taken_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ca.pem");
    let (before, after) = (Authority::new(), Authority::new());
    let ca = write(&path, &before.pem());
    let receiver = Receiver::default();
    let server = Server::start(&receiver, secured(before.server("localhost")));
    let port = server.port;
    let sender =
        Sender::start(&format!("endpoint: 'localhost:{port}', tls: {{ca_file: {ca}}}, {SOON}")).await;
    sender.send(batch(1)).await.expect("queued");
    until("the first does not arrive", || receiver.taken().len() == 1).await;
    drop(server);
    let _server = Server::start(&receiver, Options { port, ..secured(after.server("localhost")) });
    sender.send(batch(2)).await.expect("queued");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.taken().len(), 1, "the new authority is not trusted yet");
    write(&path, &after.pem());
    until("the second does not arrive", || receiver.taken().len() == 2).await;
    sender.shutdown().await;
    assert_eq!(sender.counter("otelcol_exporter_send_failed_metric_points"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_told_from_one_that_is_down() {
    let server = Server::start(&Receiver::default(), Options::default());
    let error = attempt(server.port, "insecure_skip_verify: true").await.expect_err("it speaks no TLS");
    assert!(error.contains("set tls::insecure: true"), "{error}");
}
