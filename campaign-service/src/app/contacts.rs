//! Contacts one by one.

use super::error::{Error, Result};
use super::explaining::open_slot;
use super::leasing::next_attempt;
use super::{App, existing, present};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts::{self, Contact, NewContact};
use crate::store::notify::{self, ControlEvent};
use crate::store::{Durability, Gate, Tx, due, erasures, groups};
use tokio::try_join;
use uuid::Uuid;

/// Says why a contact's zone or priority cannot change now.
const FROZEN: &str = "time_zone and priority cannot change while a run is under way; \
                      change them when the campaign is completed or cancelled";

impl App {
    /// Adds a contact; one that was deleted comes back with its history.
    pub async fn create_contact(&self, id: Uuid, new: &NewContact) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let opening = connection.open(Gate::Exclusive(id), Durability::Durable).await?;
        let wanted = [(new.time_zone.clone(), new.priority)];
        // No import may add the number between the look and the insert.
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
                              RemoveSuppression lets the number in"
                        .to_owned(),
            });
        }
        let group = match group.first() {
            Some(group) => *group,
            None => group_of(&tx, id, new).await?,
        };
        let position = add(&tx, &campaign, new, group).await?;
        let contact = found(contacts::find(&tx, id, position).await?, id, position)?;
        notify::on_commit(&tx, ControlEvent::Work { campaign: id });
        tx.commit().await?;
        Ok(contact)
    }

    /// A contact.
    pub async fn get_contact(&self, id: Uuid, position: i64) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        existing_contact(&tx, id, position).await
    }

    /// Contacts in order of creation, from a position on.
    pub async fn list_contacts(&self, id: Uuid, from: i64, limit: i64) -> Result<Vec<Contact>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        Ok(contacts::list(&tx, id, from, limit).await?)
    }

    /// The positions of the contacts that have these numbers.
    pub async fn find_contacts(&self, id: Uuid, phones: &[String]) -> Result<Vec<(String, i64)>> {
        if phones.is_empty() {
            return Ok(Vec::new());
        }
        let phones: Vec<&str> = phones.iter().map(String::as_str).collect();
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let found = contacts::find_by_phones(&tx, id, &phones).await?;
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
        // A run numbers its way through each group; a contact that changes groups could be met twice.
        if moves && campaign.state.is_active() {
            return Err(Error::Precondition {
                reason: "CAMPAIGN_ACTIVE",
                subject: "update_mask".to_owned(),
                description: FROZEN.to_owned(),
            });
        }
        let group = group_of(&tx, id, &after).await?;
        contacts::update(&tx, id, position, &after, group).await?;
        campaigns::bump_revision(&tx, id).await?;
        let contact = existing_contact(&tx, id, position).await?;
        tx.commit().await?;
        Ok(contact)
    }

    /// Deletes a contact; its number and refusal are kept.
    pub async fn delete_contact(&self, id: Uuid, position: i64) -> Result<Contact> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        existing(&tx, id).await?;
        let contact = existing_contact(&tx, id, position).await?;
        contacts::mark_deleted(&tx, id, position).await?;
        due::remove(&tx, id, &[position]).await?;
        campaigns::count_contacts(&tx, id, -1).await?;
        campaigns::bump_revision(&tx, id).await?;
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

/// Adds a contact, or brings it back if it was deleted; returns its position. The gate must be held alone
/// and the positions locked.
pub(super) async fn add(
    tx: &Tx<'_>,
    campaign: &Campaign,
    new: &NewContact,
    group: i32,
) -> Result<i64> {
    let id = campaign.id;
    match contacts::find_by_phones(tx, id, &[&new.phone]).await?.first() {
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

/// Brings a deleted contact back, into the run under way too. The gate must be held alone.
pub(super) async fn revive(
    tx: &Tx<'_>,
    campaign: &Campaign,
    position: i64,
    contact: &NewContact,
    group: i32,
) -> Result<()> {
    // A worker that still holds it would hold it twice.
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
    campaigns::bump_revision(tx, campaign.id).await?;
    come_back(tx, campaign, position).await
}

/// Lets a contact that the run may have passed wait again, if there is anything to wait for. The gate
/// must be held alone.
pub(super) async fn come_back(tx: &Tx<'_>, campaign: &Campaign, position: i64) -> Result<()> {
    for subject in contacts::subjects(tx, campaign.id, &[position]).await? {
        if let Some(due_at) = next_attempt(&campaign.rules(), &subject, tx.now) {
            due::put_if_passed(tx, campaign.id, campaign.run, position, due_at).await?;
        }
    }
    Ok(())
}
