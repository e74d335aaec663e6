//! Compatibility with the versions before and after. `make compatibility` runs both together.

use crate::support::{Service, TestDb};
use campaign_service::store::migrations;

#[tokio::test]
async fn a_newer_schema_is_left_alone_and_served() {
    let db = TestDb::new().await;
    let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
        VALUES (1000000, 'of_a_later_version', '2100-01-01T00:00:00Z', '1')";
    db.client().await.batch_execute(later).await.unwrap();
    assert_eq!(migrations::migrate(&db.db()).await, Ok(0));
    assert!(migrations::is_current(&db.db()).await.unwrap());
    let service = Service::start(&db).await;
    service.clients.clone().create_campaign().await;
}
