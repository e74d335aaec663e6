//! Erasure of a person. Everything known of a number is deleted, in all campaigns that the caller's
//! suppressions hold for. A keyed hash of the number stays, so that no list brings the number back.
//!
//! The number is suppressed first, together with the record that it is to be erased. The number
//! leaves the list only when it is gone everywhere. So nobody is called between two steps, and any
//! replica that finds the record continues the erasure.

use super::App;
use super::error::{Error, Result};
use super::suppressing;
use crate::eraser::{Eraser, KeyId, PersonHash};
use crate::store::audit::{self, Entry};
use crate::store::campaigns;
use crate::store::erasures::{self, Erasure, Noted};
use crate::store::suppressions::{self, Suppression};
use crate::store::{Db, Gate, Tx, contacts, due, interactions, leases, states};
use campaign_domain::access::Tenant;
use campaign_domain::campaign::Campaign;
use campaign_domain::phone;
use campaign_domain::subscriber::{all_spellings, spellings};
use chrono::TimeDelta;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Source of suppressions that stand for an erasure.
const SOURCE: &str = "erased";
/// Campaigns looked up at once.
const PAGE_CAMPAIGNS: i64 = 1_000;
/// Most erasures that a chore finishes in one round.
const MAX_UNFINISHED: i64 = 100;
/// Campaigns in one page whose logs are to record a re-admission.
const TOLD_CAMPAIGNS: i64 = 1_000;

/// Result of an erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Contacts that were erased, at most one in each campaign for each spelling.
    pub contacts: i64,
    pub interactions: i64,
    /// Campaigns that were searched, deleted ones too.
    pub campaigns: i64,
}

impl App {
    /// Erases the person with a number, in E.164. After the return, nothing of the person is left.
    pub async fn erase_person(
        &self,
        tenant: &Tenant,
        phone: &str,
        actor: &str,
        reason: &str,
    ) -> Result<Erased> {
        let Some(eraser) = &self.eraser else {
            return Err(Error::Precondition {
                reason: "ERASURE_KEY_NOT_SET",
                subject: "--erasure-key-file".to_owned(),
                description:
                    "nobody can be erased without a key for the hashes that are kept: start every \
                              replica of the service with --erasure-key-file"
                        .to_owned(),
            });
        };
        let mut all = Erased::default();
        for erasure in self.begin_erasures(eraser, tenant, phone, (actor, reason)).await? {
            let erased = self.finish_erasure(&erasure).await?;
            all.contacts += erased.contacts;
            all.interactions += erased.interactions;
            all.campaigns = erased.campaigns;
        }
        Ok(all)
    }

    /// Records the erasure of a number in all its spellings, or in none. From then on the erasure
    /// will be finished, by this replica or another.
    async fn begin_erasures(
        &self,
        eraser: &Eraser,
        tenant: &Tenant,
        phone: &str,
        (actor, reason): (&str, &str),
    ) -> Result<Vec<Erasure>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if !erasures::key_ids(&tx).await?.contains(&eraser.key_id()) {
            erasures::pin_key(&tx, &eraser.key_id()).await?;
        }
        known_keys(Some(eraser), &erasures::key_ids(&tx).await?)?;
        // The list comes before the record, in the same order as when a number is taken off the
        // list.
        let phones = all_spellings([phone]);
        for phone in &phones {
            suppressions::put(&tx, tenant, phone, SOURCE).await?;
        }
        suppressing::tell(&tx, tenant, &phones).await?;
        let mut begun = Vec::with_capacity(phones.len());
        for phone in phones {
            let mut erasure = Erasure {
                tenant: tenant.clone(),
                hash: eraser.hash(&phone),
                phone,
                actor: actor.to_owned(),
                reason: reason.to_owned(),
                noted_at: tx.now,
            };
            erasure.noted_at = erasures::begin(&tx, &erasure).await?;
            begun.push(erasure);
        }
        tx.commit().await?;
        Ok(begun)
    }

    /// Finishes an erasure that was begun, however much of it was done before. If others have
    /// finished the erasure and re-admitted the person, nothing more is done.
    pub async fn finish_erasure(&self, erasure: &Erasure) -> Result<Erased> {
        let reach = erasure.tenant.suppresses();
        self.take_back(&reach, std::slice::from_ref(&erasure.phone)).await?;
        let (mut erased, mut last) = (Erased::default(), Uuid::nil());
        loop {
            let mut connection = self.db.connect().await?;
            let tx = connection.begin(Gate::Open).await?;
            let page = campaigns::ids_after(&tx, &reach, last, PAGE_CAMPAIGNS).await?;
            drop(tx);
            drop(connection);
            let Some(end) = page.last() else { break };
            last = *end;
            for id in page {
                erased.campaigns += 1;
                if let Some(interactions) = self.erase_in(id, erasure).await? {
                    erased.contacts += 1;
                    erased.interactions += interactions;
                }
            }
        }
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if erasures::finish(&tx, erasure).await? {
            tx.commit().await?;
        }
        Ok(erased)
    }

    /// Erases a person in one campaign, deleted or not. Returns how many interactions were deleted,
    /// or `None` if the person was no contact there.
    pub async fn erase_in(&self, id: Uuid, erasure: &Erasure) -> Result<Option<i64>> {
        let phones = [erasure.phone.as_str()];
        let mut connection = self.db.connect().await?;
        // A transaction that is adding contacts now has not seen the record of the erasure, and the
        // lock waits for it. Later transactions see the record.
        let tx = connection.begin(Gate::Open).await?;
        campaigns::lock_positions(&tx, id).await?;
        if contacts::find_by_phones(&tx, id, &phones).await?.is_empty() {
            return Ok(None);
        }
        drop(tx);
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        campaigns::lock_positions(&tx, id).await?;
        let found = contacts::find_by_phones(&tx, id, &phones).await?.into_iter().next();
        let Some((_, position, is_deleted)) = found else { return Ok(None) };
        // A person who was re-admitted since is not erased. While the positions are locked, nobody
        // adds the contact.
        if !erasures::is_under_way(&tx, erasure).await? {
            return Ok(None);
        }
        let Some(campaign) = campaigns::find(&tx, id).await? else { return Ok(None) };
        let interactions = erase_contact(&tx, id, position, &erasure.phone).await?;
        if !is_deleted {
            campaigns::count_contacts(&tx, id, -1).await?;
        }
        campaigns::bump_facts_revision(&tx, id).await?;
        let person = erasure.hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        note(&tx, &campaign, "ERASE", &person, (&erasure.actor, &erasure.reason)).await?;
        tx.commit().await?;
        Ok(Some(interactions))
    }

    /// Finishes erasures that were begun longer than `patience` ago, and left. A failing erasure
    /// does not hold up the others.
    pub(super) async fn finish_erasures(&self, patience: TimeDelta) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let unfinished = erasures::under_way(&tx, tx.now - patience, MAX_UNFINISHED).await?;
        drop(tx);
        drop(connection);
        let mut result = Ok(());
        for erasure in unfinished {
            result = result.and(self.finish_erasure(&erasure).await.map(drop));
        }
        result
    }

    /// Returns which of these numbers, in E.164, a tenant's campaigns may not know. `keys` must be
    /// read in this transaction. A caller that adds contacts asks while their positions are locked.
    pub(super) async fn erased_among<'p>(
        &self,
        tx: &Tx<'_>,
        keys: &[KeyId],
        tenant: &Tenant,
        phones: &[&'p str],
    ) -> Result<HashSet<&'p str>> {
        let Some(eraser) = known_keys(self.eraser.as_ref(), keys)? else {
            return Ok(HashSet::new());
        };
        // A number counts as erased if any of its spellings was.
        let mut hashed: HashMap<PersonHash, Vec<&str>> = HashMap::new();
        for phone in phones {
            for hash in spellings(phone).iter().flat_map(|spelling| eraser.hashes(spelling)) {
                hashed.entry(hash).or_default().push(phone);
            }
        }
        let hashes: Vec<_> = hashed.keys().copied().collect();
        let found = erasures::find(tx, tenant, &hashes).await?;
        Ok(found.iter().filter_map(|hash| hashed.get(hash)).flatten().copied().collect())
    }

    /// Records hashes of numbers that were erased for everybody or for a tenant, so that the tenant
    /// does not know them. Returns the other numbers.
    pub(super) async fn hold_erased(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phones: &[String],
        source: &str,
    ) -> Result<Vec<String>> {
        let texts: Vec<&str> = phones.iter().map(String::as_str).collect();
        let erased = self.erased_among(tx, &erasures::key_ids(tx).await?, tenant, &texts).await?;
        if let (Some(eraser), false) = (&self.eraser, erased.is_empty()) {
            let hashes: Vec<_> = erased.iter().map(|phone| eraser.hash(phone)).collect();
            erasures::hold(tx, tenant, &hashes, source).await?;
        }
        Ok(phones.iter().filter(|phone| !erased.contains(phone.as_str())).cloned().collect())
    }

    /// Returns a tenant's erasure of a number, as an entry of its list.
    pub(super) async fn erased_entry(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phone: &str,
    ) -> Result<Option<Suppression>> {
        let noted = self.lock_erasure(tx, tenant, phone).await?;
        Ok(noted.map(|(_, noted)| as_entry(phone, &noted)))
    }

    /// Records the re-admission of an erased number in the log of each campaign that had it and may
    /// soon know it again. Runs before the re-admission, so that no re-admission goes unrecorded.
    /// If repeated, continues where it stopped.
    pub(super) async fn note_lifting(
        &self,
        tenant: &Tenant,
        phone: &str,
        actor: &str,
        reason: &str,
    ) -> Result<()> {
        let mut connection = self.db.connect().await?;
        loop {
            let tx = connection.begin(Gate::Open).await?;
            let Some((hashes, noted)) = self.lock_erasure(&tx, tenant, phone).await? else { break };
            refuse_under_way(&noted)?;
            let page = erasures::campaigns_to_tell(&tx, tenant, &hashes, TOLD_CAMPAIGNS).await?;
            drop(tx);
            if page.is_empty() {
                break;
            }
            for (id, person) in page {
                let tx = connection.begin(Gate::Exclusive(id)).await?;
                let Some(campaign) = campaigns::find(&tx, id).await? else { continue };
                note(&tx, &campaign, "LIFT_ERASURE", &person, (actor, reason)).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Re-admits an erased number for a tenant, and returns its former erasure as an entry. The
    /// caller must have taken the number off the list in the same transaction. If this fails, the
    /// caller must not commit.
    pub(super) async fn lift_erasure(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phone: &str,
    ) -> Result<Option<Suppression>> {
        let Some((hashes, noted)) = self.lock_erasure(tx, tenant, phone).await? else {
            return Ok(None);
        };
        refuse_under_way(&noted)?;
        erasures::delete(tx, tenant, &hashes).await?;
        Ok(Some(as_entry(phone, &noted)))
    }

    /// Locks a tenant's erasure of a number until commit, and returns it with the hashes of the
    /// number.
    async fn lock_erasure(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phone: &str,
    ) -> Result<Option<(Vec<PersonHash>, Noted)>> {
        let keys = erasures::key_ids(tx).await?;
        let Some(eraser) = known_keys(self.eraser.as_ref(), &keys)? else { return Ok(None) };
        let spellings = spellings(phone);
        let hashes: Vec<_> =
            spellings.iter().flat_map(|spelling| eraser.hashes(spelling)).collect();
        Ok(erasures::lock(tx, tenant, &hashes).await?.map(|noted| (hashes, noted)))
    }
}

fn refuse_under_way(noted: &Noted) -> Result<()> {
    if !noted.is_under_way {
        return Ok(());
    }
    Err(Error::Precondition {
        reason: "ERASURE_UNDER_WAY",
        subject: suppressing::ENTRY.to_owned(),
        description: "the person is being erased; try again in a minute".to_owned(),
    })
}

fn as_entry(phone: &str, noted: &Noted) -> Suppression {
    let (phone, source) = (phone.to_owned(), SOURCE.to_owned());
    Suppression { phone, source, created_at: noted.erased_at, is_wish: true }
}

/// Checks whether the service may run with these keys. With other keys or none, erased people would
/// come back.
pub async fn check_keys(db: &Db, eraser: Option<&Eraser>) -> Result<()> {
    let mut connection = db.connect().await?;
    let tx = connection.begin(Gate::Open).await?;
    known_keys(eraser, &erasures::key_ids(&tx).await?)?;
    Ok(())
}

/// Returns the eraser if it has all `pinned` keys, and so knows everybody who was erased. Returns
/// `None` if nobody was ever erased.
fn known_keys<'e>(eraser: Option<&'e Eraser>, pinned: &[KeyId]) -> Result<Option<&'e Eraser>> {
    if pinned.is_empty() {
        return Ok(None);
    }
    let knows_all = |eraser: &&Eraser| pinned.iter().all(|key_id| eraser.has_key(key_id));
    let Some(eraser) = eraser.filter(knows_all) else {
        return Err(Error::Precondition {
            reason: "ERASURE_KEY_WRONG",
            subject: "--erasure-key-file".to_owned(),
            description:
                "people were erased under another key, and would not be recognised: start the \
                          service with --erasure-key-file and every key that was ever used, the \
                          current one first"
                    .to_owned(),
        });
    };
    Ok(Some(eraser))
}

/// Erases everything of a contact except its position. Returns how many interactions were deleted.
/// The caller must hold the gate exclusively.
async fn erase_contact(tx: &Tx<'_>, id: Uuid, position: i64, phone: &str) -> Result<i64> {
    contacts::erase(tx, id, position).await?;
    let interactions = interactions::delete_of(tx, id, position).await?;
    let mut states = states::lock(tx, id, [position]).await?;
    let left = states.get(position).erased(tx.now);
    states.set(position, &left);
    states::save(tx, id, &states).await?;
    leases::forget_number(tx, id, position, phone::as_integer(phone)).await?;
    due::remove(tx, id, &[position]).await?;
    Ok(interactions)
}

/// Writes an audit entry about a person. The log keeps a hash of the person, which says nothing
/// without the key.
async fn note(
    tx: &Tx<'_>,
    campaign: &Campaign,
    command: &str,
    person: &str,
    (actor, reason): (&str, &str),
) -> Result<()> {
    let entry = Entry {
        campaign: campaign.id,
        actor,
        reason,
        command,
        before: Some(campaign.state),
        after: Some(campaign.state),
        run: campaign.run,
        request_id: "",
        details: json!({ "person": person }),
    };
    audit::insert(tx, &entry).await?;
    Ok(())
}
