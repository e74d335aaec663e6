//! PostgreSQL of our own: its programs, and data that is made once and copied for each round.

use crate::Result;
use crate::program::{Program, Spec, free_port};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// Longest wait for PostgreSQL to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Prefix of log lines, with the code of an error before its text.
const LOG_PREFIX: &str = "log_line_prefix=%m [%p] %e ";
/// Class of SQLSTATE codes for requests that PostgreSQL cannot understand, such as a missing table or column.
const NOT_UNDERSTOOD: &str = " 42";
/// Settings of our own sessions. Defaults are changed on purpose; our notes must not suffer.
const OWN_SETTINGS: &str = "SET default_transaction_isolation = 'read committed'; \
    SET synchronous_commit = on; SET lock_timeout = 0";
/// Tables and triggers of ours beside the service's tables.
const OBSERVE: &str = include_str!("observe.sql");

/// Programs, and a migrated database to copy.
#[derive(Debug)]
pub struct Template {
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    data: PathBuf,
}

impl Template {
    /// Makes the data in a folder.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not work.
    pub async fn make(folder: &Path, service: &Path) -> Result<Self> {
        let template = Self {
            binaries: binaries()?,
            user: unprivileged().await?,
            data: folder.join("template"),
        };
        template.give(folder)?;
        let mut initdb = Command::new(template.binaries.join("initdb"));
        initdb.args(["-U", "campaign", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]);
        initdb.arg(&template.data).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((user, group)) = template.user {
            initdb.uid(user).gid(group);
        }
        if !initdb.status().await?.success() {
            return Err("initdb failed".into());
        }
        let port = free_port();
        let mut server = Program::new(template.server(&template.data, folder, port));
        server.start()?;
        connect(port).await?;
        let migrated = Command::new(service)
            .arg("migrate")
            .env("DATABASE_URL", url(port))
            .stdin(Stdio::null())
            .status()
            .await?;
        if !migrated.success() {
            return Err("campaign-service migrate failed".into());
        }
        connect(port).await?.batch_execute(OBSERVE).await?;
        server.signal("INT").await?;
        server.stop().await?;
        Ok(template)
    }

    /// Copies the data. Returns how to start a server on it.
    ///
    /// # Errors
    /// When the data cannot be copied.
    pub async fn copy(&self, data: &Path, logs: &Path) -> Result<Spec> {
        let mut copy = Command::new("cp");
        let copied = copy.args(["-a", "--"]).arg(&self.data).arg(data).status().await?;
        if !copied.success() {
            return Err("PostgreSQL's data cannot be copied".into());
        }
        Ok(self.server(data, logs, free_port()))
    }

    /// Lets PostgreSQL own a folder.
    ///
    /// # Errors
    /// When the folder cannot be given away.
    pub fn give(&self, folder: &Path) -> Result<()> {
        if let Some((user, group)) = self.user {
            std::os::unix::fs::chown(folder, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// Returns how to start a server. Durable settings are PostgreSQL's defaults.
    fn server(&self, data: &Path, logs: &Path, port: u16) -> Spec {
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            &format!("port={port}"),
            "shared_buffers=32MB",
            "max_connections=100",
            "authentication_timeout=5s",
            LOG_PREFIX,
            // A checkpoint is of no use here, and no segment is reserved that a small disk lacks.
            "min_wal_size=32MB",
        ];
        let mut args = vec!["-D".to_owned(), data.display().to_string()];
        for setting in settings {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        Spec {
            name: "postgres".to_owned(),
            path: self.binaries.join("postgres"),
            args,
            env: Vec::new(),
            log: logs.join("postgres.log"),
            user: self.user,
            port: Some(port),
        }
    }
}

/// Returns requests that PostgreSQL did not understand, by its log: a program and the schema do not fit.
///
/// # Errors
/// When the log cannot be read.
pub fn not_understood(log: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    let is_one = |line: &&str| {
        let said = line.split_once(']').map(|(_, said)| said);
        said.is_some_and(|said| said.starts_with(NOT_UNDERSTOOD) && said.contains("ERROR:"))
    };
    Ok(text.lines().filter(is_one).take(3).map(str::to_owned).collect())
}

/// Returns the address of a database, also through a proxy.
#[must_use]
pub fn url(port: u16) -> String {
    format!("postgres://campaign@127.0.0.1:{port}/postgres")
}

/// Connects as soon as PostgreSQL answers.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn connect(port: u16) -> Result<Client> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match tokio_postgres::connect(&url(port), NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                client.batch_execute(OWN_SETTINGS).await?;
                return Ok(client);
            }
            Err(error) if Instant::now() > deadline => {
                return Err(format!("PostgreSQL does not answer: {error}").into());
            }
            Err(_) => sleep(Duration::from_millis(30)).await,
        }
    }
}

/// Finds the folder of initdb and postgres.
fn binaries() -> Result<PathBuf> {
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())?;
        std::fs::canonicalize(found.join("initdb")).ok()?.parent().map(Path::to_owned)
    };
    let folder = std::env::var_os("CAMPAIGN_PG_BIN").map(PathBuf::from).or_else(on_path);
    folder.ok_or_else(|| {
        "CAMPAIGN_PG_BIN is not set and initdb is not on PATH: this breaks a PostgreSQL of its own; \
         run `make chaos` or `make test` without DATABASE_URL, or set CAMPAIGN_PG_BIN"
            .into()
    })
}

/// Returns the user to run PostgreSQL as, when we are root.
async fn unprivileged() -> Result<Option<(u32, u32)>> {
    if id(&["-u"]).await != Some(0) {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let (Some(user), Some(group)) = (id(&["-u", name]).await, id(&["-g", name]).await) {
            return Ok(Some((user, group)));
        }
    }
    Err("run this as an ordinary user: there is neither a user postgres nor nobody".into())
}

async fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
