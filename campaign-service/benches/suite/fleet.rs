//! Many campaigns beside few: what they cost while nothing happens, and whether what happens in one
//! depends on how many others there are.

mod balance;
mod shut;

use crate::api::{Api, endless, phone};
use crate::args::{Args, BATCH_CONTACTS, CONNECTIONS};
use crate::crowd;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED, processor_seconds};
use crate::stats::{median, milliseconds};
use crate::stream::{Done, Stream, call_all, work};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Campaigns of the few.
const FEW: usize = 10;
/// Workers that wait.
const WAITING: usize = 50;
/// Time over which the cost of waiting is measured.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Time over which the scheduled starts are spread.
const START_SECONDS: f64 = 60.0;
/// Numbers in one request to suppress.
const NUMBERS: usize = 1_000;
/// Campaigns that have the suppressed numbers.
const HOLDERS: usize = 1_000;
/// Share of the campaigns that have work: one in so many.
const BUSY_PART: usize = 100;
/// Contacts of a campaign that is dialled while others are watched. They take several of the watchers' intervals.
const WATCHED_CONTACTS: usize = 300_000;
/// Fewest rounds with and without watchers, whose difference is small.
const WATCHED_ROUNDS: usize = 5;
/// Pauses while a replica is frozen.
const FREEZES: usize = 20;

pub async fn run(args: Args) -> Vec<Figure> {
    let many = args.fleet_campaigns;
    let mut figures = Vec::new();
    let few = quiet(&args, FEW).await;
    let crowd = quiet(&args, many).await;
    let of = |what: &str, campaigns| format!("{what}, {campaigns} campaigns");
    let beside = |unit, what: &str, percent, pick: fn(&Quiet) -> &Vec<f64>| {
        Figure::new(unit, Measure::of_repeats(&of(what, many), percent, pick(&crowd)))
            .beside(Measure::of_repeats(&of(what, FEW), percent, pick(&few)))
    };
    let idle = Measure::new(of("processor while nothing happens", many), crowd.idle_percent);
    let reference = Measure::new(of("the same", FEW), few.idle_percent);
    figures.push(Figure::new("%", idle).beside(reference).goal(Goal::AtMost(1.5)));
    figures.push(
        beside("ms", "new contact until its worker has it", 99.0, |quiet| &quiet.leads)
            .goal(Goal::AtMost(1.5)),
    );
    figures.push(
        beside("ms", "cancel called until the worker hangs up", 99.0, |quiet| &quiet.cancels)
            .goal(Goal::AtMost(1.5)),
    );
    figures.push(busy_part(&args).await);
    figures.push(starts(&args).await);
    figures.push(suppressions(&args).await);
    figures.push(frozen(&args).await);
    figures.push(shut::run(&args).await);
    figures.push(balance::run(&args).await);
    figures.extend(looking(&args).await);
    figures
}

/// Measurements among so many quiet campaigns.
struct Quiet {
    /// Processor time of service and PostgreSQL, as a share of one core.
    idle_percent: f64,
    leads: Vec<f64>,
    cancels: Vec<f64>,
}

async fn quiet(args: &Args, campaigns: usize) -> Quiet {
    println!("  {campaigns} quiet campaigns");
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let (mut api, client) = (Api::new(&replica.channel), scratch.client().await);
    let template = api.create().await;
    api.launch(&template, endless()).await;
    let mut workers = Vec::new();
    for n in 0..WAITING {
        let stream = Stream::open(&replica.channel, format!("waits-{n}"), &[]).await;
        stream.credit(BATCH_CONTACTS);
        workers.push(stream);
    }
    crowd::asleep(&client, &template).await;
    crowd::copy(&client, &template, campaigns - 1).await;
    // The cost of the copies is no cost of waiting.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, started) = (processor_seconds(&replica), Instant::now());
    tokio::time::sleep(IDLE_TIME).await;
    let used = processor_seconds(&replica) - before;
    let idle_percent = 100.0 * used / started.elapsed().as_secs_f64();
    drop(workers);
    let (leads, cancels) = leads_and_cancels(args, &replica, &mut api).await;
    Quiet { idle_percent, leads, cancels }
}

/// Adds contacts one by one for a worker that waits, each to a campaign of its own, and cancels the
/// campaign. Returns the time until the worker has the contact, and until it hangs up.
async fn leads_and_cancels(args: &Args, replica: &Replica, api: &mut Api) -> (Vec<f64>, Vec<f64>) {
    let mut worker = Stream::open(&replica.channel, "bench".to_owned(), &[]).await;
    worker.credit(BATCH_CONTACTS);
    let (mut leads, mut cancels) = (Vec::new(), Vec::new());
    for trial in 0..args.lead_trials {
        let name = api.create().await;
        api.launch(&name, endless()).await;
        let contact = v1::Contact { phone_number: phone(trial + 1), ..Default::default() };
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let started = Instant::now();
        let mut contacts = api.contacts.clone();
        let creating = tokio::spawn(async move { contacts.create_contact(request).await.unwrap() });
        while !matches!(worker.next().await, Response::Batch(_)) {}
        leads.push(milliseconds(started.elapsed()));
        creating.await.unwrap();
        let (mut canceller, cancelled) = (api.clone(), name);
        let called = Instant::now();
        let cancelling = tokio::spawn(async move { canceller.cancel(&cancelled).await });
        while !matches!(worker.next().await, Response::Revoke(_)) {}
        cancels.push(milliseconds(called.elapsed()));
        cancelling.await.unwrap();
        worker.credit(1);
    }
    (leads, cancels)
}

/// Contacts a second of a part of the campaigns, beside one campaign with as many contacts.
async fn busy_part(args: &Args) -> Figure {
    let busy = (args.fleet_campaigns / BUSY_PART).max(1);
    let each = (args.contacts / busy).max(1);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        reference.push(busy_rate(args, 1, each * busy, 0).await);
        ours.push(busy_rate(args, busy, each, args.fleet_campaigns - busy).await);
    }
    let name = format!("contacts of {busy} among {} campaigns", args.fleet_campaigns);
    Figure::new("contacts/s", Measure::of_rounds(name, &ours))
        .beside(Measure::of_rounds("one campaign with the same contacts", &reference))
        .goal(Goal::AtLeast(0.8))
}

async fn busy_rate(args: &Args, busy: usize, each: usize, quiet: usize) -> f64 {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let (mut api, client) = (Api::new(&replica.channel), scratch.client().await);
    if quiet > 0 {
        let template = api.create().await;
        api.launch(&template, endless()).await;
        let sleep = "UPDATE agenda SET work_at = NULL";
        client.batch_execute(sleep).await.unwrap();
        crowd::copy(&client, &template, quiet - 1).await;
    }
    let name = api.create_with(each).await;
    api.launch(&name, endless()).await;
    crowd::copy_with_contacts(&client, &name, busy - 1).await;
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let (done, started) = (Arc::new(Done::new(busy * each)), Instant::now());
    let mut workers = JoinSet::new();
    for n in 0..CONNECTIONS {
        let stream = Stream::open(&replica.channel, format!("bench-{n}"), &[]).await;
        let done = Arc::clone(&done);
        workers.spawn(async move { work(stream, BATCH_CONTACTS, &done).await });
    }
    workers.join_all().await;
    let rate = (busy * each) as f64 / started.elapsed().as_secs_f64();
    println!("  {busy} campaigns with {each} contacts among {quiet} others: {rate:.0} a second");
    rate
}

/// Scheduled starts, spread over a minute.
async fn starts(args: &Args) -> Figure {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let (mut api, client) = (Api::new(&replica.channel), scratch.client().await);
    let name = api.create_starting_later().await;
    api.launch(&name, endless()).await;
    let ids = crowd::copy(&client, &name, args.fleet_campaigns).await;
    crowd::spread_starts(&client, &ids, 2.0, START_SECONDS).await;
    println!("  {} starts in {START_SECONDS} seconds", ids.len());
    let late = crowd::lateness(&client, &ids).await;
    let name = format!("lateness of {} scheduled starts within a minute", ids.len());
    Figure::new("ms", Measure::of_repeats(&name, 99.0, &late)).goal(Goal::AtMost(2_000.0))
}

/// Suppressing numbers that many campaigns have, beside numbers that one has.
async fn suppressions(args: &Args) -> Figure {
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        many.push(suppress(args, HOLDERS).await);
        one.push(suppress(args, 1).await);
    }
    println!("  {NUMBERS} suppressions: {:.0} ms, {:.0} ms", median(&many), median(&one));
    let name = |holders| format!("{NUMBERS} suppressions that {holders} active campaigns hold");
    Figure::new("ms", Measure::of_rounds(name(HOLDERS), &many))
        .beside(Measure::of_rounds(name(1), &one))
        .goal(Goal::AtMost(3.0))
}

async fn suppress(args: &Args, holders: usize) -> f64 {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let (mut api, client) = (Api::new(&replica.channel), scratch.client().await);
    let name = api.create_with(NUMBERS).await;
    api.launch(&name, endless()).await;
    crowd::copy_with_contacts(&client, &name, holders - 1).await;
    let request = v1::AddSuppressionsRequest {
        phone_numbers: (0..NUMBERS).map(phone).collect(),
        source: "bench".to_owned(),
        ..Default::default()
    };
    let started = Instant::now();
    api.contacts.add_suppressions(request).await.unwrap();
    milliseconds(started.elapsed())
}

/// Pauses through a healthy replica while another one is frozen in the middle of its work.
async fn frozen(args: &Args) -> Figure {
    let scratch = Scratch::new(&args.database_url).await;
    let healthy = Replica::first_with(&scratch.url, UNCAPPED).await;
    let mut api = Api::new(&healthy.channel);
    let name = api.create_with(args.contacts.min(200_000)).await;
    let mut times = Vec::new();
    for trial in 0..FREEZES {
        let mut other = Replica::start(&scratch.url, UNCAPPED).await;
        api.launch(&name, v1::LaunchSettings { live_forever: true, ..crate::api::rerun() }).await;
        let done = Arc::new(Done::new(usize::MAX));
        let mut workers = JoinSet::new();
        for n in 0..CONNECTIONS {
            let stream = Stream::open(&other.channel, format!("bench-{n}"), &[]).await;
            let done = Arc::clone(&done);
            workers.spawn(async move { work(stream, 1, &done).await });
        }
        tokio::time::sleep(Duration::from_millis(500 + 37 * trial as u64)).await;
        other.program.signal("STOP").unwrap();
        let started = Instant::now();
        api.pause(&name).await;
        times.push(milliseconds(started.elapsed()));
        workers.abort_all();
        drop(other);
        api.cancel(&name).await;
    }
    println!("  pauses while a replica is frozen: {times:.0?} ms");
    let name = "pause while another replica is frozen";
    Figure::new("ms", Measure::of_repeats(name, 100.0, &times)).goal(Goal::AtMost(10_000.0))
}

/// Reading progress and preview of a large list beside a small one, and what watchers cost.
async fn looking(args: &Args) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let mut api = Api::new(&replica.channel);
    let (small, large) = (1_000, args.large_contacts);
    let mut names = Vec::new();
    for contacts in [small, large] {
        println!("  importing and dialling {contacts} contacts");
        let name = api.create_with(contacts).await;
        api.launch(&name, v1::LaunchSettings::default()).await;
        call_all(&mut api, &name, contacts).await;
        names.push(name);
    }
    scratch.client().await.batch_execute("VACUUM ANALYZE").await.unwrap();
    let mut times = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for _ in 0..20 {
        for (name, times) in names.iter().zip(&mut times) {
            let request = v1::GetCampaignProgressRequest { name: name.clone() };
            let started = Instant::now();
            api.campaigns.get_campaign_progress(request).await.unwrap();
            times[0].push(milliseconds(started.elapsed()));
            let settings = Some(v1::LaunchSettings::default());
            let request = v1::PreviewLaunchRequest { name: name.clone(), settings };
            let started = Instant::now();
            api.campaigns.preview_launch(request).await.unwrap();
            times[1].push(milliseconds(started.elapsed()));
        }
    }
    let mut figures = Vec::new();
    for (index, verb) in ["progress", "preview"].into_iter().enumerate() {
        let measure = |list: usize, contacts| {
            let name = format!("{verb} of {contacts} dialled contacts");
            Measure::of_repeats(&name, 50.0, &times[list][index])
        };
        let figure = Figure::new("ms", measure(1, large)).beside(measure(0, small));
        figures.push(figure.goal(Goal::AtMost(1.5)));
    }
    figures.push(watched(args, &replica, &mut api, &names[1]).await);
    figures
}

/// Contacts a second while many watch a large campaign.
async fn watched(args: &Args, replica: &Replica, api: &mut Api, large: &str) -> Figure {
    // The large campaign is under way, so that its watchers go on.
    api.launch(large, endless()).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds.max(WATCHED_ROUNDS) {
        without.push(rate_of_new(args, replica, api).await);
        let watching = watch(replica, large, args.fleet_watchers).await;
        with.push(rate_of_new(args, replica, api).await);
        watching.cancel();
    }
    let name = format!("contacts while {} watch a large campaign", args.fleet_watchers);
    Figure::new("contacts/s", Measure::of_rounds(name, &with))
        .beside(Measure::of_rounds("contacts while nobody watches", &without))
        .goal(Goal::AtLeast(0.95))
}

async fn rate_of_new(args: &Args, replica: &Replica, api: &mut Api) -> f64 {
    let contacts = args.contacts.min(WATCHED_CONTACTS);
    let name = api.create_with(contacts).await;
    let started = Instant::now();
    api.launch(&name, v1::LaunchSettings::default()).await;
    let done = Arc::new(Done::new(contacts));
    let mut workers = JoinSet::new();
    for n in 0..CONNECTIONS {
        let only = [name.clone()];
        let stream = Stream::open(&replica.channel, format!("bench-{n}"), &only).await;
        let done = Arc::clone(&done);
        workers.spawn(async move { work(stream, BATCH_CONTACTS, &done).await });
    }
    workers.join_all().await;
    contacts as f64 / started.elapsed().as_secs_f64()
}

/// Opens watchers, on several connections.
async fn watch(replica: &Replica, name: &str, watchers: usize) -> CancellationToken {
    let stop = CancellationToken::new();
    for first in (0..watchers).step_by(90) {
        let api = Api::new(&replica.connect().await);
        for _ in first..(first + 90).min(watchers) {
            let (mut campaigns, stop) = (api.campaigns.clone(), stop.clone());
            let request = v1::WatchCampaignRequest { name: name.to_owned(), interval_seconds: 1 };
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                let mut updates = campaigns.watch_campaign(request).await.unwrap().into_inner();
                // The stream breaks off when its replica is stopped at the end.
                while let Ok(Some(_)) = updates.message().await {}
            }));
        }
    }
    stop
}
