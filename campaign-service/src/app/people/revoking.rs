//! Revocation of numbers that were put on a suppression list.

use crate::app::error::Result;
use crate::store::erasures::Erasure;
use crate::store::notify::{ControlEvent, RemovalCause};
use crate::store::{Connection, Db, Gate, agenda, gates, revoking};
use campaign_domain::access::{Reach, Tenant};
use campaign_domain::phone;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most gates held by one transaction.
const MAX_GATES: usize = 100;
/// Rounds in which only free gates are passed. Busy ones are then waited for, one at a time.
const FREE_ROUNDS: usize = 3;
/// Most contacts in one notice, which has at most 8,000 bytes.
const MAX_NOTICE_CONTACTS: usize = 300;

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

/// Revokes numbers that were put on the list from the runs under way. After the return, no attempt
/// on these numbers is authorised. The list must be committed before.
///
/// Only campaigns that have one of the numbers matter, and are looked up after the list's commit. A
/// contact that comes later is leased by a transaction that begins later still, and so sees the
/// list. An authorisation that read the old list shares its campaign's gate until its commit. So
/// once the gate was passed, that authorisation is committed, and every later one judges again.
async fn revoke(db: &Db, reach: &Reach, phones: &[String]) -> Result<()> {
    let mut connection = db.connect().await?;
    let tx = connection.begin(Gate::Open).await?;
    let mut left = revoking::active_campaigns_with(&tx, reach, phones).await?;
    drop(tx);
    for _ in 0..FREE_ROUNDS {
        let mut busy = Vec::new();
        for campaigns in left.chunks(MAX_GATES) {
            let passed = pass_free(&mut connection, campaigns).await?;
            busy.extend(campaigns.iter().filter(|id| !passed.contains(id)));
            withdraw(&mut connection, &passed, phones).await?;
        }
        left = busy;
    }
    for id in left {
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        revoking::judge_again(&tx, &[id]).await?;
        tx.commit().await?;
        withdraw(&mut connection, &[id], phones).await?;
    }
    Ok(())
}

/// Lets what was judged be judged again in those campaigns whose gates are free. Returns them.
async fn pass_free(connection: &mut Connection, campaigns: &[Uuid]) -> Result<Vec<Uuid>> {
    let tx = connection.begin(Gate::Open).await?;
    let passed = gates::try_pass(&tx, campaigns).await?;
    if !passed.is_empty() {
        revoking::judge_again(&tx, &passed).await?;
        tx.commit().await?;
    }
    Ok(passed)
}

/// Takes the contacts with suppressed numbers off the due lists of some campaigns, and notifies the
/// workers that hold them. Must come after the gates, so that no lease with such a contact is still
/// to be committed.
async fn withdraw(
    connection: &mut Connection,
    campaigns: &[Uuid],
    phones: &[String],
) -> Result<()> {
    if campaigns.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = phones.iter().map(|phone| phone::as_integer(phone)).collect();
    let tx = connection.begin(Gate::Open).await?;
    let changed = revoking::take_off_due_lists(&tx, campaigns, phones).await?;
    for (campaign, positions) in revoking::held(&tx, campaigns, &numbers).await? {
        for positions in positions.chunks(MAX_NOTICE_CONTACTS) {
            tx.notify_on_commit(notice(campaign, positions));
        }
    }
    agenda::check_done(&tx, &changed).await?;
    tx.commit().await?;
    Ok(())
}

/// Returns the notice that contacts are suppressed. The version before knows only notices of one
/// contact.
fn notice(campaign: Uuid, positions: &[i64]) -> ControlEvent {
    let cause = RemovalCause::Suppressed;
    match positions {
        [position] => ControlEvent::ContactRemoved { campaign, position: *position, cause },
        _ => ControlEvent::ContactsRemoved { campaign, positions: positions.to_vec(), cause },
    }
}
