//! Databases for tests, each copied from a template that is migrated once.

use campaign_service::store::{Db, DbLimits, migrations};
use std::time::Duration;
use tokio_postgres::NoTls;
use uuid::Uuid;

/// Advisory lock for the creation of the template.
const TEMPLATE_LOCK: i64 = 0x74_65_6d_70_6c_61_74_65;

/// Database that is dropped with this value.
#[derive(Debug)]
pub struct TestDb {
    pub url: String,
    server_url: String,
    name: String,
}

impl TestDb {
    pub async fn new() -> Self {
        let server_url = std::env::var("DATABASE_URL").expect(
            "DATABASE_URL is not set: run `make test`, or \
             `python3 deploy/local/with_postgres.py -- cargo test`",
        );
        let template = format!("template_{}", schema_fingerprint());
        let admin = connect(&server_url).await;
        admin.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
        let exists = admin
            .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&template])
            .await
            .unwrap();
        if exists.is_none() {
            make_template(&admin, &server_url, &template).await;
        }
        admin.execute("SELECT pg_advisory_unlock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
        let name = format!("test_{}", Uuid::new_v4().simple());
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        Self { url: with_database(&server_url, &name), server_url, name }
    }

    /// Returns the service's own access to the database.
    pub fn db(&self) -> Db {
        open(&self.url)
    }

    /// Creates a role that may only serve and owns nothing. Returns the database's URL with that role.
    pub async fn add_role(&self) -> String {
        let role = &self.name;
        let sql = format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{role}';
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
             GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}"
        );
        self.client().await.batch_execute(&sql).await.unwrap();
        let config: tokio_postgres::Config = self.url.parse().unwrap();
        let port = config.get_ports()[0];
        format!("postgres://{role}:{role}@127.0.0.1:{port}/{}", self.name)
    }

    /// Creates an empty database beside this one with these options, and drops it with this one. Returns its URL.
    pub async fn make_sibling(&self, options: &str) -> String {
        let sibling = format!("{}_sibling", self.name);
        let admin = connect(&self.server_url).await;
        admin.batch_execute(&format!("CREATE DATABASE {sibling} {options}")).await.unwrap();
        with_database(&self.server_url, &sibling)
    }

    /// Sets a default of the database for new sessions, as in `fsync = off`, and ends the current ones.
    pub async fn set_default(&self, setting: &str) {
        let admin = connect(&self.server_url).await;
        admin.batch_execute(&format!("ALTER DATABASE {} SET {setting}", self.name)).await.unwrap();
        self.end_sessions(&admin).await;
    }

    async fn end_sessions(&self, admin: &tokio_postgres::Client) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        admin.execute(end, &[&self.name]).await.unwrap();
    }

    /// Lets the database reject new connections, and ends the current ones.
    pub async fn go_away(&self) {
        let admin = connect(&self.server_url).await;
        let away = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name);
        admin.batch_execute(&away).await.unwrap();
        self.end_sessions(&admin).await;
    }

    pub async fn come_back(&self) {
        let back = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name);
        connect(&self.server_url).await.batch_execute(&back).await.unwrap();
    }

    /// Returns a plain connection, to look behind the service's back.
    pub async fn client(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (url, name) = (self.server_url.clone(), self.name.clone());
        // The drop has a thread of its own, since the test's runtime may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                tokio::spawn(connection);
                for drop in [
                    format!("DROP DATABASE IF EXISTS {name}_sibling WITH (FORCE)"),
                    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                    format!("DROP ROLE IF EXISTS {name}"),
                ] {
                    client.batch_execute(&drop).await?;
                }
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        // If a test killed its server, there is nothing left to drop.
        let _ = dropping.join();
    }
}

/// Returns the service's own access to a database.
pub fn open(url: &str) -> Db {
    let limits = DbLimits {
        max_connections: 8,
        connection_wait: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(20),
    };
    Db::new(url, None, &limits).unwrap()
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("no PostgreSQL answers at DATABASE_URL; run `make test`");
    tokio::spawn(connection);
    client
}

/// Creates the template under another name and renames it, so that an incomplete template is never used.
async fn make_template(admin: &tokio_postgres::Client, server_url: &str, template: &str) {
    let draft = format!("draft_{}", Uuid::new_v4().simple());
    admin.batch_execute(&format!("CREATE DATABASE {draft}")).await.unwrap();
    let db = open(&with_database(server_url, &draft));
    migrations::migrate(&db).await.unwrap();
    drop(db);
    let rename = format!("ALTER DATABASE {draft} RENAME TO {template}");
    // The pool's connections take a moment to end.
    super::eventually("the template is free", || async { admin.batch_execute(&rename).await.ok() })
        .await;
}

fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("DATABASE_URL ends in /database");
    format!("{server}/{name}")
}

/// Returns a fingerprint of the migrations, so that a template of another schema is not used.
fn schema_fingerprint() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &text).simple().to_string()
}
