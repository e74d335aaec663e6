//! Contacts fully handled per second: lease → authorise → report → history, all acknowledged, through gRPC with real
//! service processes. Raw SQL and other queues that complete jobs of no work stand beside it.

use crate::api::Api;
use crate::args::{Args, BATCH_CONTACTS, CONNECTIONS};
use crate::floors::{block, textbook};
use crate::peers::{self, Peer};
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::Replica;
use crate::stream::{Done, Stream, work};
use campaign_proto::v1;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

const TEXTBOOK: &str = "floor-textbook, raw SQL";
const BLOCK: &str = "floor-block, raw SQL";
const OURS: &str = "ours, 4 workers";
/// Share of the contacts for which authorisation is requested one by one, to show how slow that is: one in so many.
const SINGLES_PART: usize = 25;

/// Settings of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub workers: usize,
    pub replicas: usize,
    /// Contacts in one request for authorisation.
    pub at_once: usize,
    /// Share of contacts that the worker traces: one in so many.
    pub trace_every: Option<usize>,
}

/// Contacts per second, by round.
#[derive(Default)]
struct Rounds {
    /// Names in the order first measured.
    names: Vec<String>,
    rates: HashMap<String, Vec<f64>>,
}

impl Rounds {
    fn add(&mut self, name: &str, per_second: f64) {
        println!("  {name:<48} {per_second:>9.0} a second");
        if !self.rates.contains_key(name) {
            self.names.push(name.to_owned());
        }
        self.rates.entry(name.to_owned()).or_default().push(per_second);
    }

    fn measure(&self, name: &str) -> Measure {
        Measure::of_rounds(name, &self.rates[name])
    }
}

pub async fn run(args: Args) -> Vec<Figure> {
    let peers = if args.peers == 1 { Peer::all() } else { &[] };
    let mut rounds = Rounds::default();
    let singles = (args.contacts / SINGLES_PART).max(BATCH_CONTACTS);
    let singles_name = format!("ours, 4 workers, asking for 1 ({singles} contacts)");
    for round in 1..=args.rounds {
        let (contacts, jobs) = (args.contacts, args.peer_jobs);
        println!(
            "round {round} of {}: {contacts} contacts, textbook and other queues {jobs}",
            args.rounds
        );
        let scratch = Scratch::new(&args.database_url).await;
        rounds.add(TEXTBOOK, textbook::run(&scratch, args.peer_jobs).await);
        let scratch = Scratch::new(&args.database_url).await;
        rounds.add(BLOCK, block::run(&scratch, args.contacts).await);
        for peer in peers {
            let scratch = Scratch::new(&args.database_url).await;
            rounds.add(peer.name(), peers::run(*peer, &scratch, &args).await);
        }
        let all = BATCH_CONTACTS;
        let setup =
            |workers, replicas, at_once| Setup { workers, replicas, at_once, trace_every: None };
        for (name, contacts, setup) in [
            ("ours, 1 worker", args.contacts, setup(1, 1, all)),
            ("ours, 2 workers", args.contacts, setup(2, 1, all)),
            (OURS, args.contacts, setup(CONNECTIONS, 1, all)),
            ("ours, 4 workers, 2 replicas", args.contacts, setup(CONNECTIONS, 2, all)),
            (&singles_name, singles, setup(CONNECTIONS, 1, 1)),
        ] {
            let scratch = Scratch::new(&args.database_url).await;
            rounds.add(name, measure(&scratch, contacts, setup).await);
        }
    }
    figures(&rounds)
}

fn figures(rounds: &Rounds) -> Vec<Figure> {
    let ours = |name: &&String| name.starts_with("ours");
    let beside = |name: &str, reference: &str| {
        Figure::new("contacts/s", rounds.measure(name)).beside(rounds.measure(reference))
    };
    let judged = |figure: Figure, is_judged: bool, least: f64| {
        if is_judged { figure.goal(Goal::AtLeast(least)) } else { figure }
    };
    let mut figures = Vec::new();
    for (floor, least) in [(TEXTBOOK, 3.5), (BLOCK, 0.6)] {
        let ours = rounds.names.iter().filter(ours);
        figures.extend(ours.map(|name| judged(beside(name, floor), name == OURS, least)));
    }
    let peers = Peer::all().iter().filter(|peer| rounds.rates.contains_key(peer.name()));
    figures.extend(peers.map(|peer| judged(beside(OURS, peer.name()), true, peer.goal())));
    figures
}

async fn measure(scratch: &Scratch, contacts: usize, setup: Setup) -> f64 {
    let mut replicas = vec![Replica::first(&scratch.url).await];
    for _ in 1..setup.replicas {
        replicas.push(Replica::start(&scratch.url, &[]).await);
    }
    measure_on(&replicas, scratch, contacts, setup).await
}

/// Measures contacts per second, from the launch until the last report is acknowledged.
pub async fn measure_on(
    replicas: &[Replica],
    scratch: &Scratch,
    contacts: usize,
    setup: Setup,
) -> f64 {
    let mut api = Api::new(&replicas[0].channel);
    let name = api.create_with(contacts).await;
    scratch.client().await.batch_execute("VACUUM ANALYZE").await.unwrap();

    let started = Instant::now();
    api.launch(&name, v1::LaunchSettings::default()).await;
    let done = Arc::new(Done::new(contacts));
    let mut workers = JoinSet::new();
    for n in 0..setup.workers {
        let channel = &replicas[n % replicas.len()].channel;
        let mut stream = Stream::open(channel, format!("bench-{n}"), &[]).await;
        stream.trace_every = setup.trace_every;
        let done = Arc::clone(&done);
        workers.spawn(async move { work(stream, setup.at_once, &done).await });
    }
    workers.join_all().await;
    let per_second = contacts as f64 / started.elapsed().as_secs_f64();
    api.check_history(&name, contacts).await;
    per_second
}
