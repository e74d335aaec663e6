//! Surroundings of the tests: variables, and a database of their own.

/// Returns a variable that `make test` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"))
}

/// Database that is dropped at the end of the test.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    pub fn new(purpose: &str) -> Self {
        let name = format!("{purpose}_{}", std::process::id());
        let database = Self { server: variable("DATABASE_URL"), name };
        database.run(&format!("CREATE DATABASE {}", database.name));
        database
    }

    pub fn url(&self) -> String {
        let (prefix, _) = self.server.rsplit_once('/').expect("DATABASE_URL ends in /database");
        format!("{prefix}/{}", self.name)
    }

    fn run(&self, sql: &str) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let tls = tokio_postgres::NoTls;
            let (client, connection) =
                tokio_postgres::connect(&self.server, tls).await.expect("PostgreSQL");
            tokio::spawn(connection);
            client.batch_execute(sql).await.expect("SQL");
        });
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.run(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}
