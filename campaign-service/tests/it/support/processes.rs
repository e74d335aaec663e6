//! The programs as processes of their own.

use campaign_testkit::Program;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SERVICE: &str = env!("CARGO_BIN_EXE_campaign-service");

/// Returns the service's program.
pub fn campaign_service() -> Command {
    Command::new(SERVICE)
}

/// Starts a replica on this port.
pub fn serve(url: &str, port: u16, lease_ttl_seconds: u32) -> Program {
    let mut service = campaign_service();
    service
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log", "error"])
        .args(["--lease-ttl-seconds", &lease_ttl_seconds.to_string()])
        .args(["--chore-interval-millis", "100"])
        // The trunk of the simulated provider is congested at times, and tests do not wait a minute.
        .env("CAMPAIGN_CONGESTED_RETRY_SECONDS", "1")
        .env("DATABASE_URL", url);
    Program::start(&mut service).unwrap()
}

/// Runs a command of the service's program on a database. Returns whether it succeeded, and its output.
pub fn run(url: &str, command: &str) -> (bool, String) {
    let output = campaign_service().arg(command).env("DATABASE_URL", url).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

pub async fn migrate(url: &str) {
    campaign_testkit::migrate(Path::new(SERVICE), url).await.unwrap();
}

/// Starts a worker with the simulated provider, which logs its dials to a file.
pub fn work(id: &str, ports: &[u16], log: &Path, time_scale: &str) -> Program {
    let urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let mut worker = dialer_worker();
    worker
        .args(["--service-url", &urls.join(","), "--worker-id", id])
        .args(["--max-calls", "40", "--time-scale", time_scale, "--log", "error"])
        .args(["--congested-percent", "3"])
        .arg("--dial-log")
        .arg(log);
    Program::start(&mut worker).unwrap()
}

/// Returns the path of a program of another package, which `make build` puts beside the service's.
pub fn beside(name: &str) -> PathBuf {
    campaign_testkit::beside(Path::new(SERVICE), name).unwrap()
}

/// Returns the worker's program.
pub fn dialer_worker() -> Command {
    Command::new(beside("dialer-worker"))
}

/// Dial in the provider's own log.
#[derive(Debug)]
pub struct Dial {
    pub attempt_id: String,
    pub contact: String,
}

/// Returns the provider's dials, in order.
pub fn dials(log: &Path) -> Vec<Dial> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let dialed = lines.filter(|line| line["event"] == "dialed");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    dialed
        .map(|line| Dial { attempt_id: text(&line["attempt_id"]), contact: text(&line["contact"]) })
        .collect()
}

/// Returns the metrics that a program shows Prometheus.
pub async fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("# EOF"), "{text}");
    text
}
