//! PostgreSQL servers for single tests.

use super::PATIENCE;
use super::processes::{Killed, free_port};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// PostgreSQL server of one test, which may kill it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    /// Settings, each as in `fsync=off`.
    settings: Vec<String>,
    server: Option<Killed>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.server = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Postgres {
    /// Starts a server with settings that differ from PostgreSQL's own.
    pub async fn start(settings: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("campaign-crash-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
        }
        let made = program("initdb")
            .args(["-U", "campaign", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(folder.join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut postgres = Self { folder, port: free_port(), settings, server: None };
        postgres.run_again().await;
        postgres
    }

    /// Kills the server at once, as in a crash.
    pub fn kill(&mut self) {
        self.server.as_mut().unwrap().kill();
    }

    /// Runs the server again on its data.
    pub async fn run_again(&mut self) {
        self.run();
        self.wait_until_up().await;
    }

    fn run(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = program("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={}", self.port)])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(Killed(child));
    }

    pub fn url(&self) -> String {
        format!("postgres://campaign@127.0.0.1:{}/postgres", self.port)
    }

    async fn wait_until_up(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_err() {
            // A new server does not start until the killed server's children are gone.
            let server = self.server.as_mut().unwrap();
            if server.0.try_wait().unwrap().is_some() {
                self.run();
            }
            assert!(tokio::time::Instant::now() < deadline, "PostgreSQL did not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Returns a program of PostgreSQL, run as the user that owns its data.
fn program(name: &str) -> Command {
    let folder = std::env::var_os("CAMPAIGN_PG_BIN").map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    });
    let folder = folder.expect(
        "CAMPAIGN_PG_BIN is not set and initdb is not on PATH: this test kills a PostgreSQL of its own; \
         run `make test` without DATABASE_URL, or set CAMPAIGN_PG_BIN",
    );
    let mut command = Command::new(folder.join(name));
    command.current_dir("/").stdin(Stdio::null());
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

/// Returns the user and group to run PostgreSQL as, if we are root.
pub fn unprivileged() -> Option<(u32, u32)> {
    let number = |args: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(args).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((number(&["-u", name])?, number(&["-g", name])?)))
}
