//! P7 and P2 with real processes, killed with `kill -9`.

use crate::support::postgres::Postgres;
use crate::support::processes::{dials, migrate, serve, work};
use crate::support::{Clients, Worker, eventually, once, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, InteractionStatus};
use campaign_testkit::free_port;
use std::collections::{BTreeMap, BTreeSet};

/// P7: everything acknowledged before the service and PostgreSQL were killed is there afterwards.
#[tokio::test]
async fn p7_what_was_acknowledged_survives_kill_9_of_everything() {
    let mut postgres = Postgres::start(&[]).await;
    migrate(&postgres.url()).await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut service = serve(&postgres.url(), port, 300);
    let mut clients = Clients::connect(&url).await;
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..300).await;
    clients.launch(&name).await;

    let mut acknowledged: BTreeMap<String, CallOutcome> = BTreeMap::new();
    let mut granted: BTreeSet<String> = BTreeSet::new();
    let mut opted_out = Vec::new();
    for round in 0..3_usize {
        let mut worker = Worker::connect(&clients, &format!("w{round}"), &name).await;
        let held = worker.lease(60).await;
        assert_eq!(held.len(), 60);
        for (n, held) in held.iter().enumerate().take(50) {
            let attempt = worker.granted(held).await;
            assert!(granted.insert(attempt.clone()), "granted twice: {attempt}");
            if n % 5 == 0 {
                let fact = Fact::OptedOut(v1::OptedOut::default());
                let status = worker.tell(held, &attempt, "stop", fact).await;
                assert_eq!(status, InteractionStatus::Recorded);
                opted_out.push(held.contact.clone());
            }
            // The last contacts are in their calls when everything dies.
            if n < 45 {
                let outcome = if n % 2 == 0 { CallOutcome::Answered } else { CallOutcome::Busy };
                assert_eq!(worker.end(held, &attempt, outcome).await, InteractionStatus::Recorded);
                acknowledged.insert(held.contact.clone(), outcome);
            }
        }
        let contact = v1::Contact { phone_number: phone(1_000 + round), ..Default::default() };
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let created = clients.contacts.create_contact(request).await.unwrap().into_inner();
        clients.pause(&name).await;

        // PostgreSQL dies at once after the last acknowledgement.
        postgres.kill();
        service.kill();
        postgres.run_again().await;
        service = serve(&postgres.url(), port, 300);
        clients = Clients::connect(&url).await;

        assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Paused);
        let get = v1::GetContactRequest { name: created.name };
        clients.contacts.get_contact(get).await.unwrap();
        for (contact, outcome) in &acknowledged {
            let history = clients.history(contact).await;
            assert_eq!((history.attempts, history.last_outcome()), (1, *outcome), "{contact}");
        }
        for contact in &opted_out {
            assert!(clients.history(contact).await.refused, "{contact}");
        }
        let progress = clients.progress(&name).await;
        assert_eq!(progress.in_call, i64::try_from(5 * (round + 1)).unwrap());
        clients.resume(&name).await;
    }
}

/// P2: a worker is killed in the middle of its calls. By the provider's own log, none of them is dialled
/// again, as the retry policy says, and no contact is lost.
#[tokio::test]
async fn p2_calls_of_a_killed_worker_are_not_dialled_again() {
    let db = crate::support::TestDb::new().await;
    let port = free_port();
    let _service = serve(&db.url, port, 1);
    let mut clients = Clients::connect(&format!("http://127.0.0.1:{port}")).await;
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..400).await;
    clients.launch(&name).await;
    let log = std::env::temp_dir().join(format!("campaign-dials-{}", uuid::Uuid::new_v4()));
    // Calls last seconds, so that the kill comes in the middle of them.
    let mut first = work("first", &[port], &log, "0.05");
    eventually("the first worker is in its calls", || async {
        (dials(&log).len() >= 60).then_some(())
    })
    .await;
    first.kill();
    let _second = work("second", &[port], &log, "0.001");
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    let dials = dials(&log);
    let contacts: BTreeSet<&str> = dials.iter().map(|dial| dial.contact.as_str()).collect();
    assert_eq!(dials.len(), contacts.len(), "someone was dialled twice");
    let progress = clients.progress(&name).await;
    let attempts = progress.history.unwrap().attempts;
    assert_eq!(attempts, 400, "everyone had one attempt, unknown ones counted");
    // A worker may be killed between an authorisation and its dial, so some dials may be missing. None is extra.
    assert!(dials.len() <= 400 && dials.len() >= 350, "{} dials", dials.len());
    std::fs::remove_file(log).unwrap();
}
