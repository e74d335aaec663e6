//! P8: control commands cost the same for any list. The cost is the rows that they read and write, as
//! PostgreSQL counts them. `make bench` measures times.

use crate::support::{Service, TestDb, rows_touched, without_chores};
use campaign_proto::v1;

/// Returns the rows that a run's commands write and read, with this many contacts, all called before.
async fn cost_of_commands(contacts: usize) -> (i64, i64) {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..contacts).await;
    drop((service, clients));
    let blocks = i64::try_from(contacts.div_ceil(32)).unwrap();
    let history = "INSERT INTO state_blocks (campaign_id, block, states)
        SELECT campaign_id, block, decode(repeat('01', 1280), 'hex')
        FROM campaigns, generate_series(0, $1::int8 - 1) AS block";
    db.client().await.execute(history, &[&blocks]).await.unwrap();
    let before = rows_touched(&db).await;

    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    clients.launch(&name).await;
    clients.pause(&name).await;
    clients.resume(&name).await;
    clients.cancel(&name).await;
    let rerun = v1::LaunchSettings { rerun_all_contacts: true, ..Default::default() };
    clients.launch_with(&name, rerun).await;
    clients.cancel(&name).await;
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&name, reset).await;
    clients.cancel(&name).await;
    drop((service, clients));
    let after = rows_touched(&db).await;
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn p8_control_commands_touch_the_same_rows_for_any_list() {
    let (small, large) = (cost_of_commands(64).await, cost_of_commands(960).await);
    assert!(small.0 > 0, "the commands wrote nothing, so this counts nothing");
    assert_eq!(small, large, "rows written and read for 64 contacts and for 960");
}
