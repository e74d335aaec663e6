//! Round: an environment, many histories side by side, faults, peace, and the judge.

use crate::check::{self, Verdict, Violation};
use crate::faults::{self, Planned};
use crate::history::{self, History, Stage};
use crate::journal::Journal;
use crate::postgres::{self, Template};
use crate::provider::log;
use crate::world::{Versions, World};
use crate::{Result, numbers};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Longest time for the provider to have all its events acknowledged.
const QUIET_LIMIT: Duration = Duration::from_secs(120);

/// Longest wait for the last of PostgreSQL's processes to let go of its files.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// Clients that histories share, with a connection to each replica.
const CLIENTS: usize = 8;

/// Settings of a round.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Seed of all decisions here.
    pub seed: u64,
    /// Number of histories side by side.
    pub histories: usize,
    /// Length of the time in which faults happen.
    pub window: Duration,
    /// Programs under test.
    pub versions: Versions,
    /// Folder of this round; removed when all went well.
    pub folder: PathBuf,
}

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
    let world =
        World::start(template, &setting.versions, folder, setting.seed, &mut random).await?;
    let world = Arc::new(world);
    let mut planned = faults::plan(&mut random, setting.window, world.lease_ttl);
    if setting.versions.previous.is_some() {
        planned.retain(|planned| !planned.fault.is_new());
        planned.push(faults::upgrade(&mut random, setting.window));
    }
    let journal = Arc::new(Journal::create(&folder.join("journal.jsonl"))?);
    let (calm, is_calm) = watch::channel(false);
    let ports: Vec<u16> = world.service_lines.iter().map(|line| line.port).collect();
    let mut living = JoinSet::new();
    let clients = (0..CLIENTS).map(|_| history::connect(&ports)).collect::<Result<Vec<_>>>()?;
    for index in 0..setting.histories.min(numbers::MAX_HISTORIES) {
        let stage = Stage {
            clients: clients[index % CLIENTS].clone(),
            journal: Arc::clone(&journal),
            database_port: world.database_port,
            is_calm: is_calm.clone(),
        };
        living.spawn(History::new(stage, setting.seed, index).live());
    }
    let faults::Done { kinds, failed: mut troubles } = tokio::select! {
        done = faults::run(&world, &planned) => done,
        () = world.supervise() => unreachable!("it never ends"),
    };
    world.heal(random.random_bool(0.5)).await?;
    calm.send_replace(true);
    let mut lived = Vec::new();
    while let Some(history) = living.join_next().await {
        match history? {
            Ok(history) => lived.push(history),
            Err(trouble) => troubles.push(trouble),
        }
    }
    troubles.extend(until_quiet(world.provider_port).await.err());
    let database = postgres::connect(world.database_port).await?;
    troubles.extend(until_erased(&database).await?);
    for history in &mut lived {
        troubles.extend(history.total().await.err());
    }
    troubles.extend(world.own_ends().await);
    troubles.extend(postgres::not_understood(&folder.join("postgres.log"))?);
    let told = log::read(&world.provider_log())?;
    let is_mixed = setting.versions.previous.is_some();
    let verdict = check::judge(&database, &journal, &told, folder, is_mixed).await?;
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
