//! Erasure of a person. Everything known of a number is deleted, in all campaigns that the caller's
//! suppressions hold for. A keyed hash of the number stays, so that no list brings the number back.
//!
//! The number is suppressed first, together with the record that it is to be erased. The number
//! leaves the list only when it is gone everywhere. So nobody is called between two steps, and any
//! replica that finds the record continues the erasure.

use super::erased::{self, Erased};
use super::listing::put_erased;
use super::revoking::PendingRevocation;
use crate::app::error::{Error, Result};
use crate::app::housekeeping::purge_step;
use crate::eraser::Eraser;
use crate::store::erasures::{self, Erasure};
use crate::store::{
    Db, Gate, Tx, calls, campaigns, contacts, due, interactions, leases, purge, revoking, states,
};
use campaign_domain::access::Tenant;
use campaign_domain::lease::SlotId;
use campaign_domain::phone;
use campaign_domain::subscriber::all_spellings;
use chrono::TimeDelta;
use uuid::Uuid;

/// Most erasures that a chore finishes in one round.
const MAX_UNFINISHED: i64 = 100;

/// Result of an erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasureSummary {
    /// Contacts that were erased, at most one in each campaign for each spelling.
    pub contacts: i64,
    pub interactions: i64,
    /// Campaigns that were searched, deleted ones too: all within reach.
    pub campaigns: i64,
}

/// Use cases of erasing people.
#[derive(Clone, Debug)]
pub struct Erasures {
    pub db: Db,
    pub erased: Erased,
}

impl Erasures {
    /// Erases the person with a number, in E.164. After the return, nothing of the person is left.
    pub async fn erase(
        &self,
        tenant: &Tenant,
        phone: &str,
        actor: &str,
        reason: &str,
    ) -> Result<ErasureSummary> {
        let Some(eraser) = self.erased.eraser() else {
            return Err(Error::Precondition {
                reason: "ERASURE_KEY_NOT_SET",
                subject: "--erasure-key-file".to_owned(),
                description:
                    "nobody can be erased without a key for the hashes that are kept: start every \
                              replica of the service with --erasure-key-file"
                        .to_owned(),
            });
        };
        let mut all = ErasureSummary::default();
        for erasure in self.begin(eraser, tenant, phone, (actor, reason)).await? {
            let erased = self.finish(erasure).await?;
            all.contacts += erased.contacts;
            all.interactions += erased.interactions;
            all.campaigns = erased.campaigns;
        }
        Ok(all)
    }

    /// Records the erasure of a number in all its spellings, or in none. From then on the erasure
    /// will be finished, by this replica or another.
    async fn begin(
        &self,
        eraser: &Eraser,
        tenant: &Tenant,
        phone: &str,
        (actor, reason): (&str, &str),
    ) -> Result<Vec<PendingRevocation<Erasure>>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if !erasures::key_ids(&tx).await?.contains(&eraser.key_id()) {
            erasures::pin_key(&tx, &eraser.key_id()).await?;
        }
        self.erased.known(&erasures::key_ids(&tx).await?)?;
        let people = all_spellings([phone]).into_iter().map(|phone| Erasure {
            tenant: tenant.clone(),
            hash: eraser.hash(&phone),
            phone,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            noted_at: tx.now,
        });
        let begun = put_erased(&tx, tenant, people.collect()).await?;
        tx.commit().await?;
        Ok(begun)
    }

    /// Finishes an erasure that was begun, however much of it was done before. If others have
    /// finished the erasure and re-admitted the person, nothing more is done.
    async fn finish(&self, begun: PendingRevocation<Erasure>) -> Result<ErasureSummary> {
        let erasure = begun.finish(&self.db).await?;
        let reach = erasure.tenant.suppresses();
        let mut erased = ErasureSummary::default();
        self.erase_found(&erasure, &mut erased).await?;
        self.await_additions().await?;
        self.erase_found(&erasure, &mut erased).await?;
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        erased.campaigns = campaigns::count(&tx, &reach).await?;
        if erasures::finish(&tx, &erasure).await? {
            tx.commit().await?;
        }
        Ok(erased)
    }

    /// Waits for the transactions that are adding contacts now. These may not have seen the record
    /// of the erasure, and their contacts are not found before their commit. A later transaction
    /// locks its campaign's positions before it reads the record, and so sees the record.
    async fn await_additions(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let adding = revoking::adding_now(&tx).await?;
        drop(tx);
        for id in adding {
            drop(connection.begin(Gate::Adding(id)).await?);
        }
        Ok(())
    }

    /// Erases a person in all campaigns in which the person is found, and adds to the summary.
    async fn erase_found(&self, erasure: &Erasure, erased: &mut ErasureSummary) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let reach = erasure.tenant.suppresses();
        let found = revoking::campaigns_with(&tx, &reach, &erasure.phone).await?;
        drop(tx);
        drop(connection);
        let mut result = Ok(());
        for id in found {
            match self.erase_in(id, erasure).await {
                Ok(Some(interactions)) => {
                    erased.contacts += 1;
                    erased.interactions += interactions;
                }
                Ok(None) => {}
                // A campaign that is stuck does not hold up the others.
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Erases a person in one campaign, deleted or not. Returns how many interactions were deleted,
    /// or `None` if the person is no contact there any more.
    async fn erase_in(&self, id: Uuid, erasure: &Erasure) -> Result<Option<i64>> {
        let phones = [erasure.phone.as_str()];
        let mut connection = self.db.connect().await?;
        let (tx, position, is_deleted) = loop {
            let tx = connection.begin(Gate::ExclusiveAdding(id)).await?;
            let found = contacts::find_by_phones(&tx, id, &phones).await?.into_iter().next();
            let Some((_, position, is_deleted)) = found else { return Ok(None) };
            // A person who was re-admitted since is not erased. While the positions are locked,
            // nobody adds the contact.
            if !erasures::is_under_way(&tx, erasure).await? {
                return Ok(None);
            }
            // A contact does not name its calls from before a reset, and providers may have named
            // the person in the details of their ends. So what the reset left goes first.
            if purge::progress(&tx, id).await?.is_none() {
                break (tx, position, is_deleted);
            }
            drop(tx);
            while purge_step(&mut connection, id).await? {}
        };
        let Some(campaign) = campaigns::find(&tx, id).await? else { return Ok(None) };
        let interactions = erase_contact(&tx, id, position, &erasure.phone).await?;
        if !is_deleted {
            campaigns::count_contacts(&tx, id, -1).await?;
        }
        campaigns::bump_facts_revision(&tx, id).await?;
        let person = erasure.hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        erased::log(&tx, &campaign, "ERASE", &person, (&erasure.actor, &erasure.reason)).await?;
        tx.commit().await?;
        Ok(Some(interactions))
    }

    /// Finishes erasures that were begun longer than `patience` ago, and left. A failing erasure
    /// does not hold up the others.
    pub async fn finish_left(&self, patience: TimeDelta) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let unfinished = erasures::under_way(&tx, tx.now - patience, MAX_UNFINISHED).await?;
        drop(tx);
        drop(connection);
        let mut result = Ok(());
        for erasure in unfinished {
            result = result.and(self.finish(PendingRevocation::of(erasure)).await.map(drop));
        }
        result
    }
}

/// Erases everything of a contact except its position. Returns how many interactions were deleted.
/// The caller must hold the gate exclusively.
async fn erase_contact(tx: &Tx<'_>, id: Uuid, position: i64, phone: &str) -> Result<i64> {
    contacts::erase(tx, id, position).await?;
    let interactions = interactions::delete_of(tx, id, position).await?;
    let mut states = states::lock(tx, id, [position]).await?;
    let known = states.get(position);
    let made = calls::chain(tx, id, known.last_call, usize::MAX).await?;
    let made: Vec<SlotId> = made.into_iter().map(|(call, _)| call).collect();
    calls::forget_details(tx, id, &made).await?;
    let left = known.erased(tx.now);
    states.set(position, &left);
    states::save(tx, id, &states).await?;
    leases::forget_number(tx, id, position, phone::as_integer(phone)).await?;
    due::remove(tx, id, &[position]).await?;
    Ok(interactions)
}
