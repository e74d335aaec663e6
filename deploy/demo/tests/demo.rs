//! Test of the demo, with every printed grpcurl line run as printed.

use std::process::Command;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"))
}

#[test]
fn every_line_of_the_demo_works_as_printed() {
    let server = variable("DATABASE_URL");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let name = format!("demo_{}", std::process::id());
    let sql = |sql: String| {
        let server = server.clone();
        runtime.block_on(async move {
            let (client, connection) =
                tokio_postgres::connect(&server, tokio_postgres::NoTls).await.expect("PostgreSQL");
            tokio::spawn(connection);
            client.batch_execute(&sql).await.expect("SQL");
        });
    };
    sql(format!("CREATE DATABASE {name}"));
    let (prefix, _) = server.rsplit_once('/').expect("DATABASE_URL ends in /database");
    let output = Command::new(env!("CARGO_BIN_EXE_campaign-demo"))
        .args(["--grpcurl", &variable("CAMPAIGN_GRPCURL")])
        .env("DATABASE_URL", format!("{prefix}/{name}"))
        .output()
        .expect("the demo runs");
    sql(format!("DROP DATABASE {name} WITH (FORCE)"));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(text.matches("  ok  ").count(), 5, "{text}");
}
