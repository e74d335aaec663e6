//! Verification of audit logs.

use crate::app::error::Result;
use crate::store::{Db, audit};
use campaign_domain::audit::{Finding, Head, Reading};
use uuid::Uuid;

/// Events read at once.
const PAGE_EVENTS: i64 = 1_000;
/// Campaigns listed at once.
const PAGE_CAMPAIGNS: i64 = 1_000;

/// Result of the verification of one campaign's log.
#[derive(Debug)]
pub struct Verified {
    pub campaign: Uuid,
    pub events: u64,
    /// Events from before there were hashes, which are not verified.
    pub without_hash: u64,
    /// Findings; empty if the log is intact.
    pub findings: Vec<Finding>,
    pub head: Option<Head>,
}

/// Verifies one campaign's log, as of one moment.
pub async fn verify(db: &Db, campaign: Uuid) -> Result<Verified> {
    let mut connection = db.connect().await?;
    let tx = connection.begin_snapshot().await?;
    let mut reading = Reading::default();
    let mut last = i64::MIN;
    loop {
        let page = audit::chain(&tx, campaign, last, PAGE_EVENTS).await?;
        let Some((event, _)) = page.last() else { break };
        last = event.number;
        page.iter().for_each(|(event, hash)| reading.take(event, *hash));
    }
    let (events, without_hash) = (reading.events, reading.without_hash);
    let (mut findings, head) = reading.end(audit::head(&tx, campaign).await?);
    // Every campaign has at least the event that created it.
    if events == 0 && findings.is_empty() {
        findings.push(Finding::Deleted(1, 1));
    }
    Ok(Verified { campaign, events, without_hash, findings, head })
}

/// Lists the next campaigns that have or should have a log, in order of id.
pub async fn next_campaigns(db: &Db, after: Uuid) -> Result<Vec<Uuid>> {
    let mut connection = db.connect().await?;
    let tx = connection.begin_snapshot().await?;
    Ok(audit::campaigns(&tx, after, PAGE_CAMPAIGNS).await?)
}
