//! Round: an environment, many histories side by side, faults, peace, and the judge.

use crate::check::{self, Circumstances, Verdict, Violation};
use crate::faults::{self, FROZEN, Planned};
use crate::history::{self, History, Stage};
use crate::journal::Journal;
use crate::postgres::{self, Template};
use crate::provider::{Door, log};
use crate::setting::{Kind, Setting};
use crate::world::World;
use crate::{Result, crowd, now_micros, numbers};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Longest time from the end of faults to the end of the last history.
const LIVES_LIMIT: Duration = Duration::from_secs(400);

/// Longest time for the provider to have all its events acknowledged.
const QUIET_LIMIT: Duration = Duration::from_secs(120);

/// Longest wait for the last of PostgreSQL's processes to let go of its files.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// Clients that histories share, with a connection to each replica.
const CLIENTS: usize = 8;

/// Result of a round.
#[derive(Debug)]
pub struct Outcome {
    /// Findings of the judge.
    pub verdict: Verdict,
    /// Histories that came to no end, faults that could not be made, programs that ended by themselves.
    pub troubles: Vec<String>,
    /// Faults as planned.
    pub planned: Vec<Planned>,
    /// Number of faults that happened, by kind.
    pub faults: BTreeMap<String, usize>,
    /// Time of the whole round.
    pub took: Duration,
}

impl Outcome {
    /// Whether no violation and no trouble was found.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict.violations.is_empty() && self.troubles.is_empty()
    }

    /// Returns the violations.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.verdict.violations
    }
}

/// Plays a round.
///
/// # Errors
/// When the environment cannot be set up or read.
pub async fn play(template: &Template, setting: &Setting) -> Result<Outcome> {
    let start = Instant::now();
    let mut random = SmallRng::seed_from_u64(setting.seed);
    let folder = &setting.folder;
    let world = Arc::new(World::start(template, setting, &mut random).await?);
    let planned = plan(setting, world.lease_ttl, &mut random);
    let journal = Arc::new(Journal::create(&folder.join("journal.jsonl"))?);
    let (calm, is_calm) = watch::channel(false);
    let living = enter(&world, setting, &journal, &is_calm).await?;
    let faults::Done { kinds, failed: mut troubles } = tokio::select! {
        done = faults::run(&world, &planned) => done,
        () = world.supervise() => unreachable!("it never ends"),
    };
    world.heal(random.random_bool(0.5)).await?;
    calm.send_replace(true);
    let healed_at = now_micros();
    let mut lived = until_lived(living, &mut troubles).await?;
    let database = postgres::connect(world.database_port).await?;
    troubles.extend(crowd::until_over(&database).await?);
    troubles.extend(until_quiet(world.provider_port).await.err());
    troubles.extend(until_erased(&database).await?);
    for history in &mut lived {
        troubles.extend(history.total().await.err());
    }
    troubles.extend(world.own_ends().await);
    troubles.extend(postgres::not_understood(&folder.join("postgres.log"))?);
    let told = log::read(&world.provider_log())?;
    let around = Circumstances { is_mixed: setting.versions.previous.is_some(), healed_at };
    let verdict = check::judge(&database, &journal, &told, folder, around).await?;
    let outcome = Outcome { verdict, troubles, planned, faults: kinds, took: start.elapsed() };
    if !outcome.is_good() {
        keep(&database, folder, &outcome).await?;
    }
    drop(database);
    world.end().await;
    drop(world);
    if outcome.is_good() {
        remove(folder).await?;
    }
    Ok(outcome)
}

/// Plans the faults of a round.
fn plan(setting: &Setting, lease_ttl: Duration, random: &mut SmallRng) -> Vec<Planned> {
    if setting.kind == Kind::Frozen {
        return faults::plan_frozen(random, setting.window, lease_ttl);
    }
    let mut planned = faults::plan(random, setting.window, lease_ttl);
    if setting.versions.previous.is_some() {
        planned.retain(|planned| !planned.fault.is_new());
        planned.push(faults::upgrade(random, setting.window));
    }
    planned
}

/// Gathers the crowd, then lets the histories begin.
async fn enter(
    world: &World,
    setting: &Setting,
    journal: &Arc<Journal>,
    is_calm: &watch::Receiver<bool>,
) -> Result<JoinSet<Result<History, String>>> {
    let is_frozen = setting.kind == Kind::Frozen;
    let lines = world.service_lines.iter().enumerate();
    let asked = lines.filter(|(replica, _)| !(is_frozen && *replica == FROZEN));
    let ports: Vec<u16> = asked.map(|(_, line)| line.port).collect();
    let clients = (0..CLIENTS).map(|_| history::connect(&ports)).collect::<Result<Vec<_>>>()?;
    crowd::gather(&clients.concat(), journal, setting.kind.crowd(), setting.window).await?;
    let mut living = JoinSet::new();
    for index in 0..setting.histories.min(numbers::MAX_HISTORIES) {
        let stage = Stage {
            clients: clients[index % CLIENTS].clone(),
            journal: Arc::clone(journal),
            database_port: world.database_port,
            is_asked_well: is_frozen,
            recognises_machines: setting.door() == Door::Twilio,
            is_calm: is_calm.clone(),
        };
        living.spawn(History::new(stage, setting.seed, index).live());
    }
    Ok(living)
}

/// Waits until all histories are at their end, and no longer than [`LIVES_LIMIT`].
async fn until_lived(
    mut living: JoinSet<Result<History, String>>,
    troubles: &mut Vec<String>,
) -> Result<Vec<History>> {
    let deadline = Instant::now() + LIVES_LIMIT;
    let mut lived = Vec::new();
    while let Ok(Some(history)) = timeout_at(deadline, living.join_next()).await {
        match history? {
            Ok(history) => lived.push(history),
            Err(trouble) => troubles.push(trouble),
        }
    }
    if !living.is_empty() {
        troubles.push(format!("{} histories do not end", living.len()));
    }
    Ok(lived)
}

/// Removes a folder in which the last of PostgreSQL's processes may be at work for a moment.
async fn remove(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + REMOVE_LIMIT;
    loop {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Writes down the facts needed to examine the round; the database goes with its disk.
async fn keep(database: &tokio_postgres::Client, folder: &Path, outcome: &Outcome) -> Result<()> {
    let mut text = String::new();
    for violation in outcome.violations() {
        text.push_str(&format!("{violation}\n"));
    }
    for trouble in &outcome.troubles {
        text.push_str(&format!("{trouble}\n"));
    }
    std::fs::write(folder.join("violations.txt"), text)?;
    let tables = [
        "campaigns",
        "runs",
        "audit_events",
        "authorizations",
        "leases",
        "due_contacts",
        "frontiers",
        "contacts",
        "chaos.facts",
        "chaos.calls",
        "chaos.leases",
        "chaos.contacts",
        "suppressions",
        "erasures",
        "state_blocks",
    ];
    for table in tables {
        let sql = format!("SELECT to_jsonb(t)::text FROM {table} t");
        let rows = database.query(&sql, &[]).await?;
        let lines: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        std::fs::write(folder.join(format!("{table}.jsonl")), lines.join("\n"))?;
    }
    Ok(())
}

/// Waits until every erasure that was begun is finished, by any replica.
async fn until_erased(database: &tokio_postgres::Client) -> Result<Option<String>> {
    let deadline = Instant::now() + QUIET_LIMIT;
    loop {
        let sql = "SELECT count(*) FROM erasures WHERE phone IS NOT NULL";
        let under_way: i64 = database.query_one(sql, &[]).await?.get(0);
        if under_way == 0 {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Ok(Some(format!("{under_way} erasures do not end")));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until every call is over and all its events are acknowledged.
async fn until_quiet(port: u16) -> Result<(), String> {
    let deadline = Instant::now() + QUIET_LIMIT;
    loop {
        let answer = ask(port).await.unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        if Instant::now() > deadline {
            let last = answer.lines().last().unwrap_or_default();
            return Err(format!("the provider still has events to send: {last}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /quiet HTTP/1.1\r\nhost: provider\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
