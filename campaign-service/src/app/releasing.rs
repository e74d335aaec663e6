//! Contacts that a worker gives back, and when they may be engaged again.

use super::batch::LeaseKey;
use super::error::Result;
use crate::store::contacts::{self, Subject};
use crate::store::due::{self, Due};
use crate::store::leases::{self, Lease};
use crate::store::{Tx, campaigns};
use campaign_domain::Instant;
use campaign_domain::eligibility::RunRules;
use campaign_domain::lease::Slot;

/// Locks the lease that a key names, and returns it if the key is right and the lease has not
/// expired.
pub(super) async fn lock_held(tx: &Tx<'_>, key: LeaseKey) -> Result<Option<Lease>> {
    let lease = leases::lock(tx, key.campaign, &[key.number]).await?.pop();
    Ok(lease.filter(|lease| lease.token == key.token && lease.terms().is_in_force(tx.now)))
}

/// Closes slots that nobody dialled, and makes their contacts due again. Returns how many slots
/// were closed.
pub(super) async fn give_back(tx: &Tx<'_>, lease: &mut Lease, slots: &[usize]) -> Result<usize> {
    let closed: Vec<i64> = slots
        .iter()
        .filter(|slot| lease.slots.advance(**slot, Slot::Closed))
        .map(|slot| lease.positions[*slot])
        .collect();
    let campaign = campaigns::find(tx, lease.campaign).await?;
    // A newer run finds its contacts by its own frontier.
    let Some(campaign) = campaign.filter(|campaign| campaign.run == lease.run) else {
        return Ok(closed.len());
    };
    let rules = campaign.rules();
    let mut due = Vec::with_capacity(closed.len());
    for subject in contacts::subjects(tx, lease.campaign, &closed).await? {
        if let Some(due_at) = next_attempt(&rules, &subject, tx.now) {
            due.push(Due { position: subject.candidate.position, group: subject.group, due_at });
        }
    }
    due::put(tx, lease.campaign, lease.run, &due).await?;
    Ok(closed.len())
}

/// Returns when a contact may be engaged, or `None` if it is no longer to be engaged.
pub(super) fn next_attempt(rules: &RunRules, subject: &Subject, now: Instant) -> Option<Instant> {
    if subject.is_deleted { None } else { rules.next_attempt(&subject.candidate, now) }
}
