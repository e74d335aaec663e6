//! Leases from a list of which 99% are excluded, spread evenly, beside leases from a list without exclusions.

use crate::api::{Api, phone};
use crate::args::{Args, BATCH_CONTACTS};
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::Replica;
use crate::stats::milliseconds;
use crate::stream::Stream;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use std::time::Instant;
use tokio::task::JoinSet;

/// Share of the contacts that is engaged: one in so many.
const ENGAGED_PART: usize = 100;
/// Facts in one request.
const FACTS: usize = 1_000;
/// Requests at the same time.
const REPORTERS: usize = 4;
/// Most leases of one launch.
const MAX_LEASES: usize = 20;

/// Times of leases, in milliseconds from the credit for a batch.
#[derive(Default)]
struct Times {
    first_batch: Vec<f64>,
    all_contacts: Vec<f64>,
    batches: usize,
}

pub async fn run(args: Args) -> Vec<Figure> {
    let contacts = args.large_contacts;
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first(&scratch.url).await;
    let mut api = Api::new(&replica.channel);
    println!("  importing two lists of {contacts} contacts");
    let clean = api.create_with(contacts).await;
    let excluded = api.create_with(contacts).await;
    record_successes(&api, &excluded, contacts).await;
    scratch.client().await.batch_execute("VACUUM ANALYZE").await.unwrap();
    // Both lists give as many leases.
    let leases = (contacts / ENGAGED_PART / BATCH_CONTACTS).clamp(1, MAX_LEASES);
    let (mut at_none, mut at_most) = (Times::default(), Times::default());
    for round in 1..=args.rounds {
        println!("  round {round} of {}: {leases} leases from each list", args.rounds);
        lease(&mut api, &clean, leases, &mut at_none).await;
        lease(&mut api, &excluded, leases, &mut at_most).await;
    }
    let beside = |what: &str, pick: fn(&Times) -> &Vec<f64>, percent: f64| {
        let most = Measure::of_repeats(&format!("{what}, 99% excluded"), percent, pick(&at_most));
        let none = Measure::of_repeats(&format!("{what}, none excluded"), percent, pick(&at_none));
        Figure::new("ms", most).beside(none)
    };
    let size =
        |times: &Times| (leases * args.rounds * BATCH_CONTACTS) as f64 / times.batches as f64;
    vec![
        beside("credit for 500 until a batch", |times| &times.first_batch, 50.0)
            .goal(Goal::AtMost(3.0)),
        beside("credit for 500 until 500", |times| &times.all_contacts, 50.0)
            .goal(Goal::AtMost(3.0)),
        beside("credit for 500 until 500", |times| &times.all_contacts, 99.0),
        Figure::new("contacts", Measure::new("contacts in a batch, 99% excluded", size(&at_most)))
            .beside(Measure::new("contacts in a batch, none excluded", size(&at_none))),
    ]
}

/// Records a success for all but one contact in a hundred.
async fn record_successes(api: &Api, name: &str, contacts: usize) {
    let started = Instant::now();
    let mut reporters = JoinSet::new();
    for reporter in 0..REPORTERS {
        let (api, name) = (api.clone(), name.to_owned());
        reporters.spawn(async move {
            for first in (0..contacts).step_by(FACTS).skip(reporter).step_by(REPORTERS) {
                let numbers = (first..(first + FACTS).min(contacts))
                    .filter(|n| !n.is_multiple_of(ENGAGED_PART));
                report(&api, &name, numbers.map(success).collect()).await;
                if (first / FACTS).is_multiple_of(100) {
                    println!("  successes recorded up to contact {first}");
                }
            }
        });
    }
    reporters.join_all().await;
    let rate = contacts as f64 / started.elapsed().as_secs_f64();
    println!("  successes recorded through gRPC, {rate:.0} a second");
}

fn success(n: usize) -> v1::ReportedInteraction {
    let interaction = v1::Interaction {
        interaction_id: "goal".to_owned(),
        fact: Some(Fact::Success(v1::Success {})),
        ..Default::default()
    };
    v1::ReportedInteraction { interaction: Some(interaction), phone_number: phone(n) }
}

async fn report(api: &Api, name: &str, interactions: Vec<v1::ReportedInteraction>) {
    let request = v1::RecordInteractionsRequest { parent: name.to_owned(), interactions };
    let response = api.interactions.clone().record_interactions(request).await.unwrap();
    let recorded = v1::InteractionStatus::Recorded;
    let results = response.into_inner().results;
    assert!(results.iter().all(|result| result.status() == recorded), "{results:?}");
}

/// Launches without contacts that have a success, takes leases, and cancels.
async fn lease(api: &mut Api, name: &str, leases: usize, times: &mut Times) {
    let exclude = v1::Exclusions { success: true, ..Default::default() };
    let settings = v1::LaunchSettings { exclude: Some(exclude), ..Default::default() };
    api.launch(name, settings).await;
    let mut worker = Stream::open(&api.channel, "bench".to_owned(), &[name.to_owned()]).await;
    for _ in 0..leases {
        let started = Instant::now();
        worker.credit(BATCH_CONTACTS);
        let mut received = 0;
        while received < BATCH_CONTACTS {
            match worker.next().await {
                Response::Batch(batch) => {
                    if received == 0 {
                        times.first_batch.push(milliseconds(started.elapsed()));
                    }
                    received += batch.contacts.len();
                    times.batches += 1;
                }
                Response::Idle(_) if received > 0 => break,
                _ => {}
            }
        }
        times.all_contacts.push(milliseconds(started.elapsed()));
    }
    api.cancel(name).await;
}
