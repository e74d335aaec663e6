//! `make bench`: contacts fully handled a second, ours through gRPC beside raw SQL on the same PostgreSQL.
//!
//! Every figure is the median of several rounds in which all designs take turns, so that what else the
//! machine does falls on all of them. Prints a table, and writes JSON with the ratios.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

mod block;
mod ours;
mod report;
mod scratch;
mod textbook;

use clap::Parser;
use report::Report;
use scratch::Scratch;
use std::path::PathBuf;

/// Contacts handed out at once, in every design.
pub const BATCH_CONTACTS: usize = 500;
/// Connections of the raw designs, and workers of ours.
pub const CONNECTIONS: usize = 4;

/// Measures the dispatch path beside raw SQL
#[derive(Debug, Parser)]
struct Args {
    /// PostgreSQL to measure on; databases are made and dropped
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Contacts of each measurement
    #[arg(long, env = "BENCH_CONTACTS", default_value_t = 100_000)]
    contacts: usize,
    /// Rounds; figures are medians over them
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// Of ours, only the set-ups whose names contain this; the floors are measured all the same
    #[arg(long, env = "BENCH_ONLY", default_value = "")]
    only: String,
    /// Where to write the figures as JSON
    #[arg(long, env = "BENCH_JSON", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench.json"))]
    json: PathBuf,
    /// Given by cargo bench; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let mut report = Report::new(args.contacts, args.rounds);
    for round in 1..=args.rounds {
        println!("round {round} of {}, {} contacts each", args.rounds, args.contacts);
        let scratch = Scratch::new(&args.database_url).await;
        report.add("floor-textbook", textbook::run(&scratch, args.contacts).await);
        let scratch = Scratch::new(&args.database_url).await;
        report.add("floor-block", block::run(&scratch, args.contacts).await);
        for (name, setup) in [
            ("ours, 1 worker", ours::Setup { workers: 1, replicas: 1 }),
            ("ours, 2 workers", ours::Setup { workers: 2, replicas: 1 }),
            ("ours, 4 workers", ours::Setup { workers: CONNECTIONS, replicas: 1 }),
            ("ours, 4 workers, 2 replicas", ours::Setup { workers: CONNECTIONS, replicas: 2 }),
        ] {
            if !name.contains(&args.only) {
                continue;
            }
            let scratch = Scratch::new(&args.database_url).await;
            let measured = ours::run(&scratch, args.contacts, setup).await;
            report.add(name, measured.dispatch_per_second);
            if setup.workers == CONNECTIONS && setup.replicas == 1 {
                report.add("import through gRPC", measured.import_per_second);
            }
        }
    }
    report.print();
    report.write(&args.json);
}
