//! Defaults of the server, the database or the role break no promise.

use crate::support::postgres::Postgres;
use crate::support::processes::{migrate, serve};
use crate::support::{Clients, Service, TestDb, Worker, eventually, gate_key, phone};
use campaign_proto::v1;
use campaign_proto::v1::AuthorizeDecision as Decision;
use campaign_proto::v1::interaction::Fact;
use campaign_testkit::free_port;

/// Number of transactions that wait for the gate of a campaign.
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// P3 under repeatable read: an authorisation that waited at the gate during the commit of a pause sees the pause.
#[tokio::test]
async fn a_default_isolation_lets_no_authorisation_past_a_pause() {
    let db = TestDb::new().await;
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "lock_timeout = '1ms'",
        "statement_timeout = '50ms'",
        "idle_session_timeout = '1s'",
    ] {
        db.set_default(setting).await;
    }
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..10).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(5).await;

    let gate = gate_key(&name);
    let blocker = db.client().await;
    let own = "SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = 0";
    blocker.batch_execute(own).await.unwrap();
    blocker.execute("SELECT pg_advisory_lock($1)", &[&gate]).await.unwrap();
    let client = db.client().await;
    client.batch_execute(own).await.unwrap();
    let wait_for = async |wanted: i64| {
        eventually("they wait at the gate", || async {
            let waiting: i64 = client.query_one(WAITING, &[]).await.unwrap().get(0);
            (waiting == wanted).then_some(())
        })
        .await;
    };
    let pausing = tokio::spawn({
        let (mut clients, name) = (clients.clone(), name.clone());
        async move { clients.pause(&name).await }
    });
    wait_for(1).await;
    let authorizing = tokio::spawn(async move { worker.authorize(&held).await });
    wait_for(2).await;
    blocker.execute("SELECT pg_advisory_unlock($1)", &[&gate]).await.unwrap();
    pausing.await.unwrap();
    for (decision, _) in authorizing.await.unwrap() {
        assert_ne!(decision, Decision::Granted, "authorised after the pause");
    }
}

/// P7 with a database that by default does not wait for the disk, and a server that writes late.
#[tokio::test]
async fn what_is_acknowledged_is_durable_whatever_the_default() {
    let mut postgres =
        Postgres::start(&["wal_writer_delay=10s", "wal_writer_flush_after=100MB"]).await;
    migrate(&postgres.url()).await;
    let (client, connection) =
        tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let default = "ALTER DATABASE postgres SET synchronous_commit = off; CHECKPOINT";
    client.batch_execute(default).await.unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut service = serve(&postgres.url(), port, 300);
    let mut clients = Clients::connect(&url).await;
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..20).await;
    clients.launch(&name).await;
    let list = v1::ListContactsRequest { parent: name.clone(), ..Default::default() };
    let listed = clients.contacts.list_contacts(list).await.unwrap().into_inner().contacts;
    let contacts: Vec<String> = listed.into_iter().map(|contact| contact.name).collect();
    assert_eq!(contacts.len(), 20);
    for contact in &contacts {
        let fact = Fact::OptedOut(v1::OptedOut::default());
        let status = clients.record(contact, "stop", fact).await;
        assert_eq!(status, v1::InteractionStatus::Recorded);
    }
    clients.pause(&name).await;
    postgres.kill();
    service.kill();
    postgres.run_again().await;
    let _service = serve(&postgres.url(), port, 300);
    let mut clients = Clients::connect(&url).await;
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Paused);
    for contact in &contacts {
        assert!(clients.history(contact).await.refused, "{contact}");
    }
}

/// Options in the URL are kept, and its search path applies.
#[tokio::test]
async fn the_url_s_search_path_and_options_hold() {
    let mut db = TestDb::new().await;
    let client = db.client().await;
    client.batch_execute("CREATE SCHEMA dialer").await.unwrap();
    let url =
        format!("{}?search_path=dialer&options=-c%20default_toast_compression%3Dpglz", db.url);
    migrate(&url).await;
    let sql =
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'dialer' AND tablename = 'campaigns'";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    db.url = url;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let sql =
        "SELECT (SELECT min(phone) FROM dialer.contacts), (SELECT count(*) FROM public.contacts)";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1)), (phone(0), 0));
}
