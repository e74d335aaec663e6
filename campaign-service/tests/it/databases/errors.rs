//! Errors of PostgreSQL, as clients and the log see them.

use crate::support::access::Folder;
use crate::support::processes::campaign_service;
use crate::support::{Clients, TestDb};
use campaign_proto::v1;
use campaign_testkit::{Program, free_port};
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn refuse_with(db: &TestDb, code: &str) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$;
         CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON audit_events
             FOR EACH ROW EXECUTE FUNCTION refuse()"
    );
    db.client().await.batch_execute(&sql).await.unwrap();
}

async fn create(clients: &mut Clients) -> Status {
    let campaign = v1::Campaign { display_name: "x".to_owned(), ..Default::default() };
    let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
    clients.campaigns.create_campaign(request).await.unwrap_err()
}

/// The log names the statement that failed. Statements sent together with it only report that the transaction is over.
#[tokio::test]
async fn what_may_work_later_is_unavailable_and_the_log_names_the_first_cause() {
    let db = TestDb::new().await;
    let (folder, port) = (Folder::new(), free_port());
    let log = folder.write("log", "");
    let mut service = campaign_service();
    service
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log", "warn"])
        .env("DATABASE_URL", &db.url);
    let _service = Program::start_logging(&mut service, &log).unwrap();
    let mut clients = Clients::connect(&format!("http://127.0.0.1:{port}")).await;
    let mut refused = 0;
    for (code, wanted) in [
        ("55P03", Code::Unavailable),
        ("26000", Code::Unavailable),
        ("25P03", Code::Unavailable),
        ("53300", Code::Unavailable),
        ("40001", Code::Unavailable),
        // Unless a plan has to be made anew, this code is a fault of ours.
        ("0A000", Code::Internal),
        ("P0001", Code::Internal),
    ] {
        refuse_with(&db, code).await;
        for _ in 0..4 {
            let status = create(&mut clients).await;
            assert_eq!(status.code(), wanted, "{code}: {status:?}");
            let is_retried = status.get_details_retry_info().is_some();
            assert_eq!(is_retried, wanted == Code::Unavailable, "{code}");
            refused += 1;
        }
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("on purpose").count(), refused, "{log}");
    assert!(!log.contains("25P02"), "{log}");
}
