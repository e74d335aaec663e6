//! Leases of an open time zone beside retries that are due in a shut one.

use crate::api::{Api, endless};
use crate::args::Args;
use crate::crowd::id_of;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED};
use crate::stats::{median, milliseconds};
use crate::stream::Stream;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::time::Instant;

/// Retries that are due in the shut zone.
const RETRIES: i64 = 500_000;
/// Leases of one contact in a round.
const LEASES: usize = 500;
/// Group of the shut zone.
const SHUT: i32 = 99;

pub async fn run(args: &Args) -> Figure {
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        alone.push(lease(args, 0).await);
        beside.push(lease(args, RETRIES).await);
    }
    println!("  leases beside shut retries: {:.2} ms, {:.2} ms", median(&beside), median(&alone));
    let name = |retries| format!("lease of an open zone beside {retries} retries due in shut ones");
    Figure::new("ms", Measure::of_rounds(name(RETRIES), &beside))
        .beside(Measure::of_rounds(name(0), &alone))
        .goal(Goal::AtMost(1.5))
}

/// Returns the median of the time that a lease takes, in milliseconds.
async fn lease(args: &Args, retries: i64) -> f64 {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let (mut api, client) = (Api::new(&replica.channel), scratch.client().await);
    let name = api.create_with(LEASES).await;
    api.launch(&name, endless()).await;
    // No zone has this name, so the zone is never open.
    let group = "INSERT INTO contact_groups (campaign_id, group_id, time_zone, priority)
        VALUES ($1, $2, 'Nowhere/Unknown', 5)";
    client.execute(group, &[&id_of(&name), &SHUT]).await.unwrap();
    let due = "INSERT INTO due_contacts (campaign_id, position, run, group_id, due_at)
        SELECT $1, 1000000 + n, 1, $2, now() - interval '1 hour' FROM generate_series(1, $3::bigint) n";
    client.execute(due, &[&id_of(&name), &SHUT, &retries]).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let mut worker = Stream::open(&replica.channel, "bench".to_owned(), &[]).await;
    let mut times = Vec::new();
    for _ in 0..LEASES {
        let started = Instant::now();
        worker.credit(1);
        while !matches!(worker.next().await, Response::Batch(_)) {}
        times.push(milliseconds(started.elapsed()));
    }
    median(&times)
}
