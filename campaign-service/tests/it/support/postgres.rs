//! PostgreSQL servers for single tests.

use super::PATIENCE;
use campaign_testkit::postgres::Binaries;
use campaign_testkit::{Program, free_port};
use std::path::PathBuf;
use std::time::Duration;

/// PostgreSQL server of one test, which may kill it.
#[derive(Debug)]
pub struct Postgres {
    binaries: Binaries,
    folder: PathBuf,
    port: u16,
    /// Settings, each as in `fsync=off`.
    settings: Vec<String>,
    server: Option<Program>,
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
        let binaries = Binaries::find().unwrap();
        binaries.give(&folder).unwrap();
        binaries.make_data(&folder.join("data")).unwrap();
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut postgres = Self { binaries, folder, port: free_port(), settings, server: None };
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
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let mut server = self.binaries.server(&self.folder.join("data"), self.port, &settings);
        let log = self.folder.join("log");
        self.server = Some(Program::start_logging(&mut server, &log).unwrap());
    }

    pub fn url(&self) -> String {
        format!("postgres://campaign@127.0.0.1:{}/postgres", self.port)
    }

    async fn wait_until_up(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_err() {
            // A new server does not start until the killed server's children are gone.
            let server = self.server.as_mut().unwrap();
            if server.ended().unwrap().is_some() {
                self.run();
            }
            assert!(tokio::time::Instant::now() < deadline, "PostgreSQL did not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
