//! Memory of the service and of a dialer worker while they work on a small list and on a large one.

use crate::args::Args;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED, peak_megabytes, resident_megabytes, start_dialer};
use crate::stats::percentile;
use crate::steady::Steady;
use serde_json::json;
use std::time::{Duration, Instant};

/// Size of the small list: this part of the large one.
const SMALL_PART: usize = 100;
/// Bench workers beside the dialer worker.
const WORKERS: usize = 2;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Megabytes, by time.
struct Memory {
    contacts: usize,
    importer: Vec<f64>,
    service: Vec<f64>,
    dialer: Vec<f64>,
}

pub async fn run(args: Args) -> Vec<Figure> {
    let small = watch(&args, (args.large_contacts / SMALL_PART).max(1)).await;
    let large = watch(&args, args.large_contacts).await;
    let beside = |what: &str, pick: fn(&Memory) -> &Vec<f64>| {
        let measure = |memory: &Memory| {
            let samples = pick(memory);
            let detail = json!({ "p50": percentile(samples, 50.0), "samples": samples.len() });
            let name = format!("{what}, peak, {} contacts", memory.contacts);
            Measure { name, value: percentile(samples, 100.0), detail }
        };
        Figure::new("MB", measure(&large)).beside(measure(&small))
    };
    vec![
        beside("service that dispatches", |memory| &memory.service).goal(Goal::AtMost(1.2)),
        beside("service that imports", |memory| &memory.importer),
        beside("dialer worker", |memory| &memory.dialer),
    ]
}

/// Watches both programs while they work. The list is launched again whenever it is done, so that on a small list they
/// go on working too.
async fn watch(args: &Args, contacts: usize) -> Memory {
    println!("  {contacts} contacts, {} s", args.memory_seconds);
    let scratch = Scratch::new(&args.database_url).await;
    // A process of its own imports, so that the watched service only dispatches.
    let importer = Replica::first(&scratch.url).await;
    let replica = Replica::start(&scratch.url, UNCAPPED).await;
    let dialer = start_dialer(&replica.url);
    let mut steady = Steady::start_with(&importer, &replica, 1, contacts, WORKERS).await;
    let peak = peak_megabytes(&importer.program);
    drop(importer);
    let mut memory =
        Memory { contacts, importer: vec![peak], service: Vec::new(), dialer: Vec::new() };
    let until = Instant::now() + Duration::from_secs(args.memory_seconds);
    while Instant::now() < until {
        memory.service.push(resident_megabytes(&replica.program));
        memory.dialer.push(resident_megabytes(&dialer));
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    }
    println!("    {} contacts done by the bench's own workers", steady.count());
    memory
}
