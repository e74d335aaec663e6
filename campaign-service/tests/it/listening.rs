//! Listening: TLS, certificates that change, and no open address without authentication.

use crate::support::access::{Authority, Folder, Signer, claims, key_set, with_tls, with_tokens};
use crate::support::processes::{campaign_service, dialer_worker, dials};
use crate::support::{Clients, PATIENCE, Service, TestDb, eventually, open, test_options};
use campaign_service::server::{Access, Options};
use campaign_service::store::{Db, DbLimits};
use campaign_service::tls::{ClientFiles, Tls, TlsFiles};
use campaign_service::tokens::KeySource;
use campaign_testkit::Program;
use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Issues a certificate for the service. Returns its files.
pub fn files(folder: &Folder, authority: &Authority, client_ca: Option<PathBuf>) -> TlsFiles {
    let (cert, key) = authority.issue_to(folder, "service");
    TlsFiles { cert, key, clients: client_ca.map(|ca| ClientFiles { ca, crl: None }) }
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

/// Adds a client certificate of this authority.
fn vouched_for(trusting: ClientTlsConfig, authority: &Authority) -> ClientTlsConfig {
    let (certificate, key) = authority.issue();
    trusting.identity(Identity::from_pem(certificate, key))
}

/// Connects anew and asks for the service's health.
async fn health(url: &str, tls: Option<ClientTlsConfig>) -> Result<(), String> {
    let mut endpoint = Channel::from_shared(url.to_owned()).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).unwrap();
    }
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    let request = HealthCheckRequest { service: String::new() };
    let checked = HealthClient::new(channel).check(request).await;
    checked.map(|_| ()).map_err(|status| status.to_string())
}

async fn start(db: &TestDb, access: Access, tls: ClientTlsConfig) -> Service {
    let options = Options { access, ..test_options() };
    Service::start_over(db, options, Some(tls)).await
}

#[tokio::test]
async fn who_does_not_trust_the_certificate_or_speaks_no_tls_does_not_connect() {
    let db = TestDb::new().await;
    let (folder, ours, other) = (Folder::new(), Authority::new(), Authority::new());
    let access = with_tls(&files(&folder, &ours, None));
    let service = start(&db, access, trusting(&ours)).await;
    health(&service.url, Some(trusting(&ours))).await.unwrap();
    let error = health(&service.url, Some(trusting(&other))).await.unwrap_err();
    assert!(error.contains("InvalidCertificate"), "{error}");
    health(&service.url.replace("https", "http"), None).await.unwrap_err();
}

#[tokio::test]
async fn without_a_certificate_that_is_vouched_for_no_client_connects() {
    let db = TestDb::new().await;
    let (folder, ours, clients) = (Folder::new(), Authority::new(), Authority::new());
    let client_ca = folder.write("client-ca.pem", &clients.pem());
    let access = with_tls(&files(&folder, &ours, Some(client_ca)));
    let known = vouched_for(trusting(&ours), &clients);
    let service = start(&db, access, known.clone()).await;
    health(&service.url, Some(known)).await.unwrap();
    health(&service.url, Some(trusting(&ours))).await.unwrap_err();
    let strange = vouched_for(trusting(&ours), &ours);
    health(&service.url, Some(strange)).await.unwrap_err();
    // The authority of client certificates changes, too.
    let newcomers = Authority::new();
    let newcomer = vouched_for(trusting(&ours), &newcomers);
    health(&service.url, Some(newcomer.clone())).await.unwrap_err();
    folder.write("client-ca.pem", &format!("{}{}", clients.pem(), newcomers.pem()));
    eventually("the new client is accepted", || health_ok(&service.url, newcomer.clone())).await;
}

#[tokio::test]
async fn a_certificate_that_was_revoked_lets_nobody_in() {
    let db = TestDb::new().await;
    let (folder, ours, clients) = (Folder::new(), Authority::new(), Authority::new());
    let ca = folder.write("client-ca.pem", &clients.pem());
    let crl = folder.write("revoked.pem", &clients.revoke(&[7]));
    let (cert, key) = ours.issue_to(&folder, "service");
    let access =
        with_tls(&TlsFiles { cert, key, clients: Some(ClientFiles { ca, crl: Some(crl) }) });
    let client = |number: u64| {
        let (certificate, key) = clients.issue_numbered(number);
        trusting(&ours).identity(Identity::from_pem(certificate, key))
    };
    let [revoked, leaving, staying] = [7, 8, 9].map(client);
    let service = start(&db, access, staying.clone()).await;
    health(&service.url, Some(leaving.clone())).await.unwrap();
    health(&service.url, Some(revoked.clone())).await.unwrap_err();
    // A revocation list that cannot be read or parsed changes nothing.
    for nonsense in ["nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
        folder.write("revoked.pem", nonsense);
        tokio::time::sleep(Duration::from_millis(100)).await;
        health(&service.url, Some(revoked.clone())).await.unwrap_err();
        health(&service.url, Some(staying.clone())).await.unwrap();
    }
    folder.write("revoked.pem", &clients.revoke(&[7, 8]));
    eventually("the revoked client is rejected", || async {
        health(&service.url, Some(leaving.clone())).await.err()
    })
    .await;
    health(&service.url, Some(staying)).await.unwrap();
    health(&service.url, Some(revoked)).await.unwrap_err();
}

async fn health_ok(url: &str, tls: ClientTlsConfig) -> Option<()> {
    health(url, Some(tls)).await.ok()
}

#[tokio::test]
async fn certificates_change_while_the_service_runs() {
    let db = TestDb::new().await;
    let (folder, old, new) = (Folder::new(), Authority::new(), Authority::new());
    let service = start(&db, with_tls(&files(&folder, &old, None)), trusting(&old)).await;
    health(&service.url, Some(trusting(&new))).await.unwrap_err();
    let _ = files(&folder, &new, None);
    eventually("the new certificate is shown", || health_ok(&service.url, trusting(&new))).await;
    health(&service.url, Some(trusting(&old))).await.unwrap_err();
    // Open connections stay open.
    service.clients.clone().create_campaign().await;
    let (certificate, _) = old.issue();
    for (name, text) in [("service-key.pem", "nonsense"), ("service.pem", certificate.as_str())] {
        folder.write(name, text);
        tokio::time::sleep(Duration::from_millis(100)).await;
        health(&service.url, Some(trusting(&new))).await.unwrap();
    }
    let _ = files(&folder, &old, None);
    eventually("a right one is shown again", || health_ok(&service.url, trusting(&old))).await;
}

#[tokio::test]
async fn who_greets_slowly_holds_up_nobody_and_is_left() {
    let db = TestDb::new().await;
    let (folder, ours) = (Folder::new(), Authority::new());
    let service = start(&db, with_tls(&files(&folder, &ours, None)), trusting(&ours)).await;
    let address = service.url.strip_prefix("https://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let begun = Instant::now();
    health(&service.url, Some(trusting(&ours))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for the silent ones");
    for stream in &mut silent {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        assert!(!matches!(read, Ok(Ok(1)) | Err(_)), "a silent connection was kept");
    }
}

/// Returns the service's program with these flags.
fn service_program(db: &TestDb, flags: &[&str]) -> Command {
    let mut command = campaign_service();
    command.arg("serve").args(flags).env("DATABASE_URL", &db.url).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn it_does_not_listen_to_everyone_without_authentication() {
    let db = TestDb::new().await;
    let output = service_program(&db, &["--listen", "0.0.0.0:0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    for flag in ["--token-jwks-file", "--insecure-no-authentication"] {
        assert!(said.contains(flag), "{said}");
    }
    let folder = Folder::new();
    let keys = folder.write("keys.json", &key_set(&[&Signer::new("first")]));
    let keys = keys.to_str().unwrap();
    // Keys without an audience are not enough.
    let output = service_program(&db, &["--token-jwks-file", keys]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--token-audience"));
    let authenticated = ["--token-jwks-file", keys, "--token-audience", "campaigns"];
    for (flags, warning) in [
        (&["--insecure-no-authentication"][..], "no authentication"),
        (&authenticated[..], "in the clear"),
    ] {
        let flags = [&["--listen", "0.0.0.0:0", "--log", "info"], flags].concat();
        let mut service = Program::start(&mut service_program(&db, &flags)).unwrap();
        let lines = BufReader::new(service.take_stderr().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        assert!(lines.any(|line| line.contains(warning)), "{flags:?}: no warning");
        assert!(lines.any(|line| line.contains("serving")), "{flags:?}: does not serve");
    }
}

/// Speaks TLS as PostgreSQL does, and passes the bytes on to a server without TLS. Returns the port.
pub async fn tls_before_postgres(db: &TestDb, files: &TlsFiles) -> u16 {
    let config: tokio_postgres::Config = db.url.parse().unwrap();
    let tls = Arc::new(Tls::open(files).unwrap());
    let (listener, port) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), config.get_ports()[0]);
    let own_port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // "SSL?" is answered "yes" before the handshake.
            let mut question = [0; 8];
            stream.read_exact(&mut question).await.unwrap();
            assert_eq!(question, [0, 0, 0, 8, 4, 210, 22, 47]);
            stream.write_all(b"S").await.unwrap();
            let greeting = Arc::clone(&tls).greet(stream);
            tokio::spawn(async move {
                let Ok(mut stream) = greeting.await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    own_port
}

#[tokio::test]
async fn the_database_is_reached_over_tls_that_is_verified() {
    let db = TestDb::new().await;
    let (folder, ours, other) = (Folder::new(), Authority::new(), Authority::new());
    let port = tls_before_postgres(&db, &files(&folder, &ours, None)).await;
    let direct = db.url.parse::<tokio_postgres::Config>().unwrap().get_ports()[0];
    let through = db.url.replace(&format!(":{direct}/"), &format!(":{port}/"));
    // The certificate has another name.
    let elsewhere = through.replace("127.0.0.1", "elsewhere.example");
    let limits = DbLimits {
        max_connections: 4,
        connection_wait: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    };
    let open = |url: String, ca: &Authority| {
        let file = folder.write("database-ca.pem", &ca.pem());
        Db::new(&url, Some(&file), &limits)
    };
    for mode in ["require", "verify-ca", "verify-full"] {
        let db = open(format!("{through}?sslmode={mode}"), &ours).unwrap();
        db.ping().await.unwrap();
        db.listen().await.unwrap();
        let strange = open(format!("{through}?sslmode={mode}"), &other).unwrap();
        strange.ping().await.unwrap_err();
        assert!(strange.listen().await.is_err());
        let named = open(format!("{elsewhere}?hostaddr=127.0.0.1&sslmode={mode}"), &ours).unwrap();
        assert_eq!(named.ping().await.is_ok(), mode == "verify-ca", "{mode}");
    }
    assert!(
        open(format!("{through}?sslmode=prefer"), &ours).unwrap_err().contains("sslmode=require")
    );
    let root = folder.write("root.pem", &ours.pem());
    let url = format!("{through}?sslmode=verify-full&sslrootcert={}", root.display());
    Db::new(&url, None, &limits).unwrap().ping().await.unwrap();
    assert!(open(url, &ours).unwrap_err().contains("sslrootcert"));
}

#[tokio::test]
async fn a_database_that_wants_a_certificate_gets_the_url_s() {
    let db = TestDb::new().await;
    let (folder, ours) = (Folder::new(), Authority::new());
    let ca = folder.write("ca.pem", &ours.pem());
    let port = tls_before_postgres(&db, &files(&folder, &ours, Some(ca.clone()))).await;
    let direct = db.url.parse::<tokio_postgres::Config>().unwrap().get_ports()[0];
    let through = db.url.replace(&format!(":{direct}/"), &format!(":{port}/"));
    let (cert, key) = ours.issue_to(&folder, "client");
    let url = format!("{through}?sslmode=verify-full&sslrootcert={}", ca.display());
    open(&url).ping().await.unwrap_err();
    let identity = format!("&sslcert={}&sslkey={}", cert.display(), key.display());
    open(&format!("{url}{identity}")).ping().await.unwrap();
}

/// Waits until so many attempts are in the history.
async fn await_attempts(clients: &Clients, name: &str, attempts: i64) {
    eventually("everyone is dialled and reported", || async {
        let history = clients.clone().progress(name).await.history.unwrap();
        (history.attempts == attempts).then_some(())
    })
    .await;
}

/// A real worker connects over TLS with a client certificate. Its token is missing, rejected, valid, and expired while
/// another is in the file. The certificates of both sides change. Every contact is dialled once.
#[tokio::test]
async fn a_worker_goes_on_while_tokens_and_certificates_change() {
    let db = TestDb::new().await;
    let folder = Folder::new();
    let (old, new, signer) = (Authority::new(), Authority::new(), Signer::new("first"));
    let keys = folder.write("keys.json", &key_set(&[&signer]));
    let client_ca = folder.write("client-ca.pem", &old.pem());
    let tls = Tls::open(&files(&folder, &old, Some(client_ca))).unwrap();
    let mut access = with_tokens(KeySource::Jwks(keys));
    access.tls = Some(tls.into());
    let service = start(&db, access, vouched_for(trusting(&old), &old)).await;
    let mut clients = service.clients.with_token(&signer.token("acme", &["operator"]));
    let name = clients.launch_endless().await;

    let ca = folder.write("ca.pem", &old.pem());
    let (cert, key) = old.issue_to(&folder, "worker");
    let (token, log) = (folder.path("token"), folder.path("dials"));
    let until = |end: u64| {
        let mut claims = claims("acme", &["worker"]);
        claims["exp"] = json!(end);
        signer.sign(&claims)
    };
    let mut worker = dialer_worker();
    worker
        .args(["--service-url", &service.url, "--worker-id", "worker", "--log", "warn"])
        .args(["--time-scale", "0.001", "--max-calls", "40"])
        .arg("--service-ca-file")
        .arg(ca)
        .arg("--service-client-cert-file")
        .arg(cert)
        .arg("--service-client-key-file")
        .arg(key)
        .arg("--token-file")
        .arg(token)
        .arg("--dial-log")
        .arg(&log);
    let mut worker = Program::start(&mut worker).unwrap();
    let mut ends_at = 0;
    for round in 0..4_usize {
        match round {
            // There is no token at first, then one that is rejected, then a valid one.
            0 => {
                folder.write("token", &signer.token("acme", &["viewer"]));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            // The service's certificate and the authority of clients are new.
            2 => {
                folder.write("client-ca.pem", &new.pem());
                folder.write("ca.pem", &new.pem());
                new.issue_to(&folder, "worker");
                new.issue_to(&folder, "service");
            }
            _ => {}
        }
        // The token of the last round expires, its stream ends, and the worker finds this token.
        let before = ends_at;
        ends_at = before.max(get_current_timestamp()) + 4;
        folder.write("token", &format!("{}\n", until(ends_at)));
        eventually("the token before is over", || async {
            (get_current_timestamp() > before).then_some(())
        })
        .await;
        clients.add_contacts(&name, round * 20..(round + 1) * 20).await;
        await_attempts(&clients, &name, (round as i64 + 1) * 20).await;
    }
    assert!(worker.ended().unwrap().is_none(), "the worker gave up");
    check_dialled_once(&log, 80);
}

/// Checks that so many contacts were dialled, each once.
fn check_dialled_once(log: &Path, contacts: usize) {
    let mut dialled: Vec<String> = dials(log).into_iter().map(|dial| dial.contact).collect();
    assert_eq!(dialled.len(), contacts);
    dialled.sort();
    dialled.dedup();
    assert_eq!(dialled.len(), contacts, "someone was dialled twice");
}
