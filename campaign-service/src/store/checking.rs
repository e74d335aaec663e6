//! Check of kept counts: every contact is read and counted, and differences are corrected.

use super::classes::{self, Count, Tally};
use super::counts::{deleted, suppressed, windows};
use super::packed::{ClassKey, Marks, NO_STATE};
use super::{StoreResult, Tx, campaigns, recounts, states};
use campaign_domain::Instant;
use std::collections::HashSet;
use uuid::Uuid;

/// Result of a check.
#[derive(Clone, Debug)]
pub struct Findings {
    checks: i32,
    was_kept: bool,
    /// Difference between every contact and the counts.
    missing: Tally,
    /// Contacts that are counted as deleted or suppressed without being so, or the other way round.
    wrong: Vec<i64>,
}

impl Findings {
    /// Returns how many counts are wrong that were thought to be right.
    #[must_use]
    pub fn mends(&self) -> usize {
        if self.was_kept { self.missing.iter().count() + self.wrong.len() } else { 0 }
    }
}

/// Counts every contact of a campaign and compares. The transaction must read one snapshot
/// throughout.
pub async fn check(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Findings> {
    let (checks, was_kept) = classes::checks(tx, campaign).await?;
    let noted = recounts::noted(tx, campaign).await?;
    let (mut missing, mut wrong) = (Tally::new(tx.now), Vec::new());
    let zero = ClassKey::of(&NO_STATE);
    let end = campaigns::counters(tx, campaign).await?.next_position;
    for window in windows(end) {
        let states = states::in_range(tx, campaign, window.clone()).await?;
        let deleted = deleted(tx, campaign, &window).await?;
        let suppressed = suppressed(tx, campaign, &window).await?;
        let mut special: HashSet<i64> = deleted.union(&suppressed).copied().collect();
        for (position, packed) in states.all_packed().filter(|(at, _)| window.contains(at)) {
            missing.add(packed, 1);
            missing.add_count(zero, 0, Count { contacts: -1, attempts: 0 });
            special.insert(position);
        }
        wrong.extend(special.into_iter().filter(|position| {
            let is_deleted = deleted.contains(position);
            let is_suppressed = suppressed.contains(position);
            let counted = Marks::of(&states.packed(*position));
            counted != Marks { is_deleted, is_suppressed } && !noted.contains_key(position)
        }));
    }
    missing.subtract(&classes::all(tx, campaign).await?);
    missing.join_attempts();
    wrong.sort_unstable();
    Ok(Findings { checks, was_kept, missing, wrong })
}

/// Corrects what a check found wrong. From then on the counts are right, because whatever changed
/// contacts since the check has counted its changes. Returns whether it was done: if another check
/// was done meanwhile, its corrections hold.
pub async fn mend(tx: &Tx<'_>, campaign: Uuid, findings: &Findings) -> StoreResult<bool> {
    let lock = "INSERT INTO class_checks AS k (campaign_id, checks, checked_at) VALUES ($1, 1, $3)
        ON CONFLICT (campaign_id) DO UPDATE SET checks = k.checks + 1, checked_at = excluded.checked_at
            WHERE k.checks = $2";
    if tx.execute(lock, &[&campaign, &findings.checks, &tx.now]).await? == 0 {
        return Ok(false);
    }
    if findings.missing.iter().next().is_some() {
        let sum_waits = "UPDATE class_counts c SET waiting = (
                SELECT coalesce(sum(contacts), 0) FROM class_waits
                WHERE campaign_id = $1 AND class = c.class)
            WHERE campaign_id = $1";
        tx.execute(sum_waits, &[&campaign]).await?;
    }
    recounts::note_wrong(tx, campaign, &findings.wrong).await?;
    classes::append(tx, campaign, &findings.missing).await?;
    Ok(true)
}

/// Returns a campaign whose counts are to be checked: the check that is longest ago was before
/// `changed` and changes were added up since, or it was before `unchanged`.
pub async fn next(tx: &Tx<'_>, changed: Instant, unchanged: Instant) -> StoreResult<Option<Uuid>> {
    let sql = "SELECT campaign_id FROM class_checks
        WHERE checked_at < $1 AND (folded_at > checked_at OR checked_at < $2)
        ORDER BY checked_at LIMIT 1";
    Ok(tx.query_opt(sql, &[&changed, &unchanged]).await?.map(|row| row.get(0)))
}
