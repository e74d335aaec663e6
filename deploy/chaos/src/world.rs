//! Environment of one round: PostgreSQL, two replicas, three workers, a provider, and proxies between all of them.

mod upgrading;

use crate::Result;
use crate::clocks::Clocks;
use crate::postgres::{self, Template};
use crate::program::{Program, Spec, beside, free_port};
use crate::provider::SECRET;
use crate::proxy::{Framing, Proxy};
use rand::Rng;
use rand::rngs::SmallRng;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;

const SERVICE: &str = "campaign-service";
const WORKER: &str = "dialer-worker";

/// Number of replicas of the service.
pub const REPLICAS: usize = 2;
/// Number of workers.
pub const WORKERS: usize = 3;
/// Size of the file system for PostgreSQL's data, if we may make one: a little more than the data needs.
const DISK: &str = "size=160m";

/// Key by which erased people are identified.
pub const ERASURE_KEY: &[u8] = b"of the fault tests, and of nobody else: 32 bytes at least";

/// Time between two checks that everything runs.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(300);

/// Paths of the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Path of a program of this version.
    pub built: PathBuf,
    /// Path of a program of the previous version, if the round begins with that version. Its worker is beside its
    /// service.
    pub previous: Option<PathBuf>,
}

impl Programs {
    /// Returns a program of the version that the round begins with.
    fn first(&self) -> &Path {
        self.previous.as_ref().unwrap_or(&self.built)
    }

    /// Returns the service that the round begins with.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn first_service(&self) -> Result<PathBuf> {
        beside(self.first(), SERVICE)
    }
}

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
    postgres: Mutex<Program>,
    replicas: Vec<Mutex<Program>>,
    workers: Vec<Mutex<Program>>,
    provider: Mutex<Program>,
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
    fn make(template: &Template, folder: &Path) -> Result<Self> {
        let path = folder.join("disk");
        std::fs::create_dir_all(&path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&path).stderr(Stdio::null());
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
        programs: &Programs,
        folder: &Path,
        seed: u64,
        random: &mut SmallRng,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        template.give(folder)?;
        std::fs::write(folder.join("erasure.key"), ERASURE_KEY)?;
        let (built, first) = (programs.built.as_path(), programs.first());
        let disk = Disk::make(template, folder)?;
        let data = disk.path.join("data");
        let mut database = Program::new(template.copy(&data, folder).await?);
        database.until_up().await?;
        let database_port = database.spec.port.unwrap_or_default();
        let lease_ttl_seconds = random.random_range(1..=2_u64);
        let clocks = Clocks::new(folder);
        let (mut database_lines, mut service_lines) = (Vec::new(), Vec::new());
        let mut replicas = Vec::new();
        for n in 0..REPLICAS {
            let name = format!("database line {n}");
            let line = Proxy::start(&name, database_port, Framing::Postgres).await?;
            let mut spec = spec(first, folder, SERVICE, &format!("replica-{n}"))?;
            let port = free_port();
            spec.port = Some(port);
            spec.env.extend(clocks.environment(n)?);
            spec.env.push(("DATABASE_URL".to_owned(), postgres::url(line.port)));
            spec.env.extend(erasing(folder));
            spec.args = replica_args(port, lease_ttl_seconds, random);
            spec.env.push(logging(n));
            replicas.push(Mutex::new(Program::new(spec)));
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
            workers: workers(first, folder, &ports, provider_line.port)?,
            provider_line,
            postgres: Mutex::new(database),
            replicas,
            provider: Mutex::new(provider(built, folder, provider_port, seed)?),
            disk,
        };
        for who in Self::everybody() {
            world.program(who).lock().await.until_up().await?;
        }
        Ok(world)
    }

    /// Returns a process; the lock is held while something is done to it.
    #[must_use]
    pub fn program(&self, who: Who) -> &Mutex<Program> {
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
            program.signal("CONT").await?;
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

    /// Kills everything, and checks that everything is gone.
    ///
    /// # Errors
    /// When something cannot be killed.
    pub async fn end(&self) -> Result<()> {
        for who in Self::everybody().into_iter().rev() {
            self.program(who).lock().await.kill().await?;
        }
        Ok(())
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
fn logging(n: usize) -> (String, String) {
    let all = "campaign_service=debug,campaign_domain=debug,dialer_worker=debug,tokio_postgres=debug,info";
    ("CAMPAIGN_LOG".to_owned(), if n % 2 == 1 { all } else { "info" }.to_owned())
}

fn spec(built: &Path, folder: &Path, program: &str, name: &str) -> Result<Spec> {
    Ok(Spec {
        name: name.to_owned(),
        path: beside(built, program)?,
        args: Vec::new(),
        // Histories are short. The setting is in the environment, as the previous version has no such option.
        env: vec![("CAMPAIGN_UNKNOWN_RETRY_MIN_SECONDS".to_owned(), "1".to_owned())],
        log: folder.join(format!("{name}.log")),
        user: None,
        port: None,
    })
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

fn provider(built: &Path, folder: &Path, port: u16, seed: u64) -> Result<Program> {
    let mut spec = spec(built, folder, "chaos-provider", "provider")?;
    spec.port = Some(port);
    spec.args = strings([
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--log",
        &folder.join("provider.jsonl").display().to_string(),
        "--seed",
        &seed.to_string(),
    ]);
    Ok(Program::new(spec))
}

fn workers(
    built: &Path,
    folder: &Path,
    service_ports: &[u16],
    provider_port: u16,
) -> Result<Vec<Mutex<Program>>> {
    let worker = |n| {
        let mut spec = spec(built, folder, WORKER, &format!("worker-{n}"))?;
        spec.args = worker_args(n, service_ports, provider_port);
        spec.env.push(logging(n));
        spec.env.push(("DIALER_HTTP_CALLBACK_SECRET".to_owned(), SECRET.to_owned()));
        Ok(Mutex::new(Program::new(spec)))
    };
    (0..WORKERS).map(worker).collect()
}

fn worker_args(n: usize, service_ports: &[u16], provider_port: u16) -> Vec<String> {
    let urls: Vec<String> =
        service_ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    strings([
        "--provider",
        "http",
        "--service-url",
        &urls.join(","),
        "--worker-id",
        &format!("worker-{n}"),
        "--http-url",
        &format!("http://127.0.0.1:{provider_port}"),
        "--http-callback-listen",
        &format!("127.0.0.1:{}", free_port()),
        "--http-response-limit-seconds",
        "1",
        "--http-poll-seconds",
        "1",
        "--http-call-limit-seconds",
        "20",
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
