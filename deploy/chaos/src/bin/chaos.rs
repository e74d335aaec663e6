//! Command of `make chaos`: plays seeded histories under seeded faults and judges them.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

use campaign_chaos::numbers::MAX_HISTORIES;
use campaign_chaos::postgres::Template;
use campaign_chaos::round::{self, Outcome};
use campaign_chaos::setting::{CROWD, Kind, Setting, Versions};
use campaign_chaos::{Result, clocks, faults};
use clap::Parser;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Breaks everything around many campaigns, and judges whether the promises held
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Histories to play, each the whole life of a campaign
    #[arg(long, env = "CHAOS_HISTORIES", default_value_t = 1_000)]
    histories: usize,
    /// Seed of the first round; each further round takes the next number
    #[arg(long, env = "CHAOS_SEED", default_value_t = 1)]
    seed: u64,
    /// Histories side by side in a round, which share its faults
    #[arg(long, env = "CHAOS_ROUND_HISTORIES", default_value_t = 40)]
    round_histories: usize,
    /// Length of the faults in a round, in seconds
    #[arg(long, env = "CHAOS_WINDOW_SECONDS", default_value_t = 6)]
    window_seconds: u64,
    /// Rounds side by side
    #[arg(long, env = "CHAOS_ROUNDS_AT_ONCE", default_value_t = 2)]
    rounds_at_once: usize,
    /// Campaigns beside the histories in one round of ten
    #[arg(long, env = "CHAOS_CROWD", default_value_t = CROWD)]
    crowd: usize,
    /// Stop at the first round that is not good
    #[arg(long, env = "CHAOS_FAIL_FAST", default_value_t = false)]
    fail_fast: bool,
    /// Service of the previous version, with its worker in the same folder: each round begins with these programs and
    /// is upgraded in the middle
    #[arg(long, env = "CHAOS_PREVIOUS_SERVICE")]
    previous_service: Option<PathBuf>,
    /// Folder for the logs
    #[arg(long, env = "CHAOS_FOLDER")]
    folder: Option<PathBuf>,
    /// Show the plan of each round
    #[arg(long)]
    show_faults: bool,
}

#[derive(Default)]
struct Totals {
    histories: usize,
    rounds: usize,
    bad: Vec<u64>,
    authorized: usize,
    rang: usize,
    facts: usize,
    erased: usize,
    rang_late: usize,
    latest: Duration,
    faults: BTreeMap<String, usize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let played = tokio::select! {
        played = play(&args) => played,
        // The owner of each started process kills it when dropped.
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        () = terminated() => Err("stopped by SIGTERM".into()),
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        Err(_) => std::future::pending().await,
    }
}

async fn play(args: &Args) -> Result<bool> {
    let previous = args.previous_service.as_ref().map(std::path::absolute).transpose()?;
    let versions = Versions { built: std::env::current_exe()?, previous };
    let name = format!("campaign-chaos-{}-{}", args.seed, std::process::id());
    let folder = args.folder.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
    std::fs::create_dir_all(&folder)?;
    let template = Template::make(&folder, &versions.first_service()?).await?;
    let template = Arc::new(template);
    if clocks::library().is_none() {
        println!(
            "clocks do not jump: libfaketime is not installed (Debian: apt-get install faketime)"
        );
    }
    let each = args.round_histories.clamp(1, MAX_HISTORIES);
    let mut totals = Totals::default();
    let mut rounds = JoinSet::new();
    let (mut planned, mut next) = (0, args.seed);
    let start = Instant::now();
    loop {
        let may_go_on = !args.fail_fast || totals.bad.is_empty();
        while rounds.len() < args.rounds_at_once.max(1) && planned < args.histories && may_go_on {
            let histories = each.min(args.histories - planned);
            let setting = Setting {
                seed: next,
                histories,
                kind: if versions.previous.is_some() {
                    Kind::Usual
                } else {
                    Kind::of(next, args.crowd)
                },
                window: Duration::from_secs(args.window_seconds),
                versions: versions.clone(),
                folder: folder.join(format!("round-{next}")),
            };
            let template = Arc::clone(&template);
            rounds.spawn(async move {
                let outcome = round::play(&template, &setting).await;
                (setting, outcome)
            });
            planned += histories;
            next += 1;
        }
        let Some(played) = rounds.join_next().await else { break };
        let (setting, outcome) = played?;
        match outcome {
            Ok(outcome) => report(args, &setting, outcome, &mut totals, start),
            Err(error) => {
                println!("round {}: NOT GOOD, it could not be played: {error}", setting.seed);
                totals.bad.push(setting.seed);
            }
        }
    }
    let is_good = totals.bad.is_empty();
    if is_good {
        std::fs::remove_dir_all(&folder)?;
    }
    sum_up(args, &totals, start);
    Ok(is_good)
}

fn report(args: &Args, setting: &Setting, outcome: Outcome, totals: &mut Totals, start: Instant) {
    let verdict = &outcome.verdict;
    totals.histories += setting.histories;
    totals.rounds += 1;
    totals.authorized += verdict.authorized;
    totals.rang += verdict.rang;
    totals.facts += verdict.facts;
    totals.erased += verdict.erased;
    totals.rang_late += verdict.rang_late;
    totals.latest = totals.latest.max(verdict.latest);
    let faults: usize = outcome.faults.values().sum();
    for (kind, times) in &outcome.faults {
        *totals.faults.entry(kind.clone()).or_default() += times;
    }
    let word = if outcome.is_good() { "good" } else { "NOT GOOD" };
    println!(
        "{} of {} histories, {:.0} s; round {}{}: {word}, {faults} faults, {} calls authorised, {} \
         rang, {:.0} s",
        totals.histories,
        args.histories,
        start.elapsed().as_secs_f64(),
        setting.seed,
        setting.apart(),
        verdict.authorized,
        verdict.rang,
        outcome.took.as_secs_f64(),
    );
    if args.show_faults {
        show(&outcome.planned);
    }
    if outcome.is_good() {
        return;
    }
    totals.bad.push(setting.seed);
    for violation in outcome.violations().iter().take(10) {
        println!("  {violation}");
    }
    for trouble in outcome.troubles.iter().take(10) {
        println!("  {trouble}");
    }
    println!("  logs and tables: {}", setting.folder.display());
    println!(
        "  again: make chaos CHAOS_SEED={} CHAOS_HISTORIES={} CHAOS_ROUND_HISTORIES={}",
        setting.seed, setting.histories, setting.histories
    );
}

fn show(planned: &[faults::Planned]) {
    for fault in planned {
        println!("  {:.1} s: {}", fault.at.as_secs_f64(), fault.fault);
    }
}

fn sum_up(args: &Args, totals: &Totals, start: Instant) {
    let faults: usize = totals.faults.values().sum();
    println!(
        "{} histories in {} rounds from seed {}, {:.0} s: {} calls authorised, {} phones rang, {} facts \
         in history, {} people erased for good, {faults} faults:",
        totals.histories,
        totals.rounds,
        args.seed,
        start.elapsed().as_secs_f64(),
        totals.authorized,
        totals.rang,
        totals.facts,
        totals.erased,
    );
    for (kind, times) in &totals.faults {
        println!("  {times:6} {kind}");
    }
    println!(
        "{} phones rang after an OK to a pause, a cancel or an opt-out, authorised before it, the last \
         {} ms after it",
        totals.rang_late,
        totals.latest.as_millis()
    );
    match totals.bad.as_slice() {
        [] => println!("no violation"),
        bad => println!("rounds that were NOT GOOD, by seed: {bad:?}"),
    }
}
