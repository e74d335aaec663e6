//! Environment of one round: PostgreSQL, two replicas, three workers, a provider, and proxies between all of them.

mod upgrading;

use crate::Result;
use crate::clocks::Clocks;
use crate::postgres::{self, Template};
use crate::provider::{ACCOUNT, Door, SECRET};
use crate::proxy::{Framing, Proxy};
use crate::setting::{SERVICE, Setting};
use crate::supervised::Supervised;
use campaign_testkit::{beside, free_address, free_port};
use rand::Rng;
use rand::rngs::SmallRng;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;

const WORKER: &str = "dialer-worker";

/// Number of replicas of the service.
pub const REPLICAS: usize = 2;
/// Number of workers.
pub const WORKERS: usize = 3;
/// Size of the file system for PostgreSQL's data, if we may make one: a little more than the data needs.
const DISK: &str = "size=160m";
/// Size of the same with a crowd.
const DISK_OF_CROWD: &str = "size=480m";

/// Key by which erased people are identified.
pub const ERASURE_KEY: &[u8] = b"of the fault tests, and of nobody else: 32 bytes at least";

/// Real seconds in a second of a simulated call: no call is longer than the provider's longest.
const SIMULATED_TIME_SCALE: &str = "0.005";

/// Time between two checks that everything runs.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(300);

/// Process of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// PostgreSQL.
    Postgres,
    /// Replica of the service.
    Replica(usize),
    /// Worker.
    Worker(usize),
    /// Provider.
    Provider,
}

/// Everything that runs.
#[derive(Debug)]
pub struct World {
    /// Folder of logs, journals and data.
    pub folder: PathBuf,
    /// Path of a program of this version.
    built: PathBuf,
    /// PostgreSQL's own port.
    pub database_port: u16,
    /// Provider's own port.
    pub provider_port: u16,
    /// Length of a lease, as the workers were told.
    pub lease_ttl: Duration,
    /// Clocks of the replicas.
    pub clocks: Clocks,
    /// Proxies in front of PostgreSQL, one for each replica.
    pub database_lines: Vec<Proxy>,
    /// Proxies in front of each replica.
    pub service_lines: Vec<Proxy>,
    /// Proxy in front of the provider.
    pub provider_line: Proxy,
    postgres: Mutex<Supervised>,
    replicas: Vec<Mutex<Supervised>>,
    workers: Vec<Mutex<Supervised>>,
    provider: Mutex<Supervised>,
    /// Disk, as the last field: its users are dropped before it.
    pub disk: Disk,
}

/// Place of PostgreSQL's data: a disk of its own, which can be filled, if we may make one.
#[derive(Debug)]
pub struct Disk {
    /// Path of the data.
    pub path: PathBuf,
    /// Whether the data has a disk of its own.
    pub is_small: bool,
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_small {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
    }
}

impl Disk {
    fn make(template: &Template, folder: &Path, size: &str) -> Result<Self> {
        let path = folder.join("disk");
        std::fs::create_dir_all(&path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&path).stderr(Stdio::null());
        let is_small = mount.status().is_ok_and(|status| status.success());
        let disk = Self { path, is_small };
        template.give(&disk.path)?;
        Ok(disk)
    }
}

impl World {
    /// Starts everything.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(
        template: &Template,
        setting: &Setting,
        random: &mut SmallRng,
    ) -> Result<Self> {
        let Setting { kind, versions, folder, .. } = setting;
        std::fs::create_dir_all(folder)?;
        template.give(folder)?;
        std::fs::write(folder.join("erasure.key"), ERASURE_KEY)?;
        let (built, first) = (versions.built.as_path(), versions.first());
        let disk =
            Disk::make(template, folder, if kind.crowd() > 0 { DISK_OF_CROWD } else { DISK })?;
        let data = disk.path.join("data");
        let (mut database, database_port) = template.copy(&data, folder).await?;
        database.until_up().await?;
        let lease_ttl_seconds = random.random_range(1..=2_u64);
        let clocks = Clocks::new(folder);
        let (mut database_lines, mut service_lines) = (Vec::new(), Vec::new());
        let mut replicas = Vec::new();
        for n in 0..REPLICAS {
            let name = format!("database line {n}");
            let line = Proxy::start(&name, database_port, Framing::Postgres).await?;
            let port = free_port();
            let mut command = command(first, SERVICE)?;
            command.args(replica_args(port, lease_ttl_seconds, random));
            command.envs(clocks.environment(n)?).env("DATABASE_URL", postgres::url(line.port));
            command.envs(erasing(folder)).env("CAMPAIGN_LOG", logging(n));
            let replica = Supervised::new(&format!("replica-{n}"), command, folder, Some(port));
            replicas.push(Mutex::new(replica));
            let name = format!("service line {n}");
            service_lines.push(Proxy::start(&name, port, Framing::Http2).await?);
            database_lines.push(line);
        }
        let provider_port = free_port();
        let provider_line = Proxy::start("provider line", provider_port, Framing::Pieces).await?;
        let ports: Vec<u16> = service_lines.iter().map(|line| line.port).collect();
        let world = Self {
            folder: folder.to_owned(),
            built: built.to_owned(),
            database_port,
            provider_port,
            lease_ttl: Duration::from_secs(lease_ttl_seconds),
            clocks,
            database_lines,
            service_lines,
            workers: workers(setting, &ports, [provider_line.port, provider_port])?,
            provider_line,
            postgres: Mutex::new(database),
            replicas,
            provider: Mutex::new(provider(setting, provider_port)?),
            disk,
        };
        for who in Self::everybody() {
            world.program(who).lock().await.until_up().await?;
        }
        Ok(world)
    }

    /// Returns a process; the lock is held while something is done to it.
    #[must_use]
    pub fn program(&self, who: Who) -> &Mutex<Supervised> {
        match who {
            Who::Postgres => &self.postgres,
            Who::Replica(n) => &self.replicas[n],
            Who::Worker(n) => &self.workers[n],
            Who::Provider => &self.provider,
        }
    }

    /// Returns all processes, in the order in which they need each other.
    #[must_use]
    pub fn everybody() -> Vec<Who> {
        let replicas = (0..REPLICAS).map(Who::Replica);
        let workers = (0..WORKERS).map(Who::Worker);
        [Who::Postgres, Who::Provider].into_iter().chain(replicas).chain(workers).collect()
    }

    /// Returns every proxy.
    pub fn lines(&self) -> impl Iterator<Item = &Proxy> {
        self.database_lines.iter().chain(&self.service_lines).chain([&self.provider_line])
    }

    /// Ends all faults: every process runs, every network works.
    ///
    /// # Errors
    /// When something does not come back.
    pub async fn heal(&self, resets: bool) -> Result<()> {
        for line in self.lines() {
            line.trap().disarm();
            line.heal(resets).await;
        }
        for who in Self::everybody() {
            let mut program = self.program(who).lock().await;
            program.signal("CONT")?;
            program.until_up().await?;
        }
        postgres::connect(self.database_port).await?;
        Ok(())
    }

    /// Starts programs that ended by themselves, as an operator does, until it is dropped.
    pub async fn supervise(&self) {
        loop {
            for who in Self::everybody() {
                // A fault that holds the process starts it again itself.
                if let Ok(mut program) = self.program(who).try_lock() {
                    // A failed start is tried again in a moment.
                    let _ = program.start();
                }
            }
            sleep(SUPERVISION_INTERVAL).await;
        }
    }

    /// Kills everything. Returns when everything is gone.
    pub async fn end(&self) {
        for who in Self::everybody().into_iter().rev() {
            self.program(who).lock().await.kill();
        }
    }

    /// Returns programs of ours that ended though nobody ended them.
    pub async fn own_ends(&self) -> Vec<String> {
        let mut ends = Vec::new();
        for who in Self::everybody().into_iter().filter(|who| *who != Who::Postgres) {
            ends.extend(self.program(who).lock().await.own_ends.iter().cloned());
        }
        ends
    }

    /// Returns the path of the provider's log.
    #[must_use]
    pub fn provider_log(&self) -> PathBuf {
        self.folder.join("provider.jsonl")
    }
}

/// Returns the settings of erasure as environment variables, since the previous version may not know all options.
fn erasing(folder: &Path) -> [(String, String); 2] {
    let key = folder.join("erasure.key").display().to_string();
    // The patience is short, so that a round does not wait long for unfinished erasures.
    [("CAMPAIGN_ERASURE_KEY_FILE", key), ("CAMPAIGN_ERASURE_PATIENCE_SECONDS", "2".to_owned())]
        .map(|(name, value)| (name.to_owned(), value))
}

/// Returns the log level of the n-th program. Every second program logs all it can, so that the judge may look for
/// people in it. Other libraries say nothing of people, and much of everything else.
fn logging(n: usize) -> &'static str {
    let all = "campaign_service=debug,campaign_domain=debug,dialer_worker=debug,tokio_postgres=debug,info";
    if n % 2 == 1 { all } else { "info" }
}

fn command(built: &Path, program: &str) -> Result<Command> {
    let mut command = Command::new(beside(built, program)?);
    // Histories are short. The settings are in the environment, as the previous version may have no such options.
    command.env("CAMPAIGN_UNKNOWN_RETRY_MIN_SECONDS", "1");
    command.env("CAMPAIGN_CONGESTED_RETRY_SECONDS", "1");
    Ok(command)
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).into()
}

fn replica_args(port: u16, lease_ttl_seconds: u64, random: &mut SmallRng) -> Vec<String> {
    // Some replicas have hardly any connections, so that everything waits for one.
    let connections = if random.random_bool(0.25) { "2" } else { "12" };
    let batch = if random.random_bool(0.5) { "8" } else { "50" };
    strings([
        "serve",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--lease-ttl-seconds",
        &lease_ttl_seconds.to_string(),
        "--chore-interval-millis",
        "400",
        "--max-attempts-per-number",
        "20",
        "--max-batch-contacts",
        batch,
        "--database-max-connections",
        connections,
        "--database-wait-seconds",
        "2",
        "--statement-timeout-seconds",
        "5",
    ])
}

fn provider(setting: &Setting, port: u16) -> Result<Supervised> {
    let Setting { seed, folder, versions, .. } = setting;
    let mut command = command(&versions.built, "chaos-provider")?;
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--seed", &seed.to_string()]);
    command.args(["--door", setting.door().name()]);
    command.arg("--log").arg(folder.join("provider.jsonl"));
    Ok(Supervised::new("provider", command, folder, Some(port)))
}

/// Returns the workers. `provider_ports` are the one behind the proxy and the provider's own, where its SIP is.
fn workers(
    setting: &Setting,
    service_ports: &[u16],
    provider_ports: [u16; 2],
) -> Result<Vec<Mutex<Supervised>>> {
    let worker = |n| {
        let mut command = command(setting.versions.first(), WORKER)?;
        command.args(worker_args(n, service_ports));
        if setting.simulates() && n == WORKERS - 1 {
            command.args(["--provider", "simulated", "--time-scale", SIMULATED_TIME_SCALE]);
            command.args(["--congested-percent", "15"]);
        } else {
            command.args(provider_args(setting.door(), provider_ports));
        }
        command.env("CAMPAIGN_LOG", logging(n)).env("DIALER_HTTP_CALLBACK_SECRET", SECRET);
        Ok(Mutex::new(Supervised::new(&format!("worker-{n}"), command, &setting.folder, None)))
    };
    (0..WORKERS).map(worker).collect()
}

fn worker_args(n: usize, service_ports: &[u16]) -> Vec<String> {
    let urls: Vec<String> =
        service_ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    strings([
        "--service-url",
        &urls.join(","),
        "--worker-id",
        &format!("worker-{n}"),
        "--provider-failures",
        "20",
        "--provider-retry-seconds",
        "1",
        "--max-calls",
        "40",
        "--calls-per-second",
        "400",
        "--drain-grace-seconds",
        "5",
    ])
}

fn provider_args(door: Door, [proxied_port, own_port]: [u16; 2]) -> Vec<String> {
    let http = strings([
        "--provider",
        "http",
        "--http-url",
        &format!("http://127.0.0.1:{proxied_port}"),
        "--http-callback-listen",
        &free_address().to_string(),
        "--http-response-limit-seconds",
        "1",
        "--http-poll-seconds",
        "1",
        "--http-call-limit-seconds",
        "20",
    ]);
    match door {
        Door::VoiceAgent => http,
        Door::Twilio => {
            let twilio = strings([
                "--http-flavor",
                "twilio",
                "--http-api-key",
                "of nobody",
                "--http-account",
                ACCOUNT,
                "--http-from",
                "+15550100",
                "--http-agent",
                "http://127.0.0.1/twiml",
                "--http-detect-machines",
            ]);
            http.into_iter().chain(twilio).collect()
        }
        // No phone rings longer than these, and a trunk that lost a call says nothing.
        Door::Sip => strings([
            "--provider",
            "sip",
            "--sip-trunk",
            &format!("127.0.0.1:{own_port}"),
            "--sip-listen",
            "127.0.0.1:0",
            "--sip-caller",
            "+15550100",
            "--sip-response-limit-seconds",
            "1",
            "--sip-ring-limit-seconds",
            "3",
            "--sip-talk-limit-seconds",
            "5",
        ]),
    }
}
