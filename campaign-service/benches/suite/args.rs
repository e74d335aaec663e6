//! Options of the suite: the parts to measure, and their sizes.

use clap::{Parser, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Contacts handed out at once, in every design.
pub const BATCH_CONTACTS: usize = 500;
/// Connections of the raw designs, and most workers of ours.
pub const CONNECTIONS: usize = 4;

/// Part of the suite; its figures stand together in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Lease, authorise, report, history: ours through gRPC beside raw SQL floors and other queues
    Dispatch,
    /// Import through gRPC beside raw COPY
    Import,
    /// Launch, rerun, reset, pause and cancel, from the smallest list to the largest
    Control,
    /// Pause and cancel while many workers are working
    Stop,
    /// Time from a new contact to the worker that waits
    Lead,
    /// Leases from a list of which 99% are excluded
    Excluded,
    /// Throughput while another session holds a snapshot
    Snapshot,
    /// Memory of the programs, small list and large
    Memory,
    /// Bytes that a contact takes in the database
    Size,
    /// Three times the load that the service can bear
    Overload,
    /// Throughput while metrics, logs and traces are taken
    Observe,
    /// Calls of the simulated and the SIP provider beside sipp's
    Calls,
    /// Thousands of campaigns beside a few: cost, starts, stops, watchers
    Fleet,
    /// Cost of 1 to 100 thousand campaigns and of 10 to 10,000 workers; only when named
    Scale,
    /// Throughput minute by minute; only when named
    Soak,
}

/// Measures the service beside references, in one run on one PostgreSQL
///
/// Every figure stands beside its reference, measured in the same run. Both take turns, so that other load of the
/// machine falls on both. Rates are medians over the rounds. A whole run takes about 25 minutes on two cores.
/// BENCH_CONTACTS=20000 BENCH_LARGE_CONTACTS=20000 gives a quick look at all parts.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// PostgreSQL to measure on; databases are made and dropped
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Parts to measure, separated by commas [default: all but scale and soak]
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',')]
    pub only: Vec<Part>,
    /// Contacts of each measurement of throughput
    #[arg(long, env = "BENCH_CONTACTS", default_value_t = 500_000)]
    pub contacts: usize,
    /// Contacts of the large lists; small lists have a hundredth, or down to a thousandth of it
    #[arg(long, env = "BENCH_LARGE_CONTACTS", default_value_t = 1_000_000)]
    pub large_contacts: usize,
    /// Rounds of throughput; figures are medians over them
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    pub rounds: usize,
    /// Whether other queues are measured too; 0 if there is no Node.js, 0 to 1
    #[arg(long, env = "BENCH_PEERS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(0..=1))]
    pub peers: u8,
    /// Folder that deploy/bench/peers.py made
    #[arg(long, env = "BENCH_PEERS_HOME")]
    pub peers_home: Option<PathBuf>,
    /// Jobs of each measurement of the textbook queue and of other queues. More would slow them down, since dead rows
    /// pile up before the next vacuum
    #[arg(long, env = "BENCH_PEER_JOBS", default_value_t = 100_000)]
    pub peer_jobs: usize,
    /// Repeats of each control command
    #[arg(long, env = "BENCH_CONTROL_REPEATS", default_value_t = 200)]
    pub control_repeats: usize,
    /// Pauses and cancels under load
    #[arg(long, env = "BENCH_PAUSE_TRIALS", default_value_t = 200)]
    pub pause_trials: usize,
    /// Workers connected while pausing
    #[arg(long, env = "BENCH_PAUSE_STREAMS", default_value_t = 50)]
    pub pause_streams: usize,
    /// Contacts created one by one for a waiting worker
    #[arg(long, env = "BENCH_LEAD_TRIALS", default_value_t = 500)]
    pub lead_trials: usize,
    /// Length of the held snapshot, in seconds; throughput without a snapshot is measured as long, or for 60 s
    #[arg(long, env = "BENCH_SNAPSHOT_SECONDS", default_value_t = 60)]
    pub snapshot_seconds: u64,
    /// Length of the measurement of memory, for each list, in seconds
    #[arg(long, env = "BENCH_MEMORY_SECONDS", default_value_t = 20)]
    pub memory_seconds: u64,
    /// Length of the full load, in seconds, and of the load three times as high
    #[arg(long, env = "BENCH_OVERLOAD_SECONDS", default_value_t = 10)]
    pub overload_seconds: u64,
    /// Campaigns of the crowd
    #[arg(long, env = "BENCH_FLEET_CAMPAIGNS", default_value_t = 10_000)]
    pub fleet_campaigns: usize,
    /// People who watch a large campaign
    #[arg(long, env = "BENCH_FLEET_WATCHERS", default_value_t = 200)]
    pub fleet_watchers: usize,
    /// Length of the soak, in minutes. Every call leaves a row of history: at 50,000 a second, a minute fills 0.8 GB of
    /// disk
    #[arg(long, env = "SOAK_MINUTES", default_value_t = 20)]
    pub soak_minutes: u64,
    /// File to which the figures are written, as JSON
    #[arg(long, env = "BENCH_JSON",
          default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench.json"))]
    pub json: PathBuf,
    /// Be the bare server of `bare.rs` instead
    #[arg(long, hide = true)]
    pub bare_server: Option<SocketAddr>,
    /// Given by cargo bench; means nothing here
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Args {
    /// Whether a part is wanted.
    pub fn wants(&self, part: Part) -> bool {
        if self.only.is_empty() {
            !matches!(part, Part::Scale | Part::Soak)
        } else {
            self.only.contains(&part)
        }
    }
}
