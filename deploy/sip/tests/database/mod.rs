//! Database for each test.

/// Database of this test's own, on the server that DATABASE_URL names.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    pub async fn create() -> Self {
        let server =
            std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run `make test`");
        let database = Self { server, name: format!("sip_{}", uuid::Uuid::new_v4().simple()) };
        database.run(&format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    pub fn url(&self) -> String {
        let (prefix, _) = self.server.rsplit_once('/').expect("DATABASE_URL ends in /database");
        format!("{prefix}/{}", self.name)
    }

    async fn run(&self, sql: &str) {
        let connected = tokio_postgres::connect(&self.server, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("PostgreSQL");
        tokio::spawn(connection);
        client.batch_execute(sql).await.expect("SQL");
    }

    pub async fn drop(self) {
        self.run(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}
