//! Service and workers as processes, stopped with their owner.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Result;

/// Longest wait for a program to answer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a program to stop by itself.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Folders of the programs and of their logs.
#[derive(Debug)]
pub struct Programs {
    built: PathBuf,
    logs: PathBuf,
}

/// Running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Programs {
    /// Finds the programs beside `built`, any program of the same build.
    ///
    /// # Errors
    /// When the folder for logs cannot be made.
    pub fn beside(built: &Path) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("campaign-sip-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&logs)?;
        Ok(Self { built: built.to_owned(), logs })
    }

    /// Returns the folder of the logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    fn command(&self, name: &str, log: &str) -> Result<Command> {
        let path = self.built.with_file_name(name);
        if !path.exists() {
            return Err(format!("{} is not there; run `make build`", path.display()).into());
        }
        let log = std::fs::File::create(self.logs.join(log))?;
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        Ok(command)
    }

    /// Migrates the database and starts the service. Returns the service with its address.
    ///
    /// # Errors
    /// When one of the two does not work.
    pub async fn service(&self, database_url: &str, flags: &[&str]) -> Result<(Program, String)> {
        let mut migrate = self.command("campaign-service", "migrate.log")?;
        let migrated = migrate.arg("migrate").env("DATABASE_URL", database_url).status().await?;
        if !migrated.success() {
            return Err(format!("the migration failed; see {}", self.logs.display()).into());
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut child = self
            .command("campaign-service", "service.log")?
            .args(["serve", "--listen", &address])
            .args(flags)
            .env("DATABASE_URL", database_url)
            .spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(
                    format!("the service did not start; see {}", self.logs.display()).into()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok((Program { child }, address))
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// When the worker cannot be started.
    pub fn worker(&self, id: &str, service: &str, flags: &[&str]) -> Result<Program> {
        let child = self
            .command("dialer-worker", &format!("{id}.log"))?
            .args(["--service-url", &format!("http://{service}"), "--worker-id", id])
            .args(flags)
            .spawn()?;
        Ok(Program { child })
    }
}

impl Program {
    /// Returns the id of the process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks the program to stop, and waits until it stopped.
    ///
    /// # Errors
    /// When the program does not stop by itself.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(id) = self.child.id() {
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        }
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => Err(format!("a program ended with {status:?}; see its log").into()),
            Err(_) => Err("a program did not stop in a minute and is killed".into()),
        }
    }

    /// Kills the program with `kill -9`.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
