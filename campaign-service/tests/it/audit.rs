//! The audit log: every change of it is found.

use super::support::{Service, TestDb, processes};
use std::process::Output;

/// Runs `verify-audit`. Returns whether it succeeded, and its report.
fn verify(db: &TestDb, more: &[&str]) -> (bool, String) {
    let Output { status, stdout, .. } = processes::campaign_service()
        .args(["verify-audit", "--log", "error"])
        .args(more)
        .env("DATABASE_URL", &db.url)
        .output()
        .unwrap();
    (status.success(), String::from_utf8(stdout).unwrap())
}

/// Creates a campaign with five events.
async fn campaign(db: &TestDb) -> (Service, String) {
    let service = Service::start(db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    clients.pause(&name).await;
    clients.resume(&name).await;
    clients.cancel(&name).await;
    (service, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_audit_log_is_found() {
    let db = TestDb::new().await;
    let (service, name) = campaign(&db).await;
    let mut clients = service.clients.clone();
    let other = clients.create_campaign().await;
    let (is_intact, report) = verify(&db, &[]);
    assert!(is_intact, "{report}");
    assert!(report.contains(&format!("{name}: intact, 5 events, event 5 has ")), "{report}");
    assert!(report.contains(&format!("{other}: intact, 1 events, event 1 has ")), "{report}");

    // This connection has rights that the service's own account need not have.
    let sql = db.client().await;
    let id = name.strip_prefix("campaigns/").unwrap();
    let keep = "ALTER TABLE audit_events DISABLE TRIGGER ALL;
        CREATE TABLE kept AS SELECT * FROM audit_events;
        CREATE TABLE kept_heads AS SELECT * FROM audit_heads";
    sql.batch_execute(keep).await.unwrap();
    let of_it = format!("campaign_id = '{id}'");
    let copy =
        "INSERT INTO audit_events SELECT campaign_id, 6, happened_at, actor, reason, command,
         state_before, state_after, run, request_id, details, snapshot";
    let cases = [
        ("UPDATE audit_events SET actor = 'bob' WHERE event_number = 3 AND", "event 3 was changed"),
        (
            "UPDATE audit_events SET details = '{\"hang_up_calls\": true}' WHERE event_number = 3 AND",
            "event 3 was changed",
        ),
        (
            "UPDATE audit_events SET snapshot = '1:1:' WHERE event_number = 5 AND",
            "event 5 was changed",
        ),
        ("DELETE FROM audit_events WHERE event_number = 3 AND", "event 3 was deleted"),
        ("DELETE FROM audit_events WHERE event_number = 1 AND", "event 1 was deleted"),
        ("DELETE FROM audit_events WHERE event_number = 5 AND", "event 5 was deleted"),
        ("DELETE FROM audit_events WHERE event_number > 3 AND", "events 4 to 5 were deleted"),
        ("DELETE FROM audit_events WHERE", "events 1 to 5 were deleted"),
        ("DELETE FROM audit_heads WHERE", "the note of the last event is gone"),
        (&format!("{copy} FROM kept WHERE event_number = 5 AND"), "event 6 was inserted"),
        (&format!("{copy}, hash FROM kept WHERE event_number = 5 AND"), "event 6 was changed"),
    ];
    for (change, expected) in cases {
        let changed = sql.execute(&format!("{change} {of_it}"), &[]).await.unwrap();
        assert!(changed > 0, "{change}");
        let (is_intact, report) = verify(&db, &[]);
        assert!(!is_intact, "{change}: {report}");
        assert!(report.contains(&format!("{name}: CHANGED")), "{change}: {report}");
        assert!(report.contains(expected), "{change}: {report}");
        assert!(report.contains(&format!("{other}: intact")), "{change}: {report}");
        assert!(!verify(&db, &["--campaign", &name]).0, "{change}");
        assert!(verify(&db, &["--campaign", &other]).0, "{change}");
        let restore = "DELETE FROM audit_events; INSERT INTO audit_events SELECT * FROM kept;
            DELETE FROM audit_heads; INSERT INTO audit_heads SELECT * FROM kept_heads";
        sql.batch_execute(restore).await.unwrap();
        assert!(verify(&db, &[]).0, "restored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_version_without_hashes_goes_on() {
    let db = TestDb::new().await;
    let (service, name) = campaign(&db).await;
    let mut clients = service.clients.clone();
    let sql = db.client().await;
    let as_before = "ALTER TABLE audit_events DISABLE TRIGGER ALL;
        UPDATE audit_events SET hash = NULL; DELETE FROM audit_heads";
    sql.batch_execute(as_before).await.unwrap();
    let (is_intact, report) = verify(&db, &[]);
    assert!(is_intact && report.contains("the first 5 from before hashes"), "{report}");

    clients.launch(&name).await;
    clients.pause(&name).await;
    let (is_intact, report) = verify(&db, &[]);
    assert!(is_intact, "{report}");
    assert!(report.contains("7 events, the first 5 from before hashes"), "{report}");

    // The version before writes an event like this.
    let insert = "INSERT INTO audit_events (campaign_id, event_number, happened_at, actor, reason,
            command, state_before, state_after, run, request_id, details)
        SELECT campaign_id, 8, now(), 'old', '', 'RESUME', 'PAUSED', 'RUNNING', 2, '', 'null'
        FROM audit_events WHERE event_number = 7";
    sql.batch_execute(insert).await.unwrap();
    clients.cancel(&name).await;
    let (is_intact, report) = verify(&db, &[]);
    assert!(!is_intact && report.contains("event 8 was inserted"), "{report}");
    assert!(!report.contains("event 9 was"), "{report}");
}
