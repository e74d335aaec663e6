//! Cost of campaigns and workers: a simulated fleet of workers in this process, and one real
//! replica. Each worker has a connection of its own, as it would have elsewhere.

use crate::api::{Api, endless, phone};
use crate::args::Args;
use crate::crowd;
use crate::report::{Figure, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, processor_seconds, resident_megabytes};
use crate::stats::{milliseconds, percentile};
use crate::stream::{Stream, call_ended};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Campaigns that run and have nobody to call.
const CAMPAIGNS: [usize; 3] = [1_000, 10_000, 100_000];
/// Workers that wait for contacts.
const WORKERS: [usize; 3] = [10, 1_000, 10_000];
/// Bounds of the replica, above what one address has by default. The pool is the default one.
const FLAGS: &[&str] = &[
    "--max-attempts-per-number",
    "0",
    "--max-connections",
    "12000",
    "--max-connections-per-address",
    "12000",
    "--max-streams",
    "12000",
    "--max-streams-per-address",
    "12000",
];
/// Calls that a worker makes at a time.
const CALLS_EACH: usize = 20;
/// Workers that connect at a time.
const CONNECTING: usize = 50;
/// Time for the cost of connecting to pass.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Time over which the cost of waiting is measured.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Contacts that are added one by one.
const LEADS: usize = 200;

/// Event at a worker.
enum News {
    /// Batch that arrived.
    Batch(Instant),
    /// Calls that were reported and acknowledged.
    Done(usize),
}

/// Workers that are connected.
struct Fleet {
    workers: JoinSet<()>,
    news: UnboundedReceiver<News>,
    teller: UnboundedSender<News>,
}

pub async fn run(args: Args) -> Vec<Figure> {
    let mut figures = Vec::new();
    for campaigns in CAMPAIGNS {
        figures.extend(among(&args, campaigns).await);
    }
    figures
}

/// Measures fleets of each size among so many campaigns.
async fn among(args: &Args, campaigns: usize) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Arc::new(Replica::first_with(&scratch.url, FLAGS).await);
    let (mut api, client) = (Api::new(&replica.channel), scratch.client().await);
    let target = api.create().await;
    api.launch(&target, endless()).await;
    let (teller, news) = unbounded_channel();
    let mut fleet = Fleet { workers: JoinSet::new(), news, teller };
    fleet.grow(&replica, 1).await;
    crowd::asleep(&client, &target).await;
    crowd::copy(&client, &target, campaigns - 1).await;
    let (mut figures, mut added) = (Vec::new(), 0);
    for workers in WORKERS {
        println!("  {campaigns} campaigns, {workers} workers");
        let connected = fleet.grow(&replica, workers).await;
        tokio::time::sleep(SETTLE_TIME).await;
        let (before, started) = (processor_seconds(&replica), Instant::now());
        tokio::time::sleep(IDLE_TIME).await;
        let used = processor_seconds(&replica) - before;
        let idle_percent = 100.0 * used / started.elapsed().as_secs_f64();
        let memory = resident_megabytes(&replica.program);
        let leads = fleet.leads(&mut api, &target, &mut added).await;
        let rate = fleet.rate(&mut api, args.contacts).await;
        println!(
            "    {connected:.1} s to connect, {idle_percent:.1}% while nothing happens, {memory:.0} MB, \
             {rate:.0} contacts a second, leads {:.1} ms, p99 {:.1} ms",
            percentile(&leads, 50.0),
            percentile(&leads, 99.0)
        );
        let of = |what: &str| format!("{what}, {campaigns} campaigns, {workers} workers");
        let leads = |percent| {
            Measure::of_repeats(&of("new contact until a worker has it"), percent, &leads)
        };
        figures.extend([
            Figure::new("s", Measure::new(of("until all new workers are connected"), connected)),
            Figure::new("%", Measure::new(of("processor while nothing happens"), idle_percent)),
            Figure::new("MB", Measure::new(of("memory of the service"), memory)),
            Figure::new("ms", leads(50.0)),
            Figure::new("ms", leads(99.0)),
            Figure::new("contacts/s", Measure::new(of("contacts, 20 a worker"), rate)),
        ]);
    }
    figures
}

impl Fleet {
    /// Connects workers until there are so many. Returns the seconds that it took.
    async fn grow(&mut self, replica: &Arc<Replica>, workers: usize) -> f64 {
        let started = Instant::now();
        let mut connecting = JoinSet::new();
        for n in self.workers.len()..workers {
            if connecting.len() >= CONNECTING {
                self.keep(connecting.join_next().await);
            }
            let replica = Arc::clone(replica);
            connecting.spawn(async move {
                let channel = replica.connect().await;
                Stream::open(&channel, format!("fleet-{n}"), &[]).await
            });
        }
        while !connecting.is_empty() {
            self.keep(connecting.join_next().await);
        }
        started.elapsed().as_secs_f64()
    }

    fn keep(&mut self, connected: Option<Result<Stream, tokio::task::JoinError>>) {
        let stream = connected.unwrap().unwrap();
        self.workers.spawn(work(stream, self.teller.clone()));
    }

    /// Adds contacts one by one. Returns how long each took to reach a worker, in milliseconds.
    async fn leads(&mut self, api: &mut Api, campaign: &str, added: &mut usize) -> Vec<f64> {
        let mut times = Vec::new();
        for _ in 0..LEADS {
            *added += 1;
            let contact = v1::Contact { phone_number: phone(*added), ..Default::default() };
            let request = v1::CreateContactRequest {
                parent: campaign.to_owned(),
                contact: Some(contact),
                ..Default::default()
            };
            let started = Instant::now();
            api.contacts.create_contact(request).await.unwrap();
            let mut arrived = None;
            while let News::Batch(at) = self.news.recv().await.unwrap() {
                arrived = Some(at);
            }
            times.push(milliseconds(arrived.unwrap().duration_since(started)));
        }
        times
    }

    /// Has the fleet call a list. Returns the contacts a second.
    async fn rate(&mut self, api: &mut Api, contacts: usize) -> f64 {
        let name = api.create_with(contacts).await;
        let started = Instant::now();
        api.launch(&name, v1::LaunchSettings::default()).await;
        let mut done = 0;
        while done < contacts {
            if let News::Done(calls) = self.news.recv().await.unwrap() {
                done += calls;
            }
        }
        contacts as f64 / started.elapsed().as_secs_f64()
    }
}

/// Takes contacts and reports every call as answered. Calls take no time.
async fn work(mut stream: Stream, teller: UnboundedSender<News>) {
    stream.credit(CALLS_EACH);
    let (mut asked, mut number) = (HashMap::new(), 0);
    loop {
        match stream.next().await {
            Response::Batch(v1::Batch { lease, contacts, .. }) => {
                let _ = teller.send(News::Batch(Instant::now()));
                let slots = contacts.iter().map(|contact| contact.slot).collect();
                number += 1;
                asked.insert(number, contacts);
                let (request_number, traceparents) = (number, Vec::new());
                let authorize = v1::Authorize { request_number, lease, slots, traceparents };
                stream.send(Request::Authorize(authorize));
            }
            Response::AuthorizeResult(result) => {
                let held = asked.remove(&result.request_number).unwrap();
                let ended = held.into_iter().zip(result.attempts);
                let interactions =
                    ended.map(|(held, attempt)| call_ended(held.contact, attempt.attempt_id));
                let (report_number, interactions) = (result.request_number, interactions.collect());
                let report = v1::Report { report_number, interactions, ..Default::default() };
                stream.send(Request::Report(report));
            }
            Response::ReportAck(ack) => {
                crate::stream::assert_recorded(&ack);
                let calls = ack.results.len();
                stream.credit(calls);
                let _ = teller.send(News::Done(calls));
            }
            _ => {}
        }
    }
}
