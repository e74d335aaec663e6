//! Three times the load that the service can bear. The rate of answers must not fall far. Other requests must be
//! rejected with a retry delay, or held back by HTTP/2. Nothing that was acknowledged may be missing.

use crate::apart::Apart;
use crate::api::Api;
use crate::args::Args;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::Replica;
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;

const CONTACTS: usize = 10_000;
/// Clients that send requests, with a connection each.
const CLIENTS: usize = 8;
/// Requests at the same time from callers who wait for each answer: as many as the service accepts.
const PATIENT_CALLERS: usize = 256;
const TIMES: f64 = 3.0;
/// Time between two sends when nobody waits for answers.
const TICK: Duration = Duration::from_millis(5);

/// Results of the requests.
#[derive(Default)]
struct Tally {
    acknowledged: Mutex<HashSet<String>>,
    turned_away: AtomicUsize,
    sent: AtomicUsize,
}

impl Tally {
    /// Records one fact under an id of its own.
    async fn record(&self, mut api: Api, campaign: &str) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("load-{number}");
        let interaction = v1::Interaction {
            interaction_id: id.clone(),
            contact: format!("{campaign}/contacts/{}", number % CONTACTS),
            fact: Some(Fact::TextSent(v1::TextSent {})),
            ..Default::default()
        };
        let request = v1::RecordInteractionsRequest {
            parent: campaign.to_owned(),
            interactions: vec![v1::ReportedInteraction {
                interaction: Some(interaction),
                ..Default::default()
            }],
        };
        match api.interactions.record_interactions(request).await {
            Ok(answer) => {
                let result = answer.into_inner().results.remove(0);
                assert_eq!(result.status(), v1::InteractionStatus::Recorded, "{result:?}");
                self.acknowledged.lock().unwrap().insert(id);
            }
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                let details = status.get_details_retry_info();
                assert!(details.is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
                self.turned_away.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

pub async fn run(args: Args) -> Vec<Figure> {
    let length = Duration::from_secs(args.overload_seconds);
    let (mut peaks, mut kept) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let scratch = Scratch::new(&args.database_url).await;
        let replica = Replica::first(&scratch.url).await;
        let mut api = Api::new(&replica.channel);
        let name = api.create_with(CONTACTS).await;
        let mut clients = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            clients.push(Api::new(&replica.connect().await));
        }
        let _apart = Apart::keep(&scratch, replica.program.id()).await;
        let tally = Arc::new(Tally::default());
        let peak = patient(&clients, &name, &tally, length).await;
        let rate = pressed(&clients, &name, &tally, length, peak * TIMES).await;
        let turned_away = tally.turned_away.load(Ordering::Relaxed);
        println!(
            "  round {round}: {peak:.0} a second at best; {rate:.0} at {TIMES} times that, {turned_away} rejected"
        );
        check(&scratch, &tally).await;
        peaks.push(peak);
        kept.push(rate);
    }
    let kept = Measure::of_rounds("answered at three times the load", &kept);
    let peak = Measure::of_rounds("answered at most", &peaks);
    vec![Figure::new("requests/s", kept).beside(peak).goal(Goal::AtLeast(0.8))]
}

/// Returns the requests per second when each caller waits for its answer.
async fn patient(clients: &[Api], name: &str, tally: &Arc<Tally>, length: Duration) -> f64 {
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for api in clients.iter().cycle().take(PATIENT_CALLERS) {
        let (api, name, tally) = (api.clone(), name.to_owned(), Arc::clone(tally));
        callers.spawn(async move {
            while started.elapsed() < length {
                tally.record(api.clone(), &name).await;
            }
        });
    }
    callers.join_all().await;
    tally.count() as f64 / started.elapsed().as_secs_f64()
}

/// Returns the requests answered per second when so many are sent, whatever their answers.
async fn pressed(
    clients: &[Api],
    name: &str,
    tally: &Arc<Tally>,
    length: Duration,
    per_second: f64,
) -> f64 {
    let (before, started) = (tally.count(), Instant::now());
    let (mut ticks, mut sent) = (tokio::time::interval(TICK), 0.0);
    let mut turns = clients.iter().cycle();
    let mut requests = JoinSet::new();
    while started.elapsed() < length {
        ticks.tick().await;
        while sent < started.elapsed().as_secs_f64() * per_second {
            let api = turns.next().expect("there are clients");
            let (api, name, tally) = (api.clone(), name.to_owned(), Arc::clone(tally));
            requests.spawn(async move { tally.record(api, &name).await });
            sent += 1.0;
        }
        while let Some(answered) = requests.try_join_next() {
            answered.unwrap();
        }
    }
    let answered = tally.count() - before;
    let rate = answered as f64 / started.elapsed().as_secs_f64();
    requests.join_all().await;
    rate
}

/// Checks that every acknowledged fact is there.
async fn check(scratch: &Scratch, tally: &Tally) {
    let rows = scratch.client().await.query("SELECT interaction_id FROM interactions", &[]).await;
    let there: HashSet<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    let acknowledged = tally.acknowledged.lock().unwrap();
    let lost = acknowledged.iter().filter(|id| !there.contains(*id)).count();
    assert_eq!(lost, 0, "acknowledged and lost");
}
