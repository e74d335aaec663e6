//! The service and workers as processes, stopped with whoever started them.

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

/// Where the programs are, and where their logs go.
#[derive(Debug)]
pub struct Programs {
    built: PathBuf,
    logs: PathBuf,
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Programs {
    /// `built`: any program of the same build.
    ///
    /// # Errors
    /// When the folder for logs cannot be made.
    pub fn beside(built: &Path) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("campaign-sip-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&logs)?;
        Ok(Self { built: built.to_owned(), logs })
    }

    /// Where the logs are.
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

    /// Migrates the database and starts the service; returns it with its address.
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
    /// When it cannot be started.
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
    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to stop, and waits until it did.
    ///
    /// # Errors
    /// When it does not stop by itself.
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

    /// Kills it with kill -9.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
