//! Pause and cancel while many workers are working. Nothing is authorised after the answer. The time until the last
//! worker is notified stands beside a bare NOTIFY to as many streams under the same load.

mod worker;

use crate::api::{Api, rerun};
use crate::args::Args;
use crate::bare::Bare;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED};
use crate::stats::milliseconds;
use crate::stream::Stream;
use campaign_proto::v1;
use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use worker::{BATCH, Event, Worker};

/// Contacts of the campaign; reruns begin again with the first.
const CONTACTS: usize = 200_000;
/// Round trips of the bare notification before there is load.
const IDLE_ROUND_TRIPS: usize = 100;
/// Longest wait for any event in a trial.
const PATIENCE: Duration = Duration::from_secs(20);

/// Times of the trials, in milliseconds.
#[derive(Default)]
struct Times {
    /// Time from the answer until the last worker was notified; negative when it knew before.
    from_answer: Vec<f64>,
    /// Time from the call until the last worker was notified.
    from_call: Vec<f64>,
    /// Time from the answer to the last authorisation; negative when that came before.
    last_authorized: Vec<f64>,
    /// Authorisations that were committed after the stop.
    late: i64,
    bare: Vec<f64>,
}

pub async fn run(args: Args) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let batch = BATCH.to_string();
    let flags = [UNCAPPED, &["--max-batch-contacts", &batch]].concat();
    let replica = Replica::first_with(&scratch.url, &flags).await;
    let mut api = Api::new(&replica.channel);
    let name = api.create_with(CONTACTS.min(args.large_contacts)).await;
    let mut bare = Bare::start(&scratch, args.pause_streams).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE_ROUND_TRIPS {
        idle.push(bare.round_trip().await);
    }
    api.launch(&name, v1::LaunchSettings { live_forever: true, ..Default::default() }).await;
    let mut load = Load::start(&replica, args.pause_streams).await;
    let client = scratch.client().await;
    let (mut pauses, mut cancels) = (Times::default(), Times::default());
    for trial in 0..args.pause_trials {
        let is_pause = trial.is_multiple_of(2);
        let times = if is_pause { &mut pauses } else { &mut cancels };
        load.wait_until_all_are_granted().await;
        times.bare.push(bare.round_trip().await);
        let called = Instant::now();
        if is_pause {
            api.pause(&name).await;
        } else {
            api.cancel(&name).await;
        }
        let (answered, answered_at) = (Instant::now(), SystemTime::now());
        let told = load.wait_until_all_are_told().await;
        times.from_call.push(milliseconds(told - called));
        times.from_answer.push(signed_milliseconds(answered, told));
        let last = last_authorization(&client).await;
        let answered_at = answered_at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        times.last_authorized.push((last - answered_at) * 1_000.0);
        if is_pause {
            api.resume(&name).await;
        } else {
            api.launch(&name, v1::LaunchSettings { live_forever: true, ..rerun() }).await;
        }
        if (trial + 1).is_multiple_of(20) {
            println!(
                "  {} stops of {}, {} contacts dialled",
                trial + 1,
                args.pause_trials,
                load.ended
            );
        }
    }
    let between = late_authorizations(&client, "LAUNCH").await;
    assert!(between > 0, "the count must find authorisations that exist");
    pauses.late = late_authorizations(&client, "PAUSE").await;
    cancels.late = late_authorizations(&client, "CANCEL").await;
    let streams = args.pause_streams;
    let mut figures = figures_of("pause", streams, &pauses);
    figures.extend(figures_of("cancel", streams, &cancels));
    let idle =
        Measure::of_repeats(&format!("bare NOTIFY to {streams} streams, no load"), 99.0, &idle);
    figures.push(Figure::new("ms", idle));
    figures
}

fn signed_milliseconds(from: Instant, to: Instant) -> f64 {
    if to >= from { milliseconds(to - from) } else { -milliseconds(from - to) }
}

fn figures_of(what: &str, streams: usize, times: &Times) -> Vec<Figure> {
    let bare = |percent| {
        let name = format!("bare NOTIFY to {streams} streams, same load");
        Measure::of_repeats(&name, percent, &times.bare)
    };
    let told = |from: &str, times: &[f64], percent| {
        let name = format!("{what}: {from} until last told");
        Figure::new("ms", Measure::of_repeats(&name, percent, times)).beside(bare(percent))
    };
    let trials = times.bare.len();
    let late =
        Measure::new(format!("{what}: authorised after it, {trials} trials"), times.late as f64);
    let name = format!("{what}: answer to last authorisation, latest");
    let mut last = Measure::of_repeats(&name, 100.0, &times.last_authorized);
    last.name = name;
    vec![
        Figure::new("attempts", late).goal(Goal::AtMost(0.0)),
        Figure::new("ms", last).goal(Goal::AtMost(0.0)),
        told("answer", &times.from_answer, 50.0),
        told("answer", &times.from_answer, 99.0).goal(Goal::AtMost(3.0)),
        told("call", &times.from_call, 50.0),
        told("call", &times.from_call, 99.0),
    ]
}

/// Returns when the last of all authorisations was given, in seconds since 1970.
async fn last_authorization(client: &Client) -> f64 {
    let sql = "SELECT extract(epoch FROM max(authorized_at))::float8 FROM authorizations";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Counts authorisations committed after a command of this kind and before the command that followed it, by the
/// transactions that both saw.
async fn late_authorizations(client: &Client, command: &str) -> i64 {
    let index =
        "CREATE INDEX IF NOT EXISTS bench_by_transaction ON authorizations (transaction_id)";
    client.batch_execute(index).await.unwrap();
    let sql = "SELECT count(*) FROM audit_events s
        JOIN audit_events n ON n.event_number = s.event_number + 1
        JOIN authorizations a ON a.transaction_id >= pg_snapshot_xmin(s.snapshot)
            AND a.transaction_id < pg_snapshot_xmax(n.snapshot)
            AND NOT pg_visible_in_snapshot(a.transaction_id, s.snapshot)
            AND pg_visible_in_snapshot(a.transaction_id, n.snapshot)
        WHERE s.command = $1";
    client.query_one(sql, &[&command]).await.unwrap().get(0)
}

/// Many workers at work, and their events.
struct Load {
    workers: usize,
    events: mpsc::UnboundedReceiver<Event>,
    tasks: JoinSet<()>,
    /// Contacts reported.
    ended: usize,
}

impl Load {
    async fn start(replica: &Replica, workers: usize) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for number in 0..workers {
            let stream = Stream::open(&replica.channel, format!("bench-{number}"), &[]).await;
            tasks.spawn(Worker::new(number, stream, sender.clone()).run());
        }
        Self { workers, events, tasks, ended: 0 }
    }

    async fn next(&mut self) -> Event {
        let event = tokio::select! {
            event = tokio::time::timeout(PATIENCE, self.events.recv()) => event,
            ended = self.tasks.join_next() => panic!("a worker ended: {ended:?}"),
        };
        let event = event.expect("workers are silent").unwrap();
        self.note(event);
        event
    }

    fn note(&mut self, event: Event) {
        if let Event::Ended(contacts) = event {
            self.ended += contacts;
        }
    }

    /// Waits until every worker is working: since the call, each was granted something and holds more.
    async fn wait_until_all_are_granted(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.note(event);
        }
        let mut granted = HashSet::new();
        while granted.len() < self.workers {
            if let Event::Granted(number) = self.next().await {
                granted.insert(number);
            }
        }
    }

    /// Returns when the last worker had the revocation. Workers that ignore it have asked once more by then.
    async fn wait_until_all_are_told(&mut self) -> Instant {
        let (mut told, mut refused) = (HashSet::new(), HashSet::new());
        let mut last = None;
        let ignoring = (0..self.workers).filter(|number| worker::ignores(*number)).count();
        while told.len() < self.workers || refused.len() < ignoring {
            match self.next().await {
                Event::Told(number, at) if told.insert(number) => last = last.max(Some(at)),
                Event::Refused(number) if worker::ignores(number) => {
                    refused.insert(number);
                }
                _ => {}
            }
        }
        last.unwrap()
    }
}
