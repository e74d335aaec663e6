//! Revocation of numbers that were put on a suppression list.

use crate::app::error::Result;
use crate::store::erasures::Erasure;
use crate::store::{Db, Gate, campaigns, contacts, due, suppressions};
use campaign_domain::access::{Reach, Tenant};
use campaign_domain::lifecycle::State;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Most campaigns whose runs are waited for.
const MAX_CAMPAIGNS: i64 = 100_000;

/// Answer to whoever put numbers on a suppression list. Until the revocation is finished, a worker
/// that holds one of the numbers may still have it authorised. So nobody gets the answer before.
#[must_use = "the numbers may be authorised until the revocation is finished"]
pub struct PendingRevocation<T> {
    /// Numbers in all their spellings, by the owner of the list.
    phones: BTreeMap<Tenant, Vec<String>>,
    answer: T,
}

/// Hides the numbers.
impl<T> std::fmt::Debug for PendingRevocation<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingRevocation").finish_non_exhaustive()
    }
}

impl<T> PendingRevocation<T> {
    /// Keeps an answer back until the numbers on a tenant's list are revoked.
    pub(super) fn new(tenant: &Tenant, phones: Vec<String>, answer: T) -> Self {
        let phones = if phones.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([(tenant.clone(), phones)])
        };
        Self { phones, answer }
    }

    /// Joins the answers to one caller, in order.
    pub fn join(all: impl IntoIterator<Item = Self>) -> PendingRevocation<Vec<T>> {
        let (mut phones, mut answers) = (BTreeMap::<Tenant, Vec<String>>::new(), Vec::new());
        for one in all {
            for (tenant, more) in one.phones {
                phones.entry(tenant).or_default().extend(more);
            }
            answers.push(one.answer);
        }
        PendingRevocation { phones, answer: answers }
    }

    /// Returns the answer to those who count answers. The caller may not know it yet.
    pub fn unanswered(&self) -> &T {
        &self.answer
    }

    /// Revokes the numbers from the runs under way, and returns the answer. Must follow the commit
    /// of the entries. After the return, no attempt on these numbers is authorised.
    pub async fn finish(self, db: &Db) -> Result<T> {
        for (tenant, phones) in self.phones {
            revoke(db, &tenant.suppresses(), &phones).await?;
        }
        Ok(self.answer)
    }
}

impl PendingRevocation<Erasure> {
    /// Keeps an erasure back until the number, which was listed with the record of the erasure, is
    /// revoked.
    pub(super) fn of(erasure: Erasure) -> Self {
        let phones = vec![erasure.phone.clone()];
        Self::new(&erasure.tenant.clone(), phones, erasure)
    }
}

async fn revoke(db: &Db, reach: &Reach, phones: &[String]) -> Result<()> {
    let phone_texts: Vec<&str> = phones.iter().map(String::as_str).collect();
    let mut connection = db.connect().await?;
    // An authorisation that read the old list is committed when its campaign's gate lets us
    // through. Every later one reads the new list.
    let tx = connection.begin(Gate::Open).await?;
    let held = suppressions::find_in_active_campaigns(&tx, reach, phones).await?;
    let states = [State::Running];
    let running = campaigns::ids_in_states(&tx, reach, &states, MAX_CAMPAIGNS).await?;
    drop(tx);
    let ids: BTreeSet<Uuid> = running.into_iter().chain(held.iter().map(|(id, _)| *id)).collect();
    for id in ids {
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let found = contacts::find_by_phones(&tx, id, &phone_texts).await?;
        if found.is_empty() {
            continue;
        }
        let positions: Vec<i64> = found.iter().map(|(_, position, _)| *position).collect();
        // The list may have changed again before we passed this gate.
        let subjects = contacts::subjects(&tx, id, &positions).await?;
        let suppressed = subjects.iter().filter(|subject| subject.candidate.is_suppressed);
        let positions: Vec<i64> = suppressed.map(|subject| subject.candidate.position).collect();
        due::remove(&tx, id, &positions).await?;
        campaigns::bump_facts_revision(&tx, id).await?;
        tx.commit().await?;
    }
    Ok(())
}
