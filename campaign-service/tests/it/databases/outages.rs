//! Networks that drop packets, databases that accept no writes, plans of another schema.

use crate::support::proxy::Proxy;
use crate::support::{Clients, Service, TestDb, Worker, eventually, open};
use campaign_proto::v1;
use campaign_service::starting::until_usable;
use campaign_service::store::{Db, DbLimits, Gate};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use uuid::Uuid;

/// Longest time until the service works again after the network does, and hears from other replicas.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);
/// Pieces of a check, sent or received. After 60 of them the data is compared with the cluster.
const PIECES: usize = 150;
/// Checks whose connections die, spread over the pieces.
const CHECKS: usize = 30;

/// Makes the service open as many database connections as it may.
async fn fill_pool(clients: &Clients, name: &str) {
    join_all((0..64).map(|_| {
        let mut clients = clients.clone();
        async move { clients.campaign(name).await }
    }))
    .await;
}

async fn health(clients: &Clients) -> ServingStatus {
    let mut client = HealthClient::new(clients.channel.clone());
    let checked = client.check(HealthCheckRequest { service: String::new() }).await;
    checked.unwrap().into_inner().status()
}

/// All connections die silently, the listening one too. Requests work, and a stop on another replica is heard.
#[tokio::test]
async fn connections_that_died_in_silence_are_replaced() {
    let db = TestDb::new().await;
    let (proxy, through) = Proxy::before(&db.url).await;
    let direct = Service::start(&db).await;
    let cut = Service::start_on(open(&through)).await;
    let mut clients = cut.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..10).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert_eq!(worker.lease(10).await.len(), 10);
    fill_pool(&clients, &name).await;
    proxy.silence();
    let silent_at = Instant::now();
    direct.clients.clone().cancel(&name).await;
    let revoke = worker.revoked().await;
    assert!(revoke.hang_up);
    assert!(silent_at.elapsed() < RECOVERY_LIMIT, "{:?}", silent_at.elapsed());
    works(&clients, &name, silent_at).await;
}

/// The network loses the connections at any point of the check that a service makes when it starts. The next check
/// works.
#[tokio::test]
async fn a_start_goes_on_when_its_connections_die_in_silence() {
    let mut checks = JoinSet::new();
    for pieces in (0..PIECES).step_by(PIECES / CHECKS) {
        // A lock of a dead connection is held for 4 seconds, which would add up in one database.
        let test_db = TestDb::new().await;
        let (proxy, through) = Proxy::before(&test_db.url).await;
        proxy.silence_after(pieces);
        let limits = DbLimits {
            max_connections: 2,
            connection_wait: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(1),
        };
        let db = Db::new(&through, None, &limits).unwrap();
        checks.spawn(async move {
            let started = timeout(6 * RECOVERY_LIMIT, until_usable(&db)).await;
            started.unwrap_or_else(|_| panic!("stuck after {pieces} pieces")).unwrap();
            drop(test_db);
            proxy.has_died()
        });
    }
    let died = checks.join_all().await.into_iter().filter(|died| *died).count();
    assert!(died > CHECKS * 9 / 10, "{died} of the checks lost a connection");
}

/// The network drops everything for a while, then nothing.
#[tokio::test]
async fn after_packet_loss_requests_work_again() {
    let db = TestDb::new().await;
    let (proxy, through) = Proxy::before(&db.url).await;
    let service = Service::start_on(open(&through)).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    fill_pool(&clients, &name).await;
    proxy.go_dark();
    // Requests made during the outage must not delay those made after it.
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let (mut clients, name) = (clients.clone(), name.clone());
            tokio::spawn(async move {
                let request = v1::GetCampaignRequest { name };
                clients.campaigns.get_campaign(request).await.map(|_| ())
            })
        })
        .collect();
    eventually("health notices", || async {
        (health(&clients).await == ServingStatus::NotServing).then_some(())
    })
    .await;
    proxy.come_back();
    works(&clients, &name, Instant::now()).await;
    for answer in asked {
        if let Err(status) = answer.await.unwrap() {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }
    eventually("health notices", || async {
        (health(&clients).await == ServingStatus::Serving).then_some(())
    })
    .await;
}

/// Checks that many requests in a row succeed, and soon.
async fn works(clients: &Clients, name: &str, since: Instant) {
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let request = v1::GetCampaignRequest { name: name.to_owned() };
        let answer = clients.clone().campaigns.get_campaign(request).await;
        in_a_row = if answer.is_ok() { in_a_row + 1 } else { 0 };
        assert!(since.elapsed() < RECOVERY_LIMIT, "{answer:?}");
    }
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_serving() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    db.set_default("default_transaction_read_only = on").await;
    eventually("health notices", || async {
        (health(&clients).await == ServingStatus::NotServing).then_some(())
    })
    .await;
    let request = v1::CreateCampaignRequest {
        campaign: Some(v1::Campaign { display_name: "x".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let refused = clients.campaigns.create_campaign(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    db.set_default("default_transaction_read_only = off").await;
    eventually("health notices", || async {
        (health(&clients).await == ServingStatus::Serving).then_some(())
    })
    .await;
    clients.add_contacts(&name, 0..1).await;
}

/// A migration of a later version changes a type. Each connection prepares its statements again.
#[tokio::test]
async fn statements_prepared_for_another_schema_are_prepared_again() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    fill_pool(&clients, &name).await;
    let change = "ALTER TABLE campaigns ALTER tenant DROP DEFAULT, ALTER tenant TYPE varchar";
    db.client().await.batch_execute(change).await.unwrap();
    let mut failed = 0;
    for _ in 0..40 {
        let request = v1::GetCampaignRequest { name: name.clone() };
        if let Err(status) = clients.campaigns.get_campaign(request).await {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            failed += 1;
        }
    }
    assert!(failed <= 2, "{failed} requests failed, one for each connection");
}

/// The network died between a request and its last message. The server then counts the session neither as idle nor as
/// busy, and its locks would stay.
#[tokio::test]
async fn a_request_that_broke_off_does_not_keep_its_gate() {
    let test_db = TestDb::new().await;
    let client = test_db.client().await;
    let (proxy, through) = Proxy::before(&test_db.url).await;
    let limits = DbLimits {
        max_connections: 1,
        connection_wait: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(1),
    };
    let broken = Db::new(&through, None, &limits).unwrap();
    let gate = Gate::Exclusive(Uuid::new_v4());
    let mut connection = broken.connect().await.unwrap();
    // The next time, nothing has to be prepared before the gate.
    drop(connection.begin(gate).await.unwrap());
    let sql = "SELECT current_setting('server_version_num')::int >= 170000";
    if !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
        eprintln!("not checked: before PostgreSQL 17, no server ends such a transaction");
        return;
    }
    proxy.break_off();
    let hung = tokio::spawn(async move { connection.begin(gate).await.map(|_| ()) });
    eventually("the gate is taken", || async {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let held: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        (held > 0).then_some(())
    })
    .await;
    let asked = Instant::now();
    test_db.db().connect().await.unwrap().begin(gate).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    hung.abort();
}
