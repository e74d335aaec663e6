//! Command of `make bench-sip`, and the part `calls` of `make bench`. It measures calls per second, and processor time
//! for calls in progress. It compares the worker with the simulated and the SIP provider, and sipp calling sipp on the
//! same machine.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use campaign_sip::{Dispatch, Result, STOP_LIMIT, Sipp, Traffic, programs, takes};
use campaign_testkit::{Program, Programs};
use clap::Parser;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

/// Longest wait for one measurement.
const LIMIT: Duration = Duration::from_secs(120);
/// Largest share of lost calls, one in so many; with more, the measurement would mean something else.
const MAX_LOST_PART: u64 = 10;
/// Time for which processor time is taken while calls are in progress.
const HOLD: Duration = Duration::from_secs(10);
/// Calls at once while calls per second are measured. Calls take 0.2 to 1 ms, so this is more than enough.
const CALLS_AT_ONCE: u32 = 200;

/// Callers that are compared.
const SIMULATED: &str = "worker, simulated";
const OVER_SIP: [(&str, Traffic); 2] =
    [("worker, SIP over UDP", Traffic::Udp), ("worker, SIP over TCP", Traffic::Tcp)];
const WITH_AGENT: &str = "worker, with an agent";
const SIPP: &str = "sipp, UDP";

/// Measures the worker's providers beside sipp
#[derive(Debug, Parser)]
struct Args {
    /// Calls of each measurement of calls per second
    #[arg(long, env = "BENCH_SIP_CALLS", default_value_t = 10_000)]
    calls: u64,
    /// Most calls started per second while calls per second are measured. If the machine cannot keep up, datagrams are
    /// lost and calls with them, for sipp as for the worker; the measurement then fails
    #[arg(long, env = "BENCH_SIP_CALLS_PER_SECOND", default_value_t = 1_000)]
    calls_per_second: u32,
    /// Calls in progress of each measurement of processor time
    #[arg(long, env = "BENCH_SIP_IN_PROGRESS", default_value_t = 1_000)]
    in_progress: u32,
    /// File to which the figures are also written, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-sip: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let programs = programs(&std::env::current_exe()?)?;
    let mut measured = rates(&programs, args).await?;
    measured.extend(in_progress(&programs, args).await?);
    std::fs::remove_dir_all(programs.logs())?;
    if let Some(file) = &args.json {
        std::fs::write(file, Value::from(measured).to_string())?;
    }
    Ok(())
}

/// Measures calls per second.
async fn rates(programs: &Programs, args: &Args) -> Result<Vec<Value>> {
    println!(
        "{} calls that are answered and hung up at once, {CALLS_AT_ONCE} at a time, at most {} a second:",
        args.calls, args.calls_per_second
    );
    let rate = args.calls_per_second.to_string();
    let at_once = CALLS_AT_ONCE.to_string();
    let limits = ["--max-calls", &at_once, "--calls-per-second", &rate];
    let simulated = [&["--time-scale", "0"], &limits[..]].concat();
    let spent = through_worker(programs, args.calls, &simulated).await?;
    let mut measured = show_rate(SIMULATED, &spent, 0);
    for (name, traffic) in OVER_SIP {
        let mut sipp = Sipp::start("quick", traffic, &[]).await?;
        let trunk = sipp.address();
        // If the end of a call is lost, the worker has to end the call.
        let flags = [
            &["--sip-talk-limit-seconds", "10", "--sip-transport", traffic.transport()],
            &limits[..],
        ];
        let flags = [&sip(&trunk)[..], &flags.concat()].concat();
        let spent = through_worker(programs, args.calls, &flags).await?;
        sipp.finish().await?;
        measured.extend(show_rate(name, &spent, sipp.count("Retransmissions")));
    }
    measured.extend(bridged(programs, args).await?);
    let mut callee = Sipp::start("stays", Traffic::Udp, &[]).await?;
    let calls = args.calls.to_string();
    let flags = ["-r", &rate, "-l", &at_once, "-m", &calls, "-d", "0"];
    let spent = through_sipp(&mut callee, programs.logs(), args.calls, &flags).await?;
    measured.extend(show_rate(SIPP, &spent, callee.count("Retransmissions")));
    Ok(measured)
}

/// Measures calls to persons who are connected to an agent: a tenth of the calls, at a tenth of the rate, since each has
/// two legs and three offers.
async fn bridged(programs: &Programs, args: &Args) -> Result<Vec<Value>> {
    let (calls, rate) = ((args.calls / 10).max(1), (args.calls_per_second / 10).max(1).to_string());
    let words = [("ringing", "0"), ("patience", "200"), ("media_port", "9"), ("further", "")];
    let mut person = Sipp::start_with("person", Traffic::Udp, &words).await?;
    let mut agent = Sipp::start_with(
        "agent",
        Traffic::Udp,
        &[("delay", "0"), ("then", takes("BYE", "left").as_str())],
    )
    .await?;
    let (trunk, address) = (person.address(), format!("sip:agent@{}", agent.address()));
    let flags = ["--sip-agent", &address, "--max-calls", "200", "--calls-per-second", &rate];
    let spent = through_worker(programs, calls, &[&sip(&trunk)[..], &flags].concat()).await?;
    person.finish().await?;
    agent.finish().await?;
    let measured = show_rate(WITH_AGENT, &spent, person.count("Retransmissions"));
    let mut times = person.times_millis();
    times.sort_by(f64::total_cmp);
    let at =
        |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    println!(
        "{:>24} connected {:.1} ms after the answer (median), {:.1} ms (p99), {} bridges",
        "",
        at(0.5),
        at(0.99),
        times.len()
    );
    Ok(measured)
}

/// Measures the processor time of calls in progress.
async fn in_progress(programs: &Programs, args: &Args) -> Result<Vec<Value>> {
    println!("{} calls in progress, processor time of the caller:", args.in_progress);
    let all = args.in_progress.to_string();
    let limits = ["--max-calls", &all, "--calls-per-second", "500"];
    let share = hold_worker(programs, args, &limits, None).await?;
    let mut measured = vec![show_share(SIMULATED, share, args)];
    for (name, traffic) in OVER_SIP {
        let callee = Sipp::start("stays", traffic, &[]).await?;
        let trunk = callee.address();
        let flags =
            [&sip(&trunk)[..], &["--sip-transport", traffic.transport()], &limits[..]].concat();
        let share = hold_worker(programs, args, &flags, Some(&callee)).await?;
        measured.push(show_share(name, share, args));
    }
    let callee = Sipp::start("stays", Traffic::Udp, &[]).await?;
    measured.push(show_share(SIPP, hold_sipp(&callee, programs.logs(), args).await?, args));
    Ok(measured)
}

fn sip(trunk: &str) -> [&str; 4] {
    ["--provider", "sip", "--sip-trunk", trunk]
}

/// Cost of a number of calls.
struct Spent {
    calls: u64,
    /// Calls that were not answered.
    lost: u64,
    time: Duration,
    cpu_seconds: f64,
}

async fn through_worker(programs: &Programs, calls: u64, flags: &[&str]) -> Result<Spent> {
    let dispatch = Dispatch::start(calls).await?;
    let began = Instant::now();
    let flags = [&["--prefetch-contacts", "2000", "--log", "warn"], flags].concat();
    let mut worker = programs.worker("bench", &dispatch.address, &flags)?;
    timeout(LIMIT, dispatch.until_ended(calls)).await.map_err(|_| {
        format!("not all of {calls} calls ended; set a lower BENCH_SIP_CALLS_PER_SECOND")
    })??;
    // Over SIP everybody answers; of the simulated contacts not all do.
    let lost = if flags.contains(&"sip") { calls - dispatch.answered() } else { 0 };
    few(lost, calls)?;
    let time = began.elapsed();
    let cpu_seconds = cpu_seconds(worker.id())?;
    worker.stop(STOP_LIMIT).await?;
    Ok(Spent { calls, lost, time, cpu_seconds })
}

fn sipp_caller(callee: &Sipp, folder: &Path, flags: &[&str]) -> Result<Program> {
    let mut command = Command::new("sipp");
    command
        .args(["-sn", "uac", &callee.address(), "-i", "127.0.0.1", "-nostdin", "-skip_rlimit"])
        .args(["-buff_size", "2000000"])
        .args(flags)
        .current_dir(folder);
    Ok(Program::start_logging(&mut command, &folder.join("sipp.log"))?)
}

/// Checks that so few calls were lost that the other figures mean something.
fn few(lost: u64, calls: u64) -> Result<()> {
    if lost * MAX_LOST_PART <= calls {
        return Ok(());
    }
    Err(format!("{lost} of {calls} calls were lost; set a lower BENCH_SIP_CALLS_PER_SECOND").into())
}

async fn through_sipp(
    callee: &mut Sipp,
    folder: &Path,
    calls: u64,
    flags: &[&str],
) -> Result<Spent> {
    let began = Instant::now();
    let mut caller = sipp_caller(callee, folder, flags)?;
    let id = caller.id();
    let mut cpu = 0.0;
    // The processor time is known only while sipp runs.
    let status = loop {
        cpu = cpu_seconds(id).unwrap_or(cpu);
        if let Some(status) = caller.ended()? {
            break status;
        }
        sleep(Duration::from_millis(10)).await;
    };
    let time = began.elapsed();
    callee.finish().await?;
    let lost = calls.saturating_sub(callee.count("hung_up_here"));
    // Status 1 says that calls were lost; we count these ourselves.
    if status.code().is_none_or(|code| code > 1) {
        return Err(format!("sipp ended with {status}").into());
    }
    few(lost, calls)?;
    Ok(Spent { calls, lost, time, cpu_seconds: cpu })
}

/// Returns the processor time in the hold, as a share of one processor.
async fn hold_worker(
    programs: &Programs,
    args: &Args,
    flags: &[&str],
    callee: Option<&Sipp>,
) -> Result<f64> {
    // Simulated calls end one by one, and others take their places.
    let dispatch = Dispatch::start(u64::from(args.in_progress) * 4).await?;
    let flags = [&["--drain-grace-seconds", "0", "--log", "warn"], flags].concat();
    let mut worker = programs.worker("bench", &dispatch.address, &flags)?;
    until_in_progress(args, callee).await?;
    let share = share(worker.id()).await?;
    worker.stop(STOP_LIMIT).await?;
    Ok(share)
}

async fn hold_sipp(callee: &Sipp, folder: &Path, args: &Args) -> Result<f64> {
    let limit = args.in_progress.to_string();
    let mut caller =
        sipp_caller(callee, folder, &["-r", "500", "-l", &limit, "-m", &limit, "-d", "120000"])?;
    until_in_progress(args, Some(callee)).await?;
    let share = share(caller.id()).await?;
    caller.kill();
    Ok(share)
}

/// Waits until all calls are in progress, and a little more for the set-up to be over.
async fn until_in_progress(args: &Args, callee: Option<&Sipp>) -> Result<()> {
    let all = u64::from(args.in_progress);
    match callee {
        Some(callee) => {
            let counted = async {
                while callee.count("answered") < all {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            timeout(LIMIT, counted).await?;
        }
        // The simulation does not report this; its rings are over after 30 s at the latest.
        None => sleep(Duration::from_secs(all / 500 + 1)).await,
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn share(process: u32) -> Result<f64> {
    let before = cpu_seconds(process)?;
    let began = Instant::now();
    sleep(HOLD).await;
    Ok((cpu_seconds(process)? - before) / began.elapsed().as_secs_f64())
}

/// Returns the processor time that the threads of a process used. For the whole process it is given in ticks, too
/// coarse for calls in progress.
fn cpu_seconds(process: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

fn show_rate(caller: &str, spent: &Spent, repeated: u64) -> Vec<Value> {
    let rate = (spent.calls - spent.lost) as f64 / spent.time.as_secs_f64();
    let cpu = spent.cpu_seconds / spent.calls as f64 * 1_000.0;
    println!(
        "  {caller:<22}{rate:>8.0} calls/s {cpu:>8.2} s CPU per 1,000 calls, {repeated} repeated messages, {} \
         calls lost",
        spent.lost
    );
    let detail = json!({ "repeated_messages": repeated, "calls_lost": spent.lost });
    vec![
        json!({ "measure": "rate", "caller": caller, "value": rate, "detail": detail }),
        json!({ "measure": "cpu", "caller": caller, "value": cpu * 1_000.0, "detail": null }),
    ]
}

fn show_share(caller: &str, share: f64, args: &Args) -> Value {
    let percent = share * 100.0 * 1_000.0 / f64::from(args.in_progress);
    println!("  {caller:<22}{percent:>8.3} % of a processor per 1,000 calls in progress");
    json!({ "measure": "in_progress", "caller": caller, "value": percent, "detail": null })
}
