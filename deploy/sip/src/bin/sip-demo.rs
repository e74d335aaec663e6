//! Command of `make sip-demo`: a campaign over real SIP, and both sides' books beside each other.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use campaign_proto::v1::{CallOutcome, CampaignProgress};
use campaign_sip::{Campaign, Result, STOP_LIMIT, Sipp, Tally, Traffic, programs};
use clap::Parser;

/// Longest wait for the campaign.
const CAMPAIGN_LIMIT: Duration = Duration::from_secs(600);

/// Runs a campaign over SIP against sipp on loopback, and compares what both counted
#[derive(Debug, Parser)]
struct Args {
    /// PostgreSQL to use; its database gets the service's tables
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Contacts to call, 1 to 10,000
    #[arg(long, env = "SIP_DEMO_CONTACTS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    contacts: u64,
    /// Calls started per second, 1 to 1,000
    #[arg(long, env = "SIP_DEMO_CALLS_PER_SECOND", default_value_t = 150,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    calls_per_second: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sip-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let began = Instant::now();
    let programs = programs(&std::env::current_exe()?)?;
    let mut sipp = Sipp::start("people", Traffic::Udp, &[]).await?;
    let (mut service, address) = programs.service(&args.database_url, &[]).await?;
    println!(
        "sipp plays {} people on {}; a service on {address}; logs are in {}.",
        args.contacts,
        sipp.address(),
        programs.logs().display()
    );
    let mut campaign = Campaign::create(&address, usize::try_from(args.contacts)?).await?;
    let flags = [
        "--provider",
        "sip",
        "--sip-trunk",
        &sipp.address(),
        "--sip-listen",
        "127.0.0.1:0",
        "--sip-ring-limit-seconds",
        "3",
        "--sip-talk-limit-seconds",
        "2",
        "--max-calls",
        "500",
        "--calls-per-second",
        &args.calls_per_second.to_string(),
    ];
    println!("  $ dialer-worker --service-url http://{address} {}", flags.join(" "));
    let mut worker = programs.worker("sip-worker", &address, &flags)?;
    campaign.launch().await?;
    campaign.completed(CAMPAIGN_LIMIT, |progress| show(progress, args.contacts)).await?;
    println!();
    worker.stop(STOP_LIMIT).await?;
    sipp.finish().await?;
    let tally = campaign.tally().await?;
    service.stop(STOP_LIMIT).await?;
    let agree = compare(&tally, &sipp);
    println!("\nDone in {} seconds.", began.elapsed().as_secs());
    if agree {
        std::fs::remove_dir_all(programs.logs())?;
    }
    Ok(agree)
}

/// Shows the progress in one line that is written over, on a terminal.
fn show(progress: &CampaignProgress, contacts: u64) {
    if std::io::stdout().is_terminal() {
        let ended = progress.history.map_or(0, |history| history.attempts) - progress.in_call;
        print!("\r  {ended} of {contacts} calls ended, {} in progress    ", progress.in_call);
        let _ = std::io::stdout().flush();
    }
}

/// Prints both sides' books. Returns whether they agree.
fn compare(tally: &Tally, sipp: &Sipp) -> bool {
    let ours = |outcome| tally.get(&outcome).copied().unwrap_or(0);
    let counts = sipp.counts();
    let theirs = |names: &[&str]| names.iter().map(|name| counts.get(*name).unwrap_or(&0)).sum();
    let invites = sipp.invites();
    let numbers: std::collections::BTreeSet<_> =
        invites.iter().map(|invite| &invite.number).collect();
    let lines: [(&str, u64, &str, u64); 8] = [
        ("contacts", tally.values().sum(), "calls", theirs(&["IncomingCall"])),
        ("INVITEs", invites.len() as u64, "numbers called", numbers.len() as u64),
        ("answered", ours(CallOutcome::Answered), "200 sent", theirs(&["answered"])),
        ("busy", ours(CallOutcome::Busy), "486, 603 sent", theirs(&["busy", "declines"])),
        ("no answer", ours(CallOutcome::NoAnswer), "487 sent", theirs(&["no_answer"])),
        ("failed", ours(CallOutcome::Failed), "404 sent", theirs(&["unknown"])),
        ("unknown", ours(CallOutcome::Unknown), "calls that broke", theirs(&["FailedCall"])),
        (
            "answered",
            ours(CallOutcome::Answered),
            "BYE sent or got",
            theirs(&["hung_up_there", "hung_up_here"]),
        ),
    ];
    println!("\n  {:<24}{:<24}", "history of the campaign", "statistics of sipp");
    let mut agree = true;
    for (our_name, our_count, their_name, their_count) in lines {
        let is_same = our_count == their_count;
        agree &= is_same;
        println!(
            "  {our_name:<12}{our_count:>8}    {their_name:<18}{their_count:>8}   {}",
            if is_same { "ok" } else { "DIFFERENT" }
        );
    }
    agree
}
