//! Speed to lead: the time from the call that creates a contact until the waiting worker has the
//! contact.

use crate::api::{Api, phone};
use crate::args::Args;
use crate::bare::Bare;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::Replica;
use crate::stats::milliseconds;
use crate::stream::{Stream, assert_recorded, call_ended};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::time::Instant;

/// Credit of the worker that waits.
const CREDIT_CONTACTS: usize = 100;
const HIGHEST_PRIORITY: i32 = 9;
/// Trials that are not counted: connections open, statements are prepared.
const WARM_UP_TRIALS: usize = 20;

pub async fn run(args: Args) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first(&scratch.url).await;
    let mut api = Api::new(&replica.channel);
    let name = api.create_with(1).await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    api.launch(&name, settings).await;
    let mut bare = Bare::start(&scratch, 1).await;
    let mut worker = Stream::open(&replica.channel, "bench".to_owned(), &[]).await;
    worker.credit(CREDIT_CONTACTS);
    let first = batch(&mut worker).await;
    dial(&mut worker, first).await;
    let (mut ours, mut notify, mut durable) = (Vec::new(), Vec::new(), Vec::new());
    for trial in 0..WARM_UP_TRIALS + args.lead_trials {
        let contact = v1::Contact {
            phone_number: phone(trial + 1),
            priority: HIGHEST_PRIORITY,
            ..Default::default()
        };
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let mut contacts = api.contacts.clone();
        let started = Instant::now();
        let creating = tokio::spawn(async move { contacts.create_contact(request).await.unwrap() });
        let batch = batch(&mut worker).await;
        let taken = milliseconds(started.elapsed());
        let created = creating.await.unwrap().into_inner();
        assert_eq!(batch.contacts[0].contact, created.name);
        dial(&mut worker, batch).await;
        let trips = (bare.round_trip().await, bare.durable_round_trip().await);
        if trial >= WARM_UP_TRIALS {
            ours.push(taken);
            notify.push(trips.0);
            durable.push(trips.1);
        }
        if (trial + 1).is_multiple_of(100) {
            println!("  {} contacts created", trial + 1);
        }
    }
    let beside = |percent, reference, times: &[f64]| {
        let ours = Measure::of_repeats("new contact until its worker has it", percent, &ours);
        Figure::new("ms", ours).beside(Measure::of_repeats(reference, percent, times))
    };
    let (bare, row) = ("bare NOTIFY and stream", "one durable row, NOTIFY and stream");
    vec![
        beside(50.0, bare, &notify).goal(Goal::AtMost(3.0)),
        beside(99.0, bare, &notify).goal(Goal::AtMost(3.0)),
        beside(50.0, row, &durable),
        beside(99.0, row, &durable),
    ]
}

async fn batch(worker: &mut Stream) -> v1::Batch {
    loop {
        if let Response::Batch(batch) = worker.next().await {
            return batch;
        }
    }
}

/// Dials a contact, and waits until the worker is idle again.
async fn dial(worker: &mut Stream, batch: v1::Batch) {
    let contact = batch.contacts.into_iter().next().unwrap();
    let (lease, slots) = (batch.lease, vec![contact.slot]);
    let authorize = v1::Authorize { request_number: 1, lease, slots, ..Default::default() };
    worker.send(Request::Authorize(authorize));
    let mut contact = Some(contact.contact);
    loop {
        match worker.next().await {
            Response::AuthorizeResult(result) => {
                let attempt = result.attempts.into_iter().next().unwrap();
                let interactions = vec![call_ended(contact.take().unwrap(), attempt.attempt_id)];
                worker.send(Request::Report(v1::Report {
                    report_number: 1,
                    interactions,
                    ..Default::default()
                }));
            }
            Response::ReportAck(ack) => {
                assert_recorded(&ack);
                worker.credit(1);
            }
            Response::Idle(idle) if idle.credit_contacts == CREDIT_CONTACTS as i32 => return,
            _ => {}
        }
    }
}
