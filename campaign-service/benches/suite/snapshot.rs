//! Throughput while another session holds a snapshot open, as a report or a backup does, so that no dead row can be
//! removed. Throughput without a snapshot stands beside it. The textbook queue is measured in the same way.

use crate::args::{Args, CONNECTIONS};
use crate::floors::textbook;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED};
use crate::steady::{Steady, mean, rates};
use serde_json::json;
use tokio_postgres::Client;

/// Campaigns that are launched again and again, so that others go on while one is being completed.
const CAMPAIGNS: usize = 3;
/// Seconds that are not counted at the start.
const WARM_UP_SECONDS: u64 = 5;
/// Longest measurement of the references: ours without a snapshot, and the textbook queue, whose rate has fallen by
/// then.
const MAX_COMPARED_SECONDS: u64 = 60;
/// Last share of the time, whose rate is shown separately: by then, a falling rate has fallen.
const LAST_PART: usize = 4;

/// Contacts in each second.
struct Rates {
    without: Vec<f64>,
    with: Vec<f64>,
}

pub async fn run(args: Args) -> Vec<Figure> {
    let seconds = args.snapshot_seconds;
    let compared = seconds.min(MAX_COMPARED_SECONDS);
    println!("  textbook queue, {compared} s without, {compared} s with a snapshot held open");
    let textbook = {
        let scratch = Scratch::new(&args.database_url).await;
        let queue = textbook::Steady::start(&scratch).await;
        rates(WARM_UP_SECONDS, || queue.count()).await;
        let without = rates(compared, || queue.count()).await;
        let holder = hold_snapshot(&scratch, "queue").await;
        let with = rates(compared, || queue.count()).await;
        release(holder).await;
        Rates { without, with }
    };
    println!("  ours, {compared} s without, {seconds} s with a snapshot held open");
    let ours = {
        let scratch = Scratch::new(&args.database_url).await;
        let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
        let contacts = (args.contacts / CAMPAIGNS).max(1);
        let mut steady = Steady::start(&replica, CAMPAIGNS, contacts, CONNECTIONS).await;
        steady.rates(WARM_UP_SECONDS).await;
        let without = steady.rates(compared).await;
        let holder = hold_snapshot(&scratch, "campaigns").await;
        let with = steady.rates(seconds).await;
        release(holder).await;
        Rates { without, with }
    };
    let goal = Goal::AtLeast(0.8);
    vec![
        figure("ours", seconds, &ours, whole).goal(goal),
        figure("ours, last quarter", seconds, &ours, last_part).goal(goal),
        figure("floor-textbook", compared, &textbook, whole),
        figure("floor-textbook, last quarter", compared, &textbook, last_part),
    ]
}

fn figure(name: &str, seconds: u64, rates: &Rates, pick: fn(&[f64]) -> &[f64]) -> Figure {
    let measure = |name: String, rates: &[f64]| Measure {
        name,
        value: mean(pick(rates)),
        detail: json!({ "each_second": rates }),
    };
    let with = measure(format!("{name}, snapshot held {seconds} s"), &rates.with);
    Figure::new("contacts/s", with).beside(measure(format!("{name}, none"), &rates.without))
}

fn whole(rates: &[f64]) -> &[f64] {
    rates
}

fn last_part(rates: &[f64]) -> &[f64] {
    &rates[rates.len() - rates.len().div_ceil(LAST_PART)..]
}

/// Opens a session that is idle in a transaction whose snapshot was taken now.
async fn hold_snapshot(scratch: &Scratch, table: &str) -> Client {
    let client = scratch.client().await;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
    client
}

/// Ends the session. Fails if the snapshot did not last until now.
async fn release(client: Client) {
    client.batch_execute("COMMIT").await.expect("the snapshot was held to the end");
}
