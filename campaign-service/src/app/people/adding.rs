//! Addition of contacts to campaigns: new contacts, and deleted ones that come back.

use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::app::returning::{come_back, open_slot};
use crate::store::contacts::{self, NewContact};
use crate::store::{StoreResult, Tx, campaigns, gates};
use campaign_domain::campaign::Campaign;
use campaign_domain::subscriber::all_spellings;
use uuid::Uuid;

/// Finds the contacts that have some numbers in any spelling. Returns number, position, and whether
/// deleted.
pub(super) async fn find_in_any_spelling(
    tx: &Tx<'_>,
    id: Uuid,
    phones: &[&str],
) -> StoreResult<Vec<(String, i64, bool)>> {
    let spelled = all_spellings(phones.iter().copied());
    let spelled: Vec<&str> = spelled.iter().map(String::as_str).collect();
    contacts::find_by_phones(tx, id, &spelled).await
}

/// Adds a contact, or brings it back if it was deleted. Returns its position. The caller must have
/// the positions locked.
pub(super) async fn add(
    tx: &Tx<'_>,
    campaign: &Campaign,
    new: &NewContact,
    group: i32,
) -> Result<i64> {
    let id = campaign.id;
    let mut found = find_in_any_spelling(tx, id, &[&new.phone]).await?;
    // If two spellings are found, the contact that is not deleted comes first.
    found.sort_by_key(|(_, _, is_deleted)| *is_deleted);
    match found.first() {
        None => Ok(contacts::insert_one(tx, id, new, group).await?),
        Some((_, position, true)) => {
            // A contact that comes back may be in the run under way.
            gates::pass(tx, &[id]).await?;
            let campaign = &existing(tx, id).await?;
            revive(tx, campaign, *position, new, group).await?;
            Ok(*position)
        }
        Some((_, position, false)) => {
            Err(Error::AlreadyExists(format!("campaigns/{id}/contacts/{position}")))
        }
    }
}

/// Brings a deleted contact back, into the run under way too. The caller must hold the gate
/// exclusively.
pub(super) async fn revive(
    tx: &Tx<'_>,
    campaign: &Campaign,
    position: i64,
    contact: &NewContact,
    group: i32,
) -> Result<()> {
    // A worker that still holds the contact would hold it twice.
    if open_slot(tx, campaign, position).await?.is_some() {
        return Err(Error::Precondition {
            reason: "CONTACT_HELD",
            subject: format!("campaigns/{}/contacts/{position}", campaign.id),
            description: "a worker still holds the contact deleted just now; try again in a minute"
                .to_owned(),
        });
    }
    contacts::update(tx, campaign.id, position, contact, group).await?;
    campaigns::count_contacts(tx, campaign.id, 1).await?;
    campaigns::bump_facts_revision(tx, campaign.id).await?;
    come_back(tx, campaign, position).await
}
