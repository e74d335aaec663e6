//! Programs of the demo, stopped with it.

use crate::result::Result;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Longest wait for a program to answer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a program to stop by itself.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Log of the simulated provider.
pub const DIALS: &str = "dials.jsonl";

/// Running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

/// Finds a program of ours, built into the same folder as this one.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not there; run `make build`", from_here(&path).display()).into())
}

/// Returns the folder `demo` beside the folder of our programs: `target/demo`.
pub fn default_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).ok_or("this program is in no folder")?;
    Ok(from_here(&target.join("demo")))
}

/// Shortens a path below the current folder.
fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok());
    short.unwrap_or(path).to_path_buf()
}

/// Makes the folder. Removes the log of an earlier demo's dials, which workers continue.
pub fn prepare_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    match std::fs::remove_file(folder.join(DIALS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn command(name: &str, log: &Path) -> Result<Command> {
    let log = std::fs::File::create(log)?;
    let mut command = Command::new(program(name)?);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    Ok(command)
}

/// Migrates the database and starts the service. Returns the service with its address.
pub async fn start_service(database_url: &str, folder: &Path) -> Result<(Program, String)> {
    let log = folder.join("service.log");
    let migrated = command("campaign-service", &folder.join("migrate.log"))?
        .arg("migrate")
        .env("DATABASE_URL", database_url)
        .status()
        .await?;
    if !migrated.success() {
        return Err(format!("the migration failed; see {}/migrate.log", folder.display()).into());
    }
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut child = command("campaign-service", &log)?
        .args(["serve", "--listen", &address, "--lease-ttl-seconds", "10"])
        .env("DATABASE_URL", database_url)
        .spawn()?;
    let deadline = Instant::now() + START_LIMIT;
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            return Err(format!("the service did not start; see {}", log.display()).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok((Program { child }, address))
}

/// Starts a worker that simulates its calls five hundred times faster than real time.
pub fn start_worker(number: usize, address: &str, folder: &Path) -> Result<Program> {
    let id = format!("worker-{number}");
    let child = command("dialer-worker", &folder.join(format!("{id}.log")))?
        .args(["--service-url", &format!("http://{address}"), "--worker-id", &id])
        .args(["--max-calls", "100", "--time-scale", "0.002", "--seed", "7"])
        .arg("--dial-log")
        .arg(folder.join(DIALS))
        .spawn()?;
    Ok(Program { child })
}

impl Program {
    /// Asks the program to stop, and waits until it stopped.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(id) = self.child.id() {
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        }
        if tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            return Err("a program did not stop in 20 seconds and was killed".into());
        }
        Ok(())
    }
}
