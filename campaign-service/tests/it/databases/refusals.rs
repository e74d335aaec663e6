//! Databases on which the service does not start, with the reason.

use crate::support::postgres::Postgres;
use crate::support::processes::{migrate, run};
use crate::support::{TestDb, eventually};
use campaign_testkit::Program;

#[tokio::test]
async fn a_database_that_is_not_in_utf8_is_refused() {
    let db = TestDb::new().await;
    let url = db.make_sibling("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    for command in ["migrate", "serve", "doctor"] {
        let (is_fine, said) = run(&url, command);
        assert!(!is_fine && said.contains("LATIN1") && said.contains("UTF8"), "{command}: {said}");
    }
}

#[tokio::test]
async fn a_session_that_skips_triggers_is_refused() {
    let db = TestDb::new().await;
    db.set_default("session_replication_role = 'replica'").await;
    for command in ["serve", "doctor"] {
        let (is_fine, said) = run(&db.url, command);
        assert!(!is_fine && said.contains("session_replication_role"), "{command}: {said}");
    }
}

/// A risky database is reported and served.
#[tokio::test]
async fn doctor_names_risks_and_what_is_missing() {
    let postgres = Postgres::start(&["fsync=off"]).await;
    let (is_fine, said) = run(&postgres.url(), "doctor");
    assert!(!is_fine && said.contains("run `campaign-service migrate`"), "{said}");
    migrate(&postgres.url()).await;
    let (is_fine, said) = run(&postgres.url(), "doctor");
    assert!(is_fine && said.contains("warn  fsync is off"), "{said}");
    let (_, said) = run("postgres://campaign@127.0.0.1:1/x?sslmode=maybe", "doctor");
    assert!(said.contains("sslmode") && said.contains("verify-full"), "{said}");
}

#[tokio::test]
async fn tables_that_the_search_path_does_not_name_are_found() {
    let db = TestDb::new().await;
    db.set_default("search_path = ''").await;
    let (is_fine, said) = run(&db.url, "doctor");
    assert!(!is_fine && said.contains("add search_path=public to DATABASE_URL"), "{said}");
    let (is_fine, said) = run(&format!("{}?search_path=public", db.url), "doctor");
    assert!(is_fine, "{said}");
}

/// The service waits for a standby, since it may be promoted.
#[tokio::test]
async fn a_database_that_takes_no_writes_is_waited_for() {
    let db = TestDb::new().await;
    db.set_default("default_transaction_read_only = on").await;
    let mut starting = crate::support::processes::campaign_service();
    starting.args(["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", &db.url);
    let folder = crate::support::access::Folder::new();
    let log = folder.write("log", "");
    let _service = Program::start_logging(&mut starting, &log).unwrap();
    let says = |text: &'static str| {
        let log = log.clone();
        async move {
            eventually(text, || async {
                std::fs::read_to_string(&log).unwrap().contains(text).then_some(())
            })
            .await;
        }
    };
    says("takes no writes").await;
    db.set_default("default_transaction_read_only = off").await;
    says("serving").await;
}
