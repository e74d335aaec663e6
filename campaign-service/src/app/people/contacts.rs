//! Use cases on single contacts.

use super::adding::{add, find_in_any_spelling};
use super::erased::Erased;
use crate::app::error::{Error, Result};
use crate::app::returning::come_back;
use crate::app::{DispatchLimits, existing, present};
use crate::store::contacts::{self, Contact, NewContact};
use crate::store::leases::{self, Lease};
use crate::store::notify::ControlEvent;
use crate::store::{Db, Durability, Gate, Tx, agenda, campaigns, due, erasures, groups, states};
use campaign_domain::campaign::Campaign;
use campaign_domain::lease::Slot;
use tokio::try_join;
use uuid::Uuid;

/// Use cases on the contacts of a campaign.
#[derive(Clone, Debug)]
pub struct Contacts {
    pub db: Db,
    pub limits: DispatchLimits,
    pub erased: Erased,
}

impl Contacts {
    /// Adds a contact. A deleted contact comes back with its history.
    pub async fn create(&self, id: Uuid, new: &NewContact) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        // No import may add the number between the look-up and the insert.
        let opening = connection.open(Gate::Adding(id), Durability::Durable).await?;
        let wanted = [(new.time_zone.clone(), new.priority)];
        let (now, campaign, group, keys) = try_join!(
            biased;
            opening.pass(),
            campaigns::find(&opening, id),
            groups::find(&opening, id, &wanted),
            erasures::key_ids(&opening),
        )?;
        let tx = opening.at(now);
        let campaign = present(campaign, id)?;
        if !self.erased.among(&tx, &keys, &campaign.tenant, &[&new.phone]).await?.is_empty() {
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
        agenda::wake(&tx, id, tx.now).await?;
        tx.notify_on_commit(ControlEvent::Work { campaign: id });
        tx.commit().await?;
        Ok(contact)
    }

    /// Returns a contact.
    pub async fn get(&self, id: Uuid, position: i64) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        existing_contact(&tx, id, position).await
    }

    /// Lists contacts in order of creation, from a position on.
    pub async fn list(&self, id: Uuid, from: i64, limit: i64) -> Result<Vec<Contact>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        Ok(contacts::list(&tx, id, from, limit).await?)
    }

    /// Finds the contacts that have these numbers in any spelling. Returns each contact's own
    /// number and its position.
    pub async fn find(&self, id: Uuid, phones: &[String]) -> Result<Vec<(String, i64)>> {
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
    pub async fn update(
        &self,
        id: Uuid,
        position: i64,
        edit: impl FnOnce(&mut NewContact),
    ) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::ExclusiveAdding(id)).await?;
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
    pub async fn delete(&self, id: Uuid, position: i64) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::ExclusiveAdding(id)).await?;
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
