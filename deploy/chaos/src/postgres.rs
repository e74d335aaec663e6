//! PostgreSQL of our own: its programs, and data that is made once and copied for each round.

use crate::Result;
use crate::supervised::Supervised;
use campaign_testkit::postgres::Binaries;
use campaign_testkit::{free_port, migrate};
use std::path::{Path, PathBuf};
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
    binaries: Binaries,
    data: PathBuf,
}

impl Template {
    /// Makes the data in a folder.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not work.
    pub async fn make(folder: &Path, service: &Path) -> Result<Self> {
        let template = Self { binaries: Binaries::find()?, data: folder.join("template") };
        template.give(folder)?;
        template.binaries.make_data(&template.data)?;
        let port = free_port();
        let mut server = template.server(&template.data, folder, port);
        server.start()?;
        connect(port).await?;
        migrate(service, &url(port)).await?;
        connect(port).await?.batch_execute(OBSERVE).await?;
        server.signal("INT")?;
        server.stop().await?;
        Ok(template)
    }

    /// Copies the data. Returns a server on the copy, which is not started yet, and its port.
    ///
    /// # Errors
    /// When the data cannot be copied.
    pub async fn copy(&self, data: &Path, logs: &Path) -> Result<(Supervised, u16)> {
        let mut copy = Command::new("cp");
        let copied = copy.args(["-a", "--"]).arg(&self.data).arg(data).status().await?;
        if !copied.success() {
            return Err("PostgreSQL's data cannot be copied".into());
        }
        let port = free_port();
        Ok((self.server(data, logs, port), port))
    }

    /// Lets PostgreSQL own a folder.
    ///
    /// # Errors
    /// When the folder cannot be given away.
    pub fn give(&self, folder: &Path) -> Result<()> {
        Ok(self.binaries.give(folder)?)
    }

    /// Returns a server that is not started yet. Durable settings are PostgreSQL's defaults.
    fn server(&self, data: &Path, logs: &Path, port: u16) -> Supervised {
        let settings = [
            "shared_buffers=32MB",
            "max_connections=100",
            "authentication_timeout=5s",
            LOG_PREFIX,
            // A checkpoint is of no use here, and no segment is reserved that a small disk lacks.
            "min_wal_size=32MB",
        ];
        let server = self.binaries.server(data, port, &settings);
        Supervised::new("postgres", server, logs, Some(port))
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
