//! Control commands on lists of very different length, which must cost the same.

use crate::api::{Api, rerun};
use crate::args::Args;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED};
use crate::stats::milliseconds;
use crate::stream::call_all;
use campaign_proto::v1;
use std::time::Instant;

const COMMANDS: [&str; 5] = ["launch", "rerun", "reset", "pause", "cancel"];
/// Factors by which lists are smaller than the large one.
const DIVISORS: [usize; 4] = [1_000, 100, 10, 1];

/// Campaign, and the time each command took, in milliseconds.
struct List {
    contacts: usize,
    name: String,
    times: [Vec<f64>; COMMANDS.len()],
}

pub async fn run(args: Args) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let mut api = Api::new(&replica.channel);
    let mut lists = Vec::new();
    for divisor in DIVISORS {
        let contacts = (args.large_contacts / divisor).max(1);
        println!("  importing and dialling {contacts} contacts");
        let name = api.create_with(contacts).await;
        make_history(&mut api, &name, contacts).await;
        lists.push(List { contacts, name, times: Default::default() });
    }
    scratch.client().await.batch_execute("VACUUM ANALYZE").await.unwrap();
    // The lists take turns. Resets come last, since they clear the history that the other commands should meet.
    for repeat in 0..args.control_repeats {
        for list in &mut lists {
            list.run_commands(&mut api).await;
        }
        progress("launch, pause, rerun, cancel", repeat, args.control_repeats);
    }
    for repeat in 0..args.control_repeats {
        for list in &mut lists {
            list.reset(&mut api).await;
        }
        progress("reset", repeat, args.control_repeats);
    }
    figures(&lists)
}

fn progress(what: &str, repeat: usize, of: usize) {
    if (repeat + 1).is_multiple_of(50) || repeat + 1 == of {
        println!("  {what}: {} of {of}", repeat + 1);
    }
}

/// Attempts every contact once.
async fn make_history(api: &mut Api, name: &str, contacts: usize) {
    api.launch(name, v1::LaunchSettings::default()).await;
    call_all(api, name, contacts).await;
}

impl List {
    async fn run_commands(&mut self, api: &mut Api) {
        // The run is live forever, so that a list on which everyone is done is not completed by itself.
        let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
        self.launch(api, 0, settings).await;
        let started = Instant::now();
        api.pause(&self.name).await;
        self.times[3].push(milliseconds(started.elapsed()));
        self.cancel(api).await;
        self.launch(api, 1, v1::LaunchSettings { live_forever: true, ..rerun() }).await;
        self.cancel(api).await;
    }

    async fn reset(&mut self, api: &mut Api) {
        let settings = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
        self.launch(api, 2, settings).await;
        self.cancel(api).await;
    }

    async fn launch(&mut self, api: &mut Api, command: usize, settings: v1::LaunchSettings) {
        let started = Instant::now();
        api.launch(&self.name, settings).await;
        self.times[command].push(milliseconds(started.elapsed()));
    }

    async fn cancel(&mut self, api: &mut Api) {
        let started = Instant::now();
        api.cancel(&self.name).await;
        self.times[4].push(milliseconds(started.elapsed()));
    }
}

fn figures(lists: &[List]) -> Vec<Figure> {
    let (small, large) = (&lists[0], &lists[lists.len() - 1]);
    let mut figures = Vec::new();
    for (command, verb) in COMMANDS.iter().enumerate() {
        let measure = |list: &List, percent| {
            let name = format!("{verb}, {} contacts", list.contacts);
            Measure::of_repeats(&name, percent, &list.times[command])
        };
        let beside = |list: &List, percent| {
            Figure::new("ms", measure(list, percent)).beside(measure(small, percent))
        };
        figures.push(beside(large, 50.0).goal(Goal::AtMost(1.5)));
        figures.extend(lists[1..lists.len() - 1].iter().map(|list| beside(list, 50.0)));
        figures.push(beside(large, 99.0));
    }
    figures
}
