//! Program that is started, killed, frozen and started again.

use crate::Result;
use campaign_testkit::Program;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longest wait for a program to answer on its port.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a program that was told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Time between two starts of a program that ends at once.
const START_INTERVAL: Duration = Duration::from_millis(20);

/// Program that may run or not; killed when dropped.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    command: Command,
    log: PathBuf,
    port: Option<u16>,
    running: Option<Program>,
    /// Ends that nobody here caused: panics, and signals that are not ours.
    pub own_ends: Vec<String>,
}

impl Supervised {
    /// Creates a program that is not started yet. A program without a port does not listen, and nothing waits for it.
    #[must_use]
    pub fn new(name: &str, mut command: Command, folder: &Path, port: Option<u16>) -> Self {
        command.current_dir("/");
        let log = folder.join(format!("{name}.log"));
        Self { name: name.to_owned(), command, log, port, running: None, own_ends: Vec::new() }
    }

    /// Replaces the file of the program; its arguments and environment stay. The next start uses it.
    pub fn replace(&mut self, path: &Path) {
        let mut command = Command::new(path);
        command.current_dir("/").args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
    }

    /// Starts the program, unless it runs.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if !self.is_running() {
            self.running = Some(Program::start_logging(&mut self.command, &self.log)?);
        }
        Ok(())
    }

    /// Whether the program runs. Notes when the program ended by itself.
    pub fn is_running(&mut self) -> bool {
        match self.running.as_mut().map(Program::ended) {
            Some(Ok(None)) => true,
            Some(ended) => {
                // Status 1 says that the program cannot go on, as when it starts while the database is away.
                if !matches!(&ended, Ok(Some(status)) if status.code() == Some(1)) {
                    self.own_ends.push(format!("{} ended by itself: {ended:?}", self.name));
                }
                self.running = None;
                false
            }
            None => false,
        }
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Program::id)
    }

    /// Kills the program as `kill -9` does.
    pub fn kill(&mut self) {
        if self.is_running() {
            self.running = None;
        }
    }

    /// Asks the program to stop, and waits until it has ended, whatever its status.
    ///
    /// # Errors
    /// When the program does not stop.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let Some(mut program) = self.running.take() else { return Ok(()) };
        program.until_ended(STOP_LIMIT).await?;
        Ok(())
    }

    /// Sends a signal by its name, as in STOP.
    ///
    /// # Errors
    /// When that does not work.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        if let Some(program) = &mut self.running {
            program.signal(name)?;
        }
        Ok(())
    }

    /// Waits until the program answers on its port; starts it again if it ended.
    ///
    /// # Errors
    /// When the program does not answer within a minute.
    pub async fn until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            self.start()?;
            let (Some(port), Some(program)) = (self.port, &mut self.running) else { return Ok(()) };
            let left = deadline.saturating_duration_since(Instant::now());
            match program.until_listening(port, left).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => sleep(START_INTERVAL).await,
            }
        }
    }
}
