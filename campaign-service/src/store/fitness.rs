//! Checks of whether a database meets the service's needs, with advice if a check fails.

use super::{Db, StoreError, StoreResult, migrations};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

/// Oldest version of PostgreSQL that the service supports, in the format of `server_version_num`.
const LEAST_VERSION: i64 = 140_000;
/// Number of statements sent to test whether a session stays on one backend.
const SESSION_TRIES: usize = 3;
/// Longest wait for one statement. The network may drop packets, or a pool of backends have none
/// free.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The database meets the need.
    Good,
    /// The service works, but something is at risk.
    Risky,
    /// The service does not work now, but may soon.
    NotYet,
    /// The service does not work until somebody changes the database.
    Unfit,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// Text for people. Says what to do, unless the verdict is good.
    pub text: String,
}

fn finding(verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding { verdict, text: text.into() }
}

/// Checks everything that can be checked before the schema exists.
pub async fn check_server(db: &Db) -> StoreResult<Vec<Finding>> {
    let (client, _) = db.open().await?;
    let version: i64 = number(&setting(&client, "server_version_num").await?);
    if version < LEAST_VERSION {
        let text = format!(
            "PostgreSQL {} is too old; 14 is the oldest that works: upgrade it",
            version / 10_000
        );
        return Ok(vec![finding(Verdict::Unfit, text)]);
    }
    let mut findings = vec![finding(Verdict::Good, format!("PostgreSQL {}", version / 10_000))];
    let encoding = one(&client, "SELECT getdatabaseencoding()").await?;
    findings.push(match encoding.as_str() {
        "UTF8" => finding(Verdict::Good, "the database is in UTF8"),
        other => finding(
            Verdict::Unfit,
            format!(
                "the database is in {other}, which cannot hold every name; make one with \
                 CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            ),
        ),
    });
    findings.push(check_session(db, &client).await?);
    findings.extend(check_settings(&client).await?);
    Ok(findings)
}

/// Checks the server, the schema, and whether the database accepts writes.
pub async fn check(db: &Db) -> StoreResult<Vec<Finding>> {
    let mut findings = check_server(db).await?;
    if findings.iter().any(|finding| finding.verdict == Verdict::Unfit) {
        return Ok(findings);
    }
    findings.push(match db.ping().await {
        Ok(()) => finding(Verdict::Good, "the database accepts writes"),
        Err(StoreError::OnlyReads) => finding(Verdict::NotYet, StoreError::OnlyReads.to_string()),
        Err(error) => return Err(error),
    });
    findings.push(check_schema(db).await?);
    Ok(findings)
}

async fn check_schema(db: &Db) -> StoreResult<Finding> {
    if migrations::is_current(db).await? {
        return Ok(finding(Verdict::Good, "the schema has all that this version needs"));
    }
    Ok(match migrations::out_of_path(db).await?.first() {
        None => finding(
            Verdict::NotYet,
            "the database schema is too old; run `campaign-service migrate`",
        ),
        Some(schema) => finding(
            Verdict::NotYet,
            format!(
                "the tables are in the schema {schema}, which search_path does not name; add \
                 search_path={schema} to DATABASE_URL"
            ),
        ),
    })
}

/// Checks the settings that a session cannot correct by itself. Returns the wrong ones, or one good
/// finding if all are right.
async fn check_settings(client: &Client) -> StoreResult<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, wanted, verdict, text) in [
        (
            "session_replication_role",
            "origin",
            Verdict::Unfit,
            "session_replication_role is not origin, so the audit log is not protected; \
             ALTER ROLE … RESET session_replication_role (and ALTER DATABASE … RESET …)",
        ),
        (
            "default_transaction_isolation",
            "read committed",
            Verdict::Unfit,
            "the session does not keep the settings that the service gives it; connect without the pool in between",
        ),
        (
            "fsync",
            "on",
            Verdict::Risky,
            "fsync is off: a crash of the machine may lose what was acknowledged, and the database; turn it on",
        ),
        (
            "full_page_writes",
            "on",
            Verdict::Risky,
            "full_page_writes is off: a crash of the machine may damage the database; turn it on",
        ),
        (
            "zero_damaged_pages",
            "off",
            Verdict::Risky,
            "zero_damaged_pages is on: damaged rows are dropped silently; turn it off",
        ),
        (
            "ignore_checksum_failure",
            "off",
            Verdict::Risky,
            "ignore_checksum_failure is on: damaged rows are read as valid; turn it off",
        ),
    ] {
        if setting(client, name).await? != wanted {
            findings.push(finding(verdict, text));
        }
    }
    let durable = setting(client, "synchronous_commit").await?;
    if durable != "on" && durable != "remote_apply" {
        findings.push(finding(
            Verdict::Unfit,
            "synchronous_commit cannot be turned on, so that a crash may lose what was acknowledged; \
             ALTER ROLE … SET synchronous_commit = on",
        ));
    }
    if findings.is_empty() {
        findings.push(finding(Verdict::Good, "settings keep what is acknowledged"));
    }
    Ok(findings)
}

/// Checks whether a session keeps its backend. A transaction pool (PgBouncer with
/// `pool_mode=transaction`) gives each transaction another backend. Such a pool loses notices,
/// settings and prepared statements, and two sessions share the settings of one.
async fn check_session(db: &Db, client: &Client) -> StoreResult<Finding> {
    let (other, _) = db.open().await?;
    let mark = Uuid::new_v4().simple().to_string();
    let set = format!("SELECT set_config('campaign_service.session', '{mark}', false)");
    let look = "SELECT pg_backend_pid() || ' ' || COALESCE(current_setting('campaign_service.session', true), '')";
    one(client, &set).await?;
    let first = one(client, look).await?;
    // If one session sees what the other has set, both take turns on one backend.
    let mut is_shared = one(&other, look).await?.ends_with(&mark);
    for _ in 0..SESSION_TRIES {
        if is_shared {
            break;
        }
        // While the other session's transaction is open, that session owns its backend. Our session
        // must then be on the same backend as before.
        let theirs = match one(&other, &format!("BEGIN; {look}")).await {
            Ok(theirs) => theirs,
            // A pool that gives each statement another backend has no transactions.
            Err(error) if error.said().is_some() => mark.clone(),
            Err(error) => return Err(error),
        };
        let ours = one(client, look).await?;
        is_shared = theirs.ends_with(&mark) || ours != first;
        one(&other, "ROLLBACK; SELECT ''").await?;
    }
    Ok(if is_shared {
        finding(
            Verdict::Unfit,
            "between here and PostgreSQL is a pool that changes backends within a session (PgBouncer with \
             pool_mode=transaction or statement): stops would be missed; set pool_mode=session for this \
             database, or connect to PostgreSQL itself",
        )
    } else {
        finding(Verdict::Good, "a session keeps its backend")
    })
}

async fn setting(client: &Client, name: &str) -> StoreResult<String> {
    one(client, &format!("SELECT current_setting('{name}')")).await
}

/// Returns the one value that `sql` finds. Prepares no statement, because a pool may not keep
/// prepared statements.
async fn one(client: &Client, sql: &str) -> StoreResult<String> {
    let answers = timeout(ANSWER_LIMIT, client.simple_query(sql)).await;
    let answers = answers.map_err(|_| StoreError::Silent)??;
    let found = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(found.unwrap_or_default().to_owned())
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}
