//! Commands `make bench` and `make soak`: they measure the service beside references, in the same
//! run.
//!
//! The suite is a command, not a timed test: it judges nobody, prints one table and writes the same
//! as JSON.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

mod apart;
mod api;
mod args;
mod bare;
mod calls;
mod control;
mod crowd;
mod dispatch;
mod excluded;
mod fleet;
mod floors;
mod import;
mod lead;
mod memory;
mod observe;
mod overload;
mod peers;
mod report;
mod scale;
mod scratch;
mod service;
mod size;
mod snapshot;
mod soak;
mod stats;
mod steady;
mod stop;
mod stream;

use args::{Args, Part};
use clap::{Parser, ValueEnum};
use report::Report;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(address) = args.bare_server {
        bare::serve(address, &args.database_url).await;
        return ExitCode::SUCCESS;
    }
    // The message and its place are printed, without the backtrace.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    if args.wants(Part::Dispatch) && args.peers == 1 && args.peers_home.is_none() {
        eprintln!("{}", peers::MISSING);
        return ExitCode::FAILURE;
    }
    if args.wants(Part::Calls) && !calls::has_sipp() {
        eprintln!("{}", calls::MISSING);
        return ExitCode::FAILURE;
    }
    let mut report = Report::new(arguments(&args, &scratch::version(&args.database_url).await));
    let mut failed = Vec::new();
    for part in Part::value_variants().iter().copied().filter(|part| args.wants(*part)) {
        println!("\n== {part:?}");
        let started = Instant::now();
        // Each part is a task of its own, so that a part that fails leaves the others their turn.
        let measured = match part {
            Part::Dispatch => tokio::spawn(dispatch::run(args.clone())),
            Part::Import => tokio::spawn(import::run(args.clone())),
            Part::Control => tokio::spawn(control::run(args.clone())),
            Part::Stop => tokio::spawn(stop::run(args.clone())),
            Part::Lead => tokio::spawn(lead::run(args.clone())),
            Part::Excluded => tokio::spawn(excluded::run(args.clone())),
            Part::Snapshot => tokio::spawn(snapshot::run(args.clone())),
            Part::Memory => tokio::spawn(memory::run(args.clone())),
            Part::Size => tokio::spawn(size::run(args.clone())),
            Part::Overload => tokio::spawn(overload::run(args.clone())),
            Part::Observe => tokio::spawn(observe::run(args.clone())),
            Part::Calls => tokio::spawn(calls::run(args.clone())),
            Part::Fleet => tokio::spawn(fleet::run(args.clone())),
            Part::Scale => tokio::spawn(scale::run(args.clone())),
            Part::Soak => tokio::spawn(soak::run(args.clone())),
        };
        match measured.await {
            Ok(figures) => report.add(part, figures),
            Err(_) => failed.push(part),
        }
        println!("  took {} s", started.elapsed().as_secs());
        // The figures so far are kept, whatever happens to the other parts.
        report.write(&args.json);
    }
    report.print();
    let json = args.json.canonicalize().unwrap_or(args.json);
    println!("written to {}", json.display());
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("these parts failed, see above: {failed:?}");
    ExitCode::FAILURE
}

/// Returns the settings that the figures depend on, without the address of the database.
fn arguments(args: &Args, postgresql: &str) -> serde_json::Value {
    json!({
        "postgresql": postgresql,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "contacts": args.contacts,
        "large_contacts": args.large_contacts,
        "rounds": args.rounds,
        "peer_jobs": args.peer_jobs,
        "control_repeats": args.control_repeats,
        "pause_trials": args.pause_trials,
        "pause_streams": args.pause_streams,
        "lead_trials": args.lead_trials,
        "snapshot_seconds": args.snapshot_seconds,
        "memory_seconds": args.memory_seconds,
        "overload_seconds": args.overload_seconds,
        "soak_minutes": args.soak_minutes,
    })
}
