//! Service and workers, as one build has them.

use crate::finding::beside;
use crate::ports::free_address;
use crate::program::Program;
use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest wait for the service to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Programs of one build, with their logs in one folder.
#[derive(Debug)]
pub struct Programs {
    built: PathBuf,
    logs: PathBuf,
}

impl Programs {
    /// Finds the programs beside `built`, any program of the same build. Makes the folder of their logs.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(built: PathBuf, logs: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&logs)?;
        Ok(Self { built, logs })
    }

    /// Returns the folder of the logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Migrates the database and starts the service. Returns the service with its address, `host:port`.
    ///
    /// # Errors
    /// When one of the two does not work.
    pub async fn service(&self, database_url: &str, flags: &[&str]) -> Result<(Program, String)> {
        let path = beside(&self.built, "campaign-service")?;
        migrate(&path, database_url).await?;
        let address = free_address();
        let mut command = Command::new(path);
        command.args(["serve", "--listen", &address.to_string()]).args(flags);
        command.env("DATABASE_URL", database_url);
        let mut service = self.start(&mut command, "service")?;
        service.until_listening(address.port(), START_LIMIT).await?;
        Ok((service, address.to_string()))
    }

    /// Starts a worker, whose log is named like its `id`.
    ///
    /// # Errors
    /// When the worker cannot be started.
    pub fn worker(&self, id: &str, service: &str, flags: &[&str]) -> Result<Program> {
        let mut command = Command::new(beside(&self.built, "dialer-worker")?);
        command.args(["--service-url", &format!("http://{service}"), "--worker-id", id]);
        self.start(command.args(flags), id)
    }

    /// Starts a program with an empty log.
    fn start(&self, command: &mut Command, name: &str) -> Result<Program> {
        let log = self.logs.join(format!("{name}.log"));
        File::create(&log)?;
        Program::start_logging(command, &log)
    }
}

/// Brings the schema of a database to the version of a service's program.
///
/// # Errors
/// When the migration fails. The text has its log.
pub async fn migrate(service: &Path, database_url: &str) -> Result<()> {
    let mut migrate = tokio::process::Command::new(service);
    migrate.arg("migrate").env("DATABASE_URL", database_url).stdin(Stdio::null());
    let migrated = migrate.kill_on_drop(true).output().await?;
    if migrated.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&migrated.stderr);
    Err(Error::other(format!("the migration failed: {}", said.trim())))
}
