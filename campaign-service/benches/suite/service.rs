//! Programs under measurement, as processes of their own.

use campaign_testkit::{Program, beside, free_address, migrate};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;

const SERVICE: &str = env!("CARGO_BIN_EXE_campaign-service");
/// Flags for measurements that dial the same numbers again and again: no daily cap of attempts.
pub const UNCAPPED: &[&str] = &["--max-attempts-per-number", "0"];
/// Longest wait for a program to serve.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Starts a program.
pub fn start(command: &mut Command) -> Program {
    Program::start(command).unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Returns the memory that a program uses, in megabytes.
pub fn resident_megabytes(program: &Program) -> f64 {
    megabytes(program, "VmRSS")
}

/// Returns the most memory that a program ever used, in megabytes.
pub fn peak_megabytes(program: &Program) -> f64 {
    megabytes(program, "VmHWM")
}

fn megabytes(program: &Program, field: &str) -> f64 {
    let size = program.kibibytes(field);
    size.unwrap_or_else(|error| panic!("memory is measured on Linux only: {error}")) as f64
        / 1_024.0
}

/// Replica of the service.
pub struct Replica {
    pub program: Program,
    pub url: String,
    pub channel: Channel,
    address: SocketAddr,
}

impl Replica {
    /// Opens one more connection to the replica.
    pub async fn connect(&self) -> Channel {
        connect(self.address).await
    }

    /// Brings the database up to date and starts one replica.
    pub async fn first(database_url: &str) -> Self {
        Self::first_with(database_url, &[]).await
    }

    /// Does the same as `first`, with flags.
    pub async fn first_with(database_url: &str, flags: &[&str]) -> Self {
        Self::first_logging_to(database_url, flags, Stdio::inherit()).await
    }

    /// Does the same as `first_with`, with the logs elsewhere.
    pub async fn first_logging_to(database_url: &str, flags: &[&str], logs: Stdio) -> Self {
        migrate(Path::new(SERVICE), database_url).await.unwrap();
        Self::start_logging_to(database_url, flags, logs).await
    }

    pub async fn start(database_url: &str, flags: &[&str]) -> Self {
        Self::start_logging_to(database_url, flags, Stdio::inherit()).await
    }

    async fn start_logging_to(database_url: &str, flags: &[&str], logs: Stdio) -> Self {
        let address = free_address();
        let program = serve(address, database_url, flags, logs);
        let channel = connect(address).await;
        Self { program, url: format!("http://{address}"), channel, address }
    }

    /// Starts the replica again, at the same address.
    pub async fn restart(&mut self, database_url: &str, flags: &[&str]) {
        self.program = serve(self.address, database_url, flags, Stdio::inherit());
        self.channel = connect(self.address).await;
    }
}

fn serve(address: SocketAddr, database_url: &str, flags: &[&str], logs: Stdio) -> Program {
    let mut command = Command::new(SERVICE);
    command
        .args(["serve", "--listen", &address.to_string()])
        .args(flags)
        // Flags take precedence over these variables.
        .env("CAMPAIGN_LOG", "error")
        .env("DATABASE_URL", database_url)
        .stderr(logs);
    start(&mut command)
}

/// Returns the metrics that a program shows.
pub async fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("# EOF"), "{text}");
    text
}

/// Waits until a program serves at the address.
pub async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(error) => assert!(Instant::now() < deadline, "nothing serves: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts a dialer worker with the simulated provider, whose calls take no time.
pub fn start_dialer(service_url: &str) -> Program {
    let mut command = Command::new(beside_service("dialer-worker"));
    command.args(["--service-url", service_url, "--log", "error", "--time-scale", "0"]);
    command.args(["--max-calls", "1000"]);
    start(&mut command)
}

/// Returns the path of a program of another package, which `make bench` builds.
pub fn beside_service(program: &str) -> PathBuf {
    beside(Path::new(SERVICE), program).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the processor time of the service and of PostgreSQL so far.
pub fn processor_seconds(replica: &Replica) -> f64 {
    let service = replica.program.id();
    let is_measured = |id: u32| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        id == service || name.trim() == "postgres"
    };
    let entries = fs::read_dir("/proc").expect("processor time is measured on Linux only");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| is_measured(*id)).map(ticks).sum::<f64>() / 100.0
}

/// Returns the clock ticks, a hundred a second, that a process used.
fn ticks(id: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return 0.0 };
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    number(11).unwrap_or(0.0) + number(12).unwrap_or(0.0)
}
