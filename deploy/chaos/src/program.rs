//! One program that is started, killed, frozen and started again.

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
/// Below the ports that the kernel gives to outgoing connections, which could take one of ours while
/// its owner is dead.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// How a program is started.
#[derive(Clone, Debug)]
pub struct Spec {
    /// As shown.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides ours.
    pub env: Vec<(String, String)>,
    /// Appended to.
    pub log: PathBuf,
    /// Whom to run it as.
    pub user: Option<(u32, u32)>,
    /// Where it answers; nothing to wait for if it does not listen.
    pub port: Option<u16>,
}

/// A program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    /// How it is started.
    pub spec: Spec,
    child: Option<Child>,
    /// How it ended though nobody here ended it: panics, and signals that are not ours.
    pub own_ends: Vec<String>,
}

impl Program {
    /// Not started yet.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self { spec, child: None, own_ends: Vec::new() }
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// When it cannot be started.
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

    /// Whether it runs; notes when it ended by itself.
    pub fn is_running(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            Some(ended) => {
                // With 1 it says that it cannot go on, as when it starts while the database is away.
                if !matches!(&ended, Ok(Some(status)) if status.code() == Some(1)) {
                    self.own_ends.push(format!("{} ended by itself: {ended:?}", self.spec.name));
                }
                self.child = None;
                false
            }
            None => false,
        }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// As kill -9 does.
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

    /// Asks it to stop, and waits until it did.
    ///
    /// # Errors
    /// When it does not.
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

    /// Waits until it answers on its port; starts it again when it ended.
    ///
    /// # Errors
    /// When it does not in a minute.
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

/// A program built into the same folder as `built`.
///
/// # Errors
/// When it is not there.
pub fn beside(built: &Path, name: &str) -> Result<PathBuf> {
    let path = built.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not there; run `make build`", path.display()).into())
}

/// A port on which nobody listens, that no outgoing connection is given, and that nobody here was given before:
/// its owner may not be there yet, or be dead.
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
