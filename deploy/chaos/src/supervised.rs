//! Program that is started, killed, frozen and started again.

use crate::Result;
use rand::Rng;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for a program to answer on its port.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a program that was told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Ports below those that the kernel gives to outgoing connections, which could take one of ours while its owner is
/// dead.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Specification of a program's start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name as shown.
    pub name: String,
    /// File of the program.
    pub path: PathBuf,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Environment of the program, besides ours.
    pub env: Vec<(String, String)>,
    /// File to which the output is appended.
    pub log: PathBuf,
    /// User and group to run the program as.
    pub user: Option<(u32, u32)>,
    /// Port on which the program answers. `None`: the program does not listen, and nothing waits for it.
    pub port: Option<u16>,
}

/// Program that is killed when dropped.
#[derive(Debug)]
pub struct Program {
    /// Specification of the start.
    pub spec: Spec,
    child: Option<Child>,
    /// Ends that nobody here caused: panics, and signals that are not ours.
    pub own_ends: Vec<String>,
}

impl Program {
    /// Creates a program that is not started yet.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self { spec, child: None, own_ends: Vec::new() }
    }

    /// Starts the program, unless it runs.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = std::fs::File::options().create(true).append(true).open(&self.spec.log)?;
        let mut command = Command::new(&self.spec.path);
        command.args(&self.spec.args).envs(self.spec.env.iter().cloned()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        if let Some((user, group)) = self.spec.user {
            command.uid(user).gid(group);
        }
        let started = command.spawn();
        self.child = Some(started.map_err(|error| format!("{}: {error}", self.spec.name))?);
        Ok(())
    }

    /// Whether the program runs. Notes when the program ended by itself.
    pub fn is_running(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            Some(ended) => {
                // Status 1 says that the program cannot go on, as when it starts while the database is away.
                if !matches!(&ended, Ok(Some(status)) if status.code() == Some(1)) {
                    self.own_ends.push(format!("{} ended by itself: {ended:?}", self.spec.name));
                }
                self.child = None;
                false
            }
            None => false,
        }
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Kills the program as `kill -9` does.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn kill(&mut self) -> Result<()> {
        if self.is_running()
            && let Some(mut child) = self.child.take()
        {
            child.kill().await?;
        }
        Ok(())
    }

    /// Asks the program to stop, and waits until it stopped.
    ///
    /// # Errors
    /// When the program does not stop.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal("TERM").await?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match timeout(STOP_LIMIT, child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{} did not stop in 40 seconds", self.spec.name).into()),
        }
    }

    /// Sends a signal by its name, as in STOP.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn signal(&self, name: &str) -> Result<()> {
        if let Some(id) = self.id() {
            Command::new("kill").args(["-s", name, &id.to_string()]).status().await?;
        }
        Ok(())
    }

    /// Waits until the program answers on its port; starts it again if it ended.
    ///
    /// # Errors
    /// When the program does not answer within a minute.
    pub async fn until_up(&mut self) -> Result<()> {
        let Some(port) = self.spec.port else { return self.start() };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            self.start()?;
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() && self.is_running() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = self.spec.log.display();
                return Err(format!("{} does not answer; see {log}", self.spec.name).into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Returns a program built into the same folder as `built`.
///
/// # Errors
/// When the program is not there.
pub fn beside(built: &Path, name: &str) -> Result<PathBuf> {
    let path = built.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not there; run `make build`", path.display()).into())
}

/// Returns a port on which nobody listens and that no outgoing connection is given. Nobody here was given the port
/// before: its owner may not be there yet, or be dead.
#[must_use]
pub fn free_port() -> u16 {
    // Other processes begin elsewhere.
    static NEXT: LazyLock<Mutex<u16>> =
        LazyLock::new(|| Mutex::new(rand::rng().random_range(PORTS)));
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = *next;
        *next = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return port;
        }
    }
}
