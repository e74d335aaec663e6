//! Database for one measurement.

use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Database that is dropped with this value.
pub struct Scratch {
    pub url: String,
    server_url: String,
    name: String,
}

impl Scratch {
    pub async fn new(server_url: &str) -> Self {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        let admin = connect(server_url).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        // The checkpoint lets each measurement begin with the same debts: none.
        admin.batch_execute("CHECKPOINT").await.unwrap();
        let (server, _) = server_url.rsplit_once('/').expect("DATABASE_URL ends in /database");
        Self { url: format!("{server}/{name}"), server_url: server_url.to_owned(), name }
    }

    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (url, name) = (self.server_url.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let admin = connect(&url).await;
                admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
            });
        });
        dropping.join().unwrap();
    }
}

/// Returns the version of the server.
pub async fn version(server_url: &str) -> String {
    connect(server_url).await.query_one("SHOW server_version", &[]).await.unwrap().get(0)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("no PostgreSQL answers at DATABASE_URL; run `make bench`");
    tokio::spawn(connection);
    client
}
