//! Programs under measurement, as processes of their own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

const SERVICE: &str = env!("CARGO_BIN_EXE_campaign-service");
/// Flags for measurements that dial the same numbers again and again: no daily cap of attempts.
pub const UNCAPPED: &[&str] = &["--max-attempts-per-number", "0"];
/// Longest wait for a program to serve.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Process that is killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the memory in use, in megabytes.
    pub fn resident_megabytes(&self) -> f64 {
        self.status_megabytes("VmRSS:")
    }

    /// Returns the most memory ever in use, in megabytes.
    pub fn peak_megabytes(&self) -> f64 {
        self.status_megabytes("VmHWM:")
    }

    fn status_megabytes(&self, field: &str) -> f64 {
        let file = format!("/proc/{}/status", self.0.id());
        let status = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("memory is measured on Linux only: {file}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("sizes are in kB");
        kilobytes / 1_024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Replica of the service.
pub struct Replica {
    pub process: Process,
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
        let mut migrate = Command::new(SERVICE);
        migrate.args(["migrate", "--log", "error"]).env("DATABASE_URL", database_url);
        assert!(migrate.status().unwrap().success());
        Self::start_logging_to(database_url, flags, logs).await
    }

    pub async fn start(database_url: &str, flags: &[&str]) -> Self {
        Self::start_logging_to(database_url, flags, Stdio::inherit()).await
    }

    async fn start_logging_to(database_url: &str, flags: &[&str], logs: Stdio) -> Self {
        let address = free_address();
        let mut command = Command::new(SERVICE);
        command
            .args(["serve", "--listen", &address.to_string()])
            .args(flags)
            // Flags take precedence over these variables.
            .env("CAMPAIGN_LOG", "error")
            .env("DATABASE_URL", database_url)
            .stderr(logs);
        let process = Process::start(&mut command);
        let channel = connect(address).await;
        Self { process, url: format!("http://{address}"), channel, address }
    }
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
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
pub fn start_dialer(service_url: &str) -> Process {
    let program = beside_service("dialer-worker", "dialer-worker");
    let mut command = Command::new(&program);
    command.args(["--service-url", service_url, "--log", "error", "--time-scale", "0"]);
    command.args(["--max-calls", "1000"]);
    Process::start(&mut command)
}

/// Returns the path of a program of another package.
pub fn beside_service(program: &str, package: &str) -> PathBuf {
    let program = Path::new(SERVICE).with_file_name(program);
    assert!(
        program.exists(),
        "{} is missing; run `cargo build --release -p {package}`, as `make bench` does",
        program.display()
    );
    program
}
