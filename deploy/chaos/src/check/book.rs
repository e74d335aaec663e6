//! Everything the database holds about each campaign.

use crate::Result;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Microseconds since 1970.
pub(super) type Micros = i64;

/// Transactions that a transaction saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    first_open: u64,
    next: u64,
    open: Vec<u64>,
}

impl Snapshot {
    /// Reads PostgreSQL's form: the oldest open transaction, the next one, and those open in between.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let first_open = parts.next()?.parse().ok()?;
        let next = parts.next()?.parse().ok()?;
        let open = parts.next()?.split(',').filter_map(|xid| xid.parse().ok()).collect();
        Some(Self { first_open, next, open })
    }

    /// Whether a transaction was committed by then, given that it was committed at some time.
    pub fn sees(&self, transaction: u64) -> bool {
        transaction < self.first_open
            || (transaction < self.next && !self.open.contains(&transaction))
    }
}

/// Commits that had happened when a client had its answer, by the answer's mark. If a mark could not be noted, it is
/// the time, negative.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    Saw(Snapshot),
    At(Micros),
}

impl Answered {
    /// Whether a transaction, of this time, was committed only afterwards.
    pub fn is_before(&self, transaction: u64, at: Micros) -> bool {
        match self {
            Self::Saw(seen) => !seen.sees(transaction),
            Self::At(answered_at) => at > *answered_at,
        }
    }
}

/// Launch of a campaign.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub settings: Value,
    pub generation: i32,
    pub cycle: i32,
    pub position_limit: Option<i64>,
}

/// Entry of the audit log.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    pub command: String,
    pub run: i32,
    pub request_id: String,
    /// Hash of the person concerned; only for erasures.
    pub person: Option<String>,
    pub at: Micros,
    pub seen: Snapshot,
}

/// Attempt that was authorised.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub lease: i64,
    pub slot: i32,
    pub run: i32,
    pub position: i64,
    pub at: Micros,
    pub transaction: u64,
}

/// End of an attempt, as recorded at some time.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub lease: i64,
    pub slot: i32,
    pub run: i32,
    pub position: i64,
    /// Outcome as stored: 0 answered, 1 no answer, 2 busy, 3 voicemail, 4 failed, 5 unknown, 6 rejected, 7 invalid
    /// number, 8 congested, 9 abandoned, 10 cancelled.
    pub outcome: u8,
    pub at: Micros,
}

/// Fact in history.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub position: i64,
    pub id: String,
    pub kind: i16,
    pub seconds: i32,
    pub generation: i32,
    pub attempt: Option<(i64, i32)>,
    pub at: Micros,
    pub seen: Snapshot,
}

/// Event in the life of a lease.
#[derive(Clone, Debug)]
pub(super) struct LeaseNote {
    /// End of the lease; `None` when the lease was deleted.
    pub expires_at: Option<Micros>,
    pub seen: Snapshot,
}

/// Contact as it was added.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub number: String,
    pub at: Micros,
    pub transaction: u64,
}

/// Everything known of one campaign.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub config: Value,
    pub generation: i32,
    pub runs: BTreeMap<i32, Run>,
    pub audits: Vec<Audit>,
    /// Attempts in order of time.
    pub attempts: Vec<Attempt>,
    /// Ends of attempts in order of recording.
    pub ends: Vec<Ended>,
    pub facts: Vec<Fact>,
    /// Facts that are still there, not only noted once.
    pub facts_kept: Vec<(i64, String)>,
    pub leases: BTreeMap<i64, Vec<LeaseNote>>,
    /// Numbers by position, of contacts that are there.
    pub contacts: BTreeMap<i64, String>,
    /// All contacts that ever were, also those erased.
    pub added: BTreeMap<i64, Added>,
    /// Positions of the contacts that were erased.
    pub erased: BTreeSet<i64>,
    /// Times at which numbers of the campaign's contacts came on the suppression list.
    pub suppressed: BTreeMap<String, Micros>,
}

impl Book {
    pub fn position(&self, number: &str) -> Option<i64> {
        self.contacts.iter().find(|(_, phone)| *phone == number).map(|(position, _)| *position)
    }

    /// Returns the number that a position has, or had before it was erased.
    pub fn number(&self, position: i64) -> Option<&str> {
        self.added.get(&position).map(|added| added.number.as_str())
    }

    /// Returns the attempts on the contact at a position.
    pub fn attempts_on(&self, position: i64) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.position == position)
    }

    /// Returns the run that was under way, or had been last, at a time.
    pub fn run_at(&self, at: Micros) -> i32 {
        let launches = self.audits.iter().filter(|audit| audit.command == "LAUNCH");
        launches.filter(|launch| launch.at <= at).map(|launch| launch.run).max().unwrap_or(0)
    }

    pub fn cycle(&self, run: i32) -> i32 {
        self.runs.get(&run).map_or(0, |run| run.cycle)
    }

    pub fn generation_of(&self, run: i32) -> i32 {
        self.runs.get(&run).map_or(0, |run| run.generation)
    }
}

/// All campaigns, and the commits that had happened at each mark.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub by_campaign: BTreeMap<String, Book>,
    marks: BTreeMap<i64, Snapshot>,
}

impl Books {
    pub fn answered(&self, mark: i64) -> Answered {
        let seen = self.marks.get(&mark).cloned();
        seen.map_or(Answered::At(mark.saturating_abs()), Answered::Saw)
    }
}

fn micros(row: &Row, column: &str) -> Micros {
    row.get::<_, DateTime<Utc>>(column).timestamp_micros()
}

fn seen(row: &Row) -> Snapshot {
    Snapshot::read(row.get("seen")).unwrap_or_default()
}

impl Books {
    fn of(&mut self, row: &Row) -> &mut Book {
        let id: Uuid = row.get("campaign_id");
        self.by_campaign.entry(id.to_string()).or_default()
    }
}

/// Reads everything.
pub(super) async fn load(client: &Client) -> Result<Books> {
    let mut books = Books::default();
    load_campaigns(client, &mut books).await?;
    load_dispatch(client, &mut books).await?;
    load_history(client, &mut books).await?;
    for row in client.query("SELECT mark, seen FROM chaos.marks", &[]).await? {
        books.marks.insert(row.get("mark"), seen(&row));
    }
    Ok(books)
}

async fn load_campaigns(client: &Client, books: &mut Books) -> Result<()> {
    for row in client.query("SELECT campaign_id, config, generation FROM campaigns", &[]).await? {
        let book = books.of(&row);
        (book.config, book.generation) = (row.get("config"), row.get("generation"));
    }
    let sql = "SELECT campaign_id, run, settings, generation, cycle, position_limit FROM runs";
    for row in client.query(sql, &[]).await? {
        let run = Run {
            settings: row.get("settings"),
            generation: row.get("generation"),
            cycle: row.get("cycle"),
            position_limit: row.get("position_limit"),
        };
        books.of(&row).runs.insert(row.get("run"), run);
    }
    let sql = "SELECT campaign_id, command, run, request_id, happened_at, snapshot::text AS seen,
            details ->> 'person' AS person
        FROM audit_events ORDER BY campaign_id, event_number";
    for row in client.query(sql, &[]).await? {
        let audit = Audit {
            command: row.get("command"),
            run: row.get("run"),
            request_id: row.get("request_id"),
            person: row.get("person"),
            at: micros(&row, "happened_at"),
            seen: seen(&row),
        };
        books.of(&row).audits.push(audit);
    }
    let sql = "SELECT c.campaign_id, c.position, c.phone, s.created_at
        FROM contacts c LEFT JOIN suppressions s USING (phone) WHERE c.deleted_at IS NULL";
    for row in client.query(sql, &[]).await? {
        let phone: String = row.get("phone");
        let suppressed: Option<DateTime<Utc>> = row.get("created_at");
        let book = books.of(&row);
        if let Some(at) = suppressed {
            book.suppressed.insert(phone.clone(), at.timestamp_micros());
        }
        book.contacts.insert(row.get("position"), phone);
    }
    let sql = "SELECT a.campaign_id, a.position, a.phone, a.added_at, a.transaction, c.phone <> a.phone AS is_erased
        FROM chaos.contacts a JOIN contacts c USING (campaign_id, position)";
    for row in client.query(sql, &[]).await? {
        let added = Added {
            number: row.get("phone"),
            at: micros(&row, "added_at"),
            transaction: row.get::<_, &str>("transaction").parse()?,
        };
        let (position, book) = (row.get("position"), books.of(&row));
        if row.get("is_erased") {
            book.erased.insert(position);
        }
        book.added.insert(position, added);
    }
    Ok(())
}

async fn load_dispatch(client: &Client, books: &mut Books) -> Result<()> {
    let sql = "SELECT campaign_id, lease, run, authorized_at, transaction_id::text AS transaction,
            slot, position
        FROM authorizations, unnest(slots, positions) AS t(slot, position) ORDER BY authorized_at";
    for row in client.query(sql, &[]).await? {
        let attempt = Attempt {
            lease: row.get("lease"),
            slot: row.get("slot"),
            run: row.get("run"),
            position: row.get("position"),
            at: micros(&row, "authorized_at"),
            transaction: row.get::<_, &str>("transaction").parse()?,
        };
        books.of(&row).attempts.push(attempt);
    }
    let sql = "SELECT campaign_id, lease, expires_at, seen FROM chaos.leases";
    for row in client.query(sql, &[]).await? {
        let expires_at: Option<DateTime<Utc>> = row.get("expires_at");
        let expires_at = expires_at.map(|at| at.timestamp_micros());
        let note = LeaseNote { expires_at, seen: seen(&row) };
        books.of(&row).leases.entry(row.get("lease")).or_default().push(note);
    }
    Ok(())
}

async fn load_history(client: &Client, books: &mut Books) -> Result<()> {
    let sql = "SELECT campaign_id, lease, report, run, generation, recorded_at, calls
        FROM chaos.calls ORDER BY recorded_at, report";
    for row in client.query(sql, &[]).await? {
        let calls: Vec<u8> = row.get("calls");
        for call in calls.chunks_exact(32) {
            let ended = Ended {
                lease: row.get("lease"),
                slot: i32::from(u16::from_le_bytes([call[0], call[1]])),
                run: row.get("run"),
                position: i64::from_le_bytes(call[8..16].try_into()?),
                outcome: call[2],
                at: micros(&row, "recorded_at"),
            };
            books.of(&row).ends.push(ended);
        }
    }
    let sql =
        "SELECT campaign_id, position, interaction_id, kind, seconds, generation, run, lease, slot,
            recorded_at, seen FROM chaos.facts ORDER BY recorded_at";
    for row in client.query(sql, &[]).await? {
        let lease: Option<i64> = row.get("lease");
        let slot: Option<i32> = row.get("slot");
        let fact = Fact {
            position: row.get("position"),
            id: row.get("interaction_id"),
            kind: row.get("kind"),
            seconds: row.get("seconds"),
            generation: row.get("generation"),
            attempt: lease.zip(slot),
            at: micros(&row, "recorded_at"),
            seen: seen(&row),
        };
        books.of(&row).facts.push(fact);
    }
    let sql = "SELECT campaign_id, position, interaction_id FROM interactions";
    for row in client.query(sql, &[]).await? {
        books.of(&row).facts_kept.push((row.get("position"), row.get("interaction_id")));
    }
    Ok(())
}
