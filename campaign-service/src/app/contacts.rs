//! Use cases on single contacts.

use super::error::{Error, Result};
use super::explaining::open_slot;
use super::releasing::next_attempt;
use super::{App, existing, present};
use crate::store::campaigns;
use crate::store::contacts::{self, Contact, NewContact};
use crate::store::leases::{self, Lease};
use crate::store::notify::ControlEvent;
use crate::store::{Durability, Gate, StoreResult, Tx, due, erasures, groups, states};
use campaign_domain::campaign::Campaign;
use campaign_domain::lease::Slot;
use campaign_domain::subscriber::all_spellings;
use tokio::try_join;
use uuid::Uuid;

impl App {
    /// Adds a contact. A deleted contact comes back with its history.
    pub async fn create_contact(&self, id: Uuid, new: &NewContact) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let opening = connection.open(Gate::Exclusive(id), Durability::Durable).await?;
        let wanted = [(new.time_zone.clone(), new.priority)];
        // No import may add the number between the look-up and the insert.
        let (now, campaign, group, (), keys) = try_join!(
            biased;
            opening.pass(),
            campaigns::find(&opening, id),
            groups::find(&opening, id, &wanted),
            campaigns::lock_positions(&opening, id),
            erasures::key_ids(&opening),
        )?;
        let tx = opening.at(now);
        let campaign = present(campaign, id)?;
        if !self.erased_among(&tx, &keys, &campaign.tenant, &[&new.phone]).await?.is_empty() {
            return Err(Error::Precondition {
                reason: "PERSON_ERASED",
                subject: "contact.phone_number".to_owned(),
                description:
                    "the number is of a person who was erased; if they want to hear of you again, \
                              RemoveSuppression re-admits the number"
                        .to_owned(),
            });
        }
        let group = match group.first() {
            Some(group) => *group,
            None => group_of(&tx, id, new).await?,
        };
        let position = add(&tx, &campaign, new, group).await?;
        let contact = found(contacts::find(&tx, id, position).await?, id, position)?;
        tx.notify_on_commit(ControlEvent::Work { campaign: id });
        tx.commit().await?;
        Ok(contact)
    }

    /// Returns a contact.
    pub async fn get_contact(&self, id: Uuid, position: i64) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        existing_contact(&tx, id, position).await
    }

    /// Lists contacts in order of creation, from a position on.
    pub async fn list_contacts(&self, id: Uuid, from: i64, limit: i64) -> Result<Vec<Contact>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        Ok(contacts::list(&tx, id, from, limit).await?)
    }

    /// Finds the contacts that have these numbers in any spelling. Returns each contact's own
    /// number and its position.
    pub async fn find_contacts(&self, id: Uuid, phones: &[String]) -> Result<Vec<(String, i64)>> {
        if phones.is_empty() {
            return Ok(Vec::new());
        }
        let phones: Vec<&str> = phones.iter().map(String::as_str).collect();
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let found = find_in_any_spelling(&tx, id, &phones).await?;
        Ok(found.into_iter().map(|(phone, position, _)| (phone, position)).collect())
    }

    /// Changes a contact with `edit`.
    pub async fn update_contact(
        &self,
        id: Uuid,
        position: i64,
        edit: impl FnOnce(&mut NewContact),
    ) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let campaign = existing(&tx, id).await?;
        let before = existing_contact(&tx, id, position).await?;
        let mut after = NewContact {
            phone: before.phone,
            display_name: before.display_name,
            time_zone: before.time_zone.clone(),
            priority: before.priority,
            attributes: before.attributes,
        };
        edit(&mut after);
        let moves = after.time_zone != before.time_zone || after.priority != before.priority;
        let group = group_of(&tx, id, &after).await?;
        let is_in_run = moves && campaign.state.is_active();
        let is_in_call = is_in_run && leave_group(&tx, &campaign, position).await?;
        contacts::update(&tx, id, position, &after, group).await?;
        if is_in_run && !is_in_call {
            come_back(&tx, &campaign, position).await?;
        }
        campaigns::bump_facts_revision(&tx, id).await?;
        let contact = existing_contact(&tx, id, position).await?;
        tx.commit().await?;
        Ok(contact)
    }

    /// Deletes a contact. Its number and opt-out are kept.
    pub async fn delete_contact(&self, id: Uuid, position: i64) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        existing(&tx, id).await?;
        let contact = existing_contact(&tx, id, position).await?;
        contacts::mark_deleted(&tx, id, position).await?;
        due::remove(&tx, id, &[position]).await?;
        campaigns::count_contacts(&tx, id, -1).await?;
        campaigns::bump_facts_revision(&tx, id).await?;
        tx.commit().await?;
        Ok(contact)
    }
}

async fn existing_contact(tx: &Tx<'_>, id: Uuid, position: i64) -> Result<Contact> {
    found(contacts::find(tx, id, position).await?, id, position)
}

fn found(contact: Option<Contact>, id: Uuid, position: i64) -> Result<Contact> {
    contact.ok_or_else(|| Error::NotFound(format!("campaigns/{id}/contacts/{position}")))
}

async fn group_of(tx: &Tx<'_>, id: Uuid, contact: &NewContact) -> Result<i32> {
    let wanted = [(contact.time_zone.clone(), contact.priority)];
    Ok(groups::ensure(tx, id, &wanted).await?[0])
}

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

/// Adds a contact, or brings it back if it was deleted. Returns its position. The caller must hold
/// the gate exclusively, and the positions locked.
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

/// Takes a contact out of the group in which the run under way finds it. Returns whether the
/// contact is in a call of the run. The caller must hold the gate exclusively.
///
/// A run walks each group by position, so in the new group the run may meet a contact that it met
/// before. No worker may hold the contact then. A worker that has not dialled the contact loses it,
/// and a call is recorded in the contact's state.
async fn leave_group(tx: &Tx<'_>, campaign: &Campaign, position: i64) -> Result<bool> {
    due::remove(tx, campaign.id, &[position]).await?;
    let mut is_in_call = false;
    let mut held = leases::lock_holding(tx, campaign.id, campaign.run, position).await?;
    for lease in &mut held {
        let Some(slot) = lease.positions.iter().position(|other| *other == position) else {
            continue;
        };
        is_in_call |= lease.slots.get(slot) == Some(Slot::Authorized);
        lease.slots.advance(slot, Slot::Closed);
    }
    let held: Vec<&Lease> = held.iter().collect();
    leases::save_slots(tx, campaign.id, &held).await?;
    if is_in_call {
        let mut states = states::lock(tx, campaign.id, [position]).await?;
        let state = states.get(position).in_call(campaign.epoch, tx.now);
        states.set(position, &state);
        states::save(tx, campaign.id, &states).await?;
    }
    Ok(is_in_call)
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
