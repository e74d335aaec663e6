//! A request that removes the right to dial is answered only when that right is gone in every campaign concerned.

use crate::support::{Clients, Held, Service, TestDb, Worker, eventually, phone, waits};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AuthorizeDecision as Decision, ExclusionReason, InteractionStatus, RevokeReason,
};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_postgres::Client;
use tonic::Code;

/// Requests that remove the right to dial, once they are acknowledged.
#[derive(Clone, Copy, Debug)]
enum Taker {
    Pause,
    Cancel,
    OptOut,
    Suppression,
    /// Opt-out everywhere, reported in another campaign.
    OptOutElsewhere,
    /// The same opt-out, repeated by a caller that got no answer at first.
    RepeatedOptOutElsewhere,
}

impl Taker {
    /// Sends the request. Says so through `begun` just before.
    async fn take(
        self,
        clients: &mut Clients,
        held: &Held,
        watcher: &Client,
        begun: oneshot::Sender<()>,
    ) {
        let name = held.contact.split("/contacts/").next().unwrap().to_owned();
        if let Self::RepeatedOptOutElsewhere = self {
            return repeat_elsewhere(clients, held, watcher, begun).await;
        }
        begun.send(()).unwrap();
        match self {
            Self::Pause => clients.pause(&name).await,
            Self::Cancel => clients.cancel(&name).await,
            Self::OptOut => {
                let fact = Fact::OptedOut(v1::OptedOut::default());
                let status = clients.record(&held.contact, "stop", fact).await;
                assert_eq!(status, InteractionStatus::Recorded);
            }
            Self::Suppression => {
                let request = v1::AddSuppressionsRequest {
                    phone_numbers: vec![held.phone.clone()],
                    source: "test".to_owned(),
                    ..Default::default()
                };
                clients.contacts.add_suppressions(request).await.unwrap();
            }
            Self::OptOutElsewhere => {
                let contact = same_contact_elsewhere(clients, held).await;
                let status = clients.record(&contact, "stop", opt_out_everywhere()).await;
                assert_eq!(status, InteractionStatus::Recorded);
            }
            Self::RepeatedOptOutElsewhere => {}
        }
    }
}

/// Reports an opt-out whose caller leaves before the answer, then repeats it.
async fn repeat_elsewhere(
    clients: &mut Clients,
    held: &Held,
    watcher: &Client,
    begun: oneshot::Sender<()>,
) {
    let contact = same_contact_elsewhere(clients, held).await;
    let (mut first, to) = (clients.clone(), contact.clone());
    let first = tokio::spawn(async move {
        first.record(&to, "stop", opt_out_everywhere()).await;
    });
    let request = v1::GetSuppressionRequest { name: format!("suppressions/{}", held.phone) };
    eventually("the first report is durable", || {
        let (mut clients, request) = (clients.clone(), request.clone());
        async move { clients.contacts.get_suppression(request).await.ok() }
    })
    .await;
    eventually("the first report waits", || waits(watcher, "advisory")).await;
    assert!(!first.is_finished(), "it was answered before the authorisation");
    first.abort();
    eventually("nothing of the first report waits", || async {
        waits(watcher, "advisory").await.is_none().then_some(())
    })
    .await;
    begun.send(()).unwrap();
    let status = clients.record(&contact, "stop", opt_out_everywhere()).await;
    assert_eq!(status, InteractionStatus::Duplicate);
}

fn opt_out_everywhere() -> Fact {
    Fact::OptedOut(v1::OptedOut { channel: "call".to_owned(), everywhere: true })
}

/// Creates another campaign with the same contacts. Returns its contact with the same number.
async fn same_contact_elsewhere(clients: &mut Clients, held: &Held) -> String {
    let other = clients.create_campaign().await;
    clients.add_contacts(&other, 0..2).await;
    let (_, position) = held.contact.rsplit_once('/').unwrap();
    format!("{other}/contacts/{position}")
}

/// P3 and P4 at their narrowest. An authorisation has read that it may be given, and is not committed yet. A request
/// on another replica that removes the right is answered only after that commit. Then nobody can see an authorisation
/// committed after that answer.
#[tokio::test]
async fn p3_p4_whoever_takes_the_right_away_waits_for_authorisations_under_way() {
    for taker in [
        Taker::Pause,
        Taker::Cancel,
        Taker::OptOut,
        Taker::Suppression,
        Taker::OptOutElsewhere,
        Taker::RepeatedOptOutElsewhere,
    ] {
        let db = TestDb::new().await;
        let (one, two) = (Service::start(&db).await, Service::start(&db).await);
        let mut clients = one.clients.clone();
        let name = clients.create_campaign().await;
        clients.add_contacts(&name, 0..2).await;
        clients.launch(&name).await;
        let mut worker = Worker::connect(&clients, "w", &name).await;
        let held = worker.lease(2).await;

        // No authorisation can be written until this transaction is rolled back.
        let mut blocker = db.client().await;
        let block = blocker.transaction().await.unwrap();
        block.batch_execute("LOCK TABLE authorizations IN SHARE MODE").await.unwrap();
        let asked = held[0].clone();
        let asking = tokio::spawn(async move { worker.authorize(&[asked]).await.remove(0).0 });
        let watcher = Arc::new(db.client().await);
        eventually("the authorisation is under way", || waits(watcher.as_ref(), "relation")).await;

        let mut other = two.clients.clone();
        let (target, watching) = (held[0].clone(), Arc::clone(&watcher));
        let (begun, has_begun) = oneshot::channel();
        let taking = tokio::spawn(async move {
            taker.take(&mut other, &target, &watching, begun).await;
        });
        has_begun.await.unwrap();
        eventually("the taker waits or is answered", || async {
            if taking.is_finished() { Some(()) } else { waits(watcher.as_ref(), "advisory").await }
        })
        .await;
        assert!(!taking.is_finished(), "{taker:?} was answered before the authorisation");
        block.rollback().await.unwrap();
        assert_eq!(asking.await.unwrap(), Decision::Granted, "{taker:?}");
        taking.await.unwrap();
    }
}

/// P4 over all campaigns: a person who opts out everywhere in one campaign is not engaged in another. A person who opts
/// out of one campaign only is engaged in others.
#[tokio::test]
async fn p4_who_opts_out_everywhere_is_engaged_nowhere() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let (here, there) = (clients.create_campaign().await, clients.create_campaign().await);
    for name in [&here, &there] {
        clients.add_contacts(name, 0..4).await;
        clients.launch(name).await;
    }
    let mut caller = Worker::connect(&clients, "here", &here).await;
    let in_call = caller.lease(1).await.remove(0);
    let attempt = caller.granted(&in_call).await;
    let mut other = Worker::connect(&two.clients, "there", &there).await;
    let held = other.lease(4).await;
    assert_eq!(in_call.phone, held[0].phone);

    // The three opt out in a call, by a backend, and of this campaign only.
    let status = caller.tell(&in_call, &attempt, "said", opt_out_everywhere()).await;
    assert_eq!(status, InteractionStatus::Recorded);
    let web = format!("{here}/contacts/1");
    let status = clients.record(&web, "web", opt_out_everywhere()).await;
    assert_eq!(status, InteractionStatus::Recorded);
    let only_here = Fact::OptedOut(v1::OptedOut::default());
    clients.record(&format!("{here}/contacts/2"), "web", only_here).await;

    let decisions = other.authorize(&held).await.into_iter().map(|(decision, _)| decision);
    let (excluded, granted) = (Decision::Excluded, Decision::Granted);
    assert_eq!(decisions.collect::<Vec<_>>(), [excluded, excluded, granted, granted]);
    for held in &held[..2] {
        let revoked = other.revoked().await;
        assert_eq!((&revoked.contact, revoked.reason()), (&held.contact, RevokeReason::Suppressed));
        assert_eq!(clients.explain(&held.contact).await.reason(), ExclusionReason::Suppressed);
        let get = v1::GetSuppressionRequest { name: format!("suppressions/{}", held.phone) };
        let entry = clients.contacts.get_suppression(get).await.unwrap().into_inner();
        assert_eq!(entry.source, format!("opt-out in {here}"));
    }
    let kept = clients.history(&web).await.interactions.remove(0);
    assert_eq!(kept.fact, Some(opt_out_everywhere()));

    // A reset brings back only the person who opted out of this campaign.
    clients.cancel(&here).await;
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&here, reset).await;
    let explained = clients.explain(&web).await;
    assert_eq!(explained.reason(), ExclusionReason::Suppressed);
    let explained = clients.explain(&format!("{here}/contacts/2")).await;
    assert_eq!(explained.reason(), ExclusionReason::Unspecified, "{explained:?}");

    // Numbers taken off the list stay off it, although the same fact is reported again.
    let status = clients.record(&web, "web again", opt_out_everywhere()).await;
    assert_eq!(status, InteractionStatus::Recorded);
    let name = format!("suppressions/{}", held[1].phone);
    let remove = v1::RemoveSuppressionRequest { name: name.clone(), ..Default::default() };
    clients.contacts.remove_suppression(remove).await.unwrap();
    let status = clients.record(&web, "web again", opt_out_everywhere()).await;
    assert_eq!(status, InteractionStatus::Duplicate);
    let get = v1::GetSuppressionRequest { name };
    assert_eq!(clients.contacts.get_suppression(get).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(held[1].phone, phone(1));
}
