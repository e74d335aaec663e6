//! Contacts and the run under way: who holds a contact, and how it returns to its run.

use super::error::Result;
use crate::store::contacts::{self, Subject};
use crate::store::due::{self, Due};
use crate::store::leases::{self, Lease};
use crate::store::{Tx, campaigns};
use campaign_domain::Instant;
use campaign_domain::campaign::Campaign;
use campaign_domain::eligibility::RunRules;
use campaign_domain::lease::Slot;

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

/// Lets a contact that the run may have passed wait again, if there is anything to wait for. The
/// caller must hold the gate exclusively.
pub(super) async fn come_back(tx: &Tx<'_>, campaign: &Campaign, position: i64) -> Result<()> {
    for subject in contacts::subjects(tx, campaign.id, &[position]).await? {
        if let Some(due_at) = next_attempt(&campaign.rules(), &subject, tx.now) {
            due::put_if_passed(tx, campaign.id, campaign.run, position, due_at).await?;
        }
    }
    Ok(())
}

/// Returns the slot that holds a contact: in a call under any run, or leased in the current run.
pub(super) async fn open_slot(
    tx: &Tx<'_>,
    campaign: &Campaign,
    position: i64,
) -> Result<Option<Slot>> {
    let mut found = None;
    for lease in leases::holding(tx, campaign.id, position).await? {
        let index = lease.positions.iter().position(|held| *held == position);
        match index.and_then(|index| lease.slots.get(index)) {
            Some(Slot::Authorized) => return Ok(Some(Slot::Authorized)),
            Some(Slot::Leased) if lease.run == campaign.run => found = Some(Slot::Leased),
            _ => {}
        }
    }
    Ok(found)
}
