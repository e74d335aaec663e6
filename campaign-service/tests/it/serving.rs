//! Workers serve campaigns by pool and channel.

use crate::support::{
    Clients, Held, Service, TestDb, Worker, always, bad_fields, eventually, id_of,
};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{AuthorizeDecision as Decision, IdleReason};
use std::collections::BTreeSet;

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Launches a campaign with three contacts, of a pool and with channels.
async fn launch(clients: &mut Clients, pool: &str, channels: &[&str]) -> String {
    launch_with(clients, pool, channels, 0..3).await
}

async fn launch_with(
    clients: &mut Clients,
    pool: &str,
    channels: &[&str],
    numbers: std::ops::Range<usize>,
) -> String {
    let campaign = v1::Campaign {
        display_name: "Spring".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(always()),
        worker_pool: pool.to_owned(),
        channels: texts(channels),
        ..Default::default()
    };
    let name = clients.create_campaign_with(campaign).await;
    clients.add_contacts(&name, numbers).await;
    let launched = clients.launch(&name).await;
    assert_eq!((launched.worker_pool.as_str(), launched.channels), (pool, texts(channels)));
    name
}

/// Connects a worker of some pools that can do some channels.
async fn worker(clients: &Clients, id: &str, pools: &[&str], channels: &[&str]) -> Worker {
    let hello = v1::Hello {
        worker_id: id.to_owned(),
        protocol_version: 1,
        pools: texts(pools),
        channels: texts(channels),
        ..Default::default()
    };
    Worker::open(clients, Request::Hello(hello)).await.unwrap()
}

async fn move_to(clients: &mut Clients, name: &str, pool: &str) {
    let request = v1::UpdateCampaignRequest {
        campaign: Some(v1::Campaign {
            name: name.to_owned(),
            worker_pool: pool.to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: texts(&["worker_pool"]) }),
        ..Default::default()
    };
    let moved = clients.campaigns.update_campaign(request).await.unwrap().into_inner();
    assert_eq!((moved.state(), moved.worker_pool.as_str()), (v1::CampaignState::Running, pool));
}

/// Returns the campaigns that contacts are of.
fn campaigns(held: &[Held]) -> BTreeSet<&str> {
    held.iter().map(|held| held.contact.split_once("/contacts/").unwrap().0).collect()
}

/// Takes all that a worker gets, and gives it back. Returns the campaigns, in order.
async fn served(worker: &mut Worker) -> Vec<String> {
    let held = worker.lease(100).await;
    let leases: BTreeSet<(&str, &str)> =
        held.iter().map(|held| (held.lease.lease.as_str(), held.lease.token.as_str())).collect();
    for (lease, token) in leases {
        let key = v1::LeaseKey { lease: lease.to_owned(), token: token.to_owned() };
        worker.release(&key, Vec::new()).await;
    }
    campaigns(&held).into_iter().map(str::to_owned).collect()
}

fn sorted(names: &[&String]) -> Vec<String> {
    names.iter().copied().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[tokio::test]
async fn a_text_sender_takes_no_call_and_a_caller_sends_no_text() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let call = launch(&mut clients, "", &["call"]).await;
    let text = launch(&mut clients, "", &["sms"]).await;
    let both = launch(&mut clients, "", &["call", "sms"]).await;
    let any = launch(&mut clients, "", &[]).await;
    let mut sender = worker(&clients, "sender", &[], &["sms", "email"]).await;
    assert_eq!(served(&mut sender).await, sorted(&[&text, &both, &any]));
    sender.close().await;
    let mut caller = worker(&clients, "caller", &[], &["call"]).await;
    assert_eq!(served(&mut caller).await, sorted(&[&call, &both, &any]));
    caller.close().await;
    let mut post = worker(&clients, "post", &[], &["letter"]).await;
    assert_eq!(served(&mut post).await, [any]);
}

#[tokio::test]
async fn each_pool_serves_its_campaigns_and_an_older_worker_those_without_one() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let berlin = launch(&mut clients, "berlin", &["call"]).await;
    let texas = launch(&mut clients, "texas", &["call"]).await;
    let none = launch(&mut clients, "", &["call"]).await;
    let pools: [(&[&str], Vec<String>); 4] = [
        (&["berlin"], sorted(&[&berlin])),
        (&["texas"], sorted(&[&texas])),
        (&["texas", "berlin", "rome"], sorted(&[&berlin, &texas])),
        (&["rome"], Vec::new()),
    ];
    for (pools, campaigns) in pools {
        let mut caller = worker(&clients, "caller", pools, &["call"]).await;
        assert_eq!(served(&mut caller).await, campaigns, "{pools:?}");
        caller.close().await;
        let mut sender = worker(&clients, "sender", pools, &["sms"]).await;
        assert_eq!(served(&mut sender).await, Vec::<String>::new(), "{pools:?}");
        sender.close().await;
    }
    let mut older = worker(&clients, "older", &[], &[]).await;
    assert_eq!(served(&mut older).await, [none]);
    older.close().await;
    // A worker that asks for a campaign gets it only if it is in its pool.
    let mut asking = Worker::connect(&clients, "asking", &berlin).await;
    assert_eq!(served(&mut asking).await, Vec::<String>::new());
}

#[tokio::test]
async fn leases_follow_a_running_campaign_to_its_new_pool_and_held_ones_stay() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = launch_with(&mut clients, "a", &[], 0..60).await;
    let mut first = worker(&two.clients, "first", &["a"], &[]).await;
    let held = first.lease(10).await;
    assert_eq!(held.len(), 10);
    // Nobody waits at the other replica, which still lists the campaign for the old pool.
    move_to(&mut clients, &name, "b").await;
    let leases = async || {
        let sql = "SELECT count(*) FROM leases WHERE campaign_id = $1";
        db.client().await.query_one(sql, &[&id_of(&name)]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(first.lease(10).await.len(), 0, "the campaign is another pool's");
    assert_eq!(leases().await, 1);
    // A worker that waits gets contacts at once when the campaign comes to its pool.
    let mut second = worker(&two.clients, "second", &["b"], &[]).await;
    let second_held = second.lease(10).await;
    assert_eq!(second_held.len(), 10);
    move_to(&mut clients, &name, "a").await;
    assert_eq!(first.batch().await.len(), 10);
    // A worker keeps the leases that it holds.
    move_to(&mut clients, &name, "c").await;
    second.granted(&second_held[0]).await;
    let key = held[0].lease.clone();
    let renew = v1::Renew { leases: vec![key], ..Default::default() };
    first.send(Request::Renew(renew)).await;
    let renewed = first
        .wait(|message| match message {
            Response::RenewResult(result) => Some(result.leases[0].clone()),
            _ => None,
        })
        .await;
    assert!(!renewed.lost);
    for (decision, _) in first.authorize(&held).await {
        assert_eq!(decision, Decision::Granted);
    }
}

#[tokio::test]
async fn a_campaign_says_which_workers_it_waits_for() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = launch(&mut clients, "a", &["call"]).await;
    let says = async |reason: IdleReason, message: &str| {
        eventually(&format!("the campaign says {reason:?} {message}"), || {
            let (mut clients, name) = (clients.clone(), name.clone());
            async move {
                let progress = clients.progress(&name).await;
                let is_said = progress.idle_reason() == reason && progress.idle_message == message;
                is_said.then_some(())
            }
        })
        .await;
    };
    let wanted = "it needs workers of the pool a for call";
    says(IdleReason::NoWorker, wanted).await;
    // The trouble of workers that would not serve the campaign is not its trouble.
    for (id, pools, channels) in [("b", &["b"][..], &[][..]), ("s", &["a"], &["sms"])] {
        let other = worker(&clients, id, pools, channels).await;
        let report = v1::ProviderReport { failing: true, reason: "not mine".to_owned() };
        other.send(Request::ProviderReport(report)).await;
        eventually("the trouble is stored", || async {
            let sql = "SELECT FROM provider_troubles WHERE worker_id = $1";
            db.client().await.query_opt(sql, &[&id]).await.unwrap()
        })
        .await;
        says(IdleReason::NoWorker, wanted).await;
        other.close().await;
    }
    let own = worker(&clients, "own", &["a"], &["call"]).await;
    let report = v1::ProviderReport { failing: true, reason: "no trunk".to_owned() };
    own.send(Request::ProviderReport(report)).await;
    says(IdleReason::ProviderFailing, "no trunk").await;
}

#[tokio::test]
async fn a_command_of_the_version_before_leaves_a_campaign_in_its_pool() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = launch(&mut clients, "a", &["call"]).await;
    // The version before writes configuration and agenda without pool and channels.
    let older = "UPDATE campaigns SET config = config - 'needs';
        UPDATE agenda SET worker_pool = NULL, channels = NULL";
    db.client().await.batch_execute(older).await.unwrap();
    let campaign = clients.campaign(&name).await;
    assert_eq!((campaign.worker_pool.as_str(), campaign.channels), ("a", texts(&["call"])));
    let mut other = worker(&clients, "other", &[], &[]).await;
    assert_eq!(served(&mut other).await, Vec::<String>::new());
    let mut own = worker(&clients, "own", &["a"], &["call"]).await;
    assert_eq!(served(&mut own).await, [name]);
}

#[tokio::test]
async fn names_of_pools_and_channels_are_plain_and_few() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let (long, many) = ("a".repeat(64), vec!["a"; 101]);
    for (field, pool, channels) in [
        ("campaign.worker_pool", "Berlin", &[][..]),
        ("campaign.worker_pool", &long, &[]),
        ("campaign.channels", "", &many[..11]),
        ("campaign.channels[1]", "", &["sms", &long[..51]]),
        ("campaign.channels[0]", "", &[""]),
        ("campaign.channels[0]", "", &["a b"]),
    ] {
        let campaign = v1::Campaign {
            display_name: "Spring".to_owned(),
            worker_pool: pool.to_owned(),
            channels: texts(channels),
            ..Default::default()
        };
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        let status = clients.campaigns.create_campaign(request).await.unwrap_err();
        assert_eq!(bad_fields(&status), [field]);
    }
    for (field, pools, channels) in [
        ("hello.pools", &many[..], &[][..]),
        ("hello.pools[0]", &[""], &[]),
        ("hello.channels", &[], &many),
        ("hello.channels[0]", &[], &["SMS"]),
    ] {
        let hello = v1::Hello {
            worker_id: "w".to_owned(),
            protocol_version: 1,
            pools: texts(pools),
            channels: texts(channels),
            ..Default::default()
        };
        let status = Worker::open(&clients, Request::Hello(hello)).await.unwrap_err();
        assert_eq!(bad_fields(&status), [field]);
    }
}
