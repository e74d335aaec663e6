//! Re-admission of numbers: off a suppression list, erased or not.

use super::erased::{self, ENTRY, refuse_under_way};
use super::listing::log;
use super::suppressing::Suppressions;
use crate::app::error::{Error, Result};
use crate::app::returning::come_back;
use crate::store::notify::ControlEvent;
use crate::store::suppressions::{self, Suppression};
use crate::store::{Gate, Tx, campaigns, erasures, gates};
use campaign_domain::access::{Caller, Reach, Role, Tenant};
use campaign_domain::subscriber::all_spellings;
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

/// Campaigns in one page whose logs are to record a re-admission.
const TOLD_CAMPAIGNS: i64 = 1_000;
/// Contacts that are put back at the same time.
const PUT_BACK_AT_ONCE: usize = 64;

impl Suppressions {
    /// Takes a number off the list in all its spellings, erased or not. Contacts with the number
    /// wait again in the runs under way. If the person asked for the suppression, only an admin may
    /// lift it.
    pub async fn remove(&self, caller: &Caller, phone: &str, reason: &str) -> Result<Suppression> {
        let (tenant, who) = (&caller.tenant, (caller.actor.as_str(), reason));
        let phones = all_spellings([phone]);
        if self.is_erased(tenant, phone).await? {
            allow(caller, true)?;
        }
        self.note_lifting(tenant, phone, who.0, who.1).await?;
        let reach = tenant.suppresses();
        let mut connection = self.db.connect().await?;
        // In one transaction: the number is off the list and its contacts wait again, or neither.
        let tx = connection.begin(Gate::Open).await?;
        let waiting = hold_runs(&tx, &reach, &phones, &[]).await?;
        let mut removed = suppressions::delete(&tx, tenant, &phones).await?;
        let lifted = self.erased.lift(&tx, tenant, phone).await?;
        allow(caller, lifted.is_some() || removed.iter().any(|entry| entry.is_wish))?;
        put_back(&tx, &waiting).await?;
        // The spelling asked for comes first, if the list has it.
        removed.sort_by_key(|entry| entry.phone != phone);
        // No permanent record may have the number of an erased person.
        let named = if lifted.is_some() { &[][..] } else { &phones };
        let Some(entry) = removed.into_iter().next().or(lifted) else {
            return Err(Error::NotFound(ENTRY.to_owned()));
        };
        log(&tx, tenant, ("UNSUPPRESS", who), 1, (named, &entry.source)).await?;
        tx.commit().await?;
        // A run launched in between may have passed the contact before the list changed.
        let tx = connection.begin(Gate::Open).await?;
        let late = hold_runs(&tx, &reach, &phones, &waiting).await?;
        put_back(&tx, &late).await?;
        tx.commit().await?;
        Ok(entry)
    }

    async fn is_erased(&self, tenant: &Tenant, phone: &str) -> Result<bool> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        Ok(self.erased.entry(&tx, tenant, phone).await?.is_some())
    }

    /// Records the re-admission of an erased number in the log of each campaign that had it and may
    /// soon know it again. Runs before the re-admission, so that no re-admission goes unrecorded.
    /// If repeated, continues where it stopped.
    async fn note_lifting(
        &self,
        tenant: &Tenant,
        phone: &str,
        actor: &str,
        reason: &str,
    ) -> Result<()> {
        let mut connection = self.db.connect().await?;
        loop {
            let tx = connection.begin(Gate::Open).await?;
            let Some((hashes, noted)) = self.erased.lock(&tx, tenant, phone).await? else { break };
            refuse_under_way(&noted)?;
            let page = erasures::campaigns_to_tell(&tx, tenant, &hashes, TOLD_CAMPAIGNS).await?;
            drop(tx);
            if page.is_empty() {
                break;
            }
            for (id, person) in page {
                let tx = connection.begin(Gate::Exclusive(id)).await?;
                let Some(campaign) = campaigns::find(&tx, id).await? else { continue };
                erased::log(&tx, &campaign, "LIFT_ERASURE", &person, (actor, reason)).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }
}

/// Rejects a caller that may not take a number off the list.
fn allow(caller: &Caller, is_wish: bool) -> Result<()> {
    if caller.may_unsuppress(is_wish) {
        return Ok(());
    }
    let what = "taking a number off the list whose owner opted out or was erased".to_owned();
    Err(Error::Forbidden { what, roles: vec![Role::Admin] })
}

/// Finds the contacts with some numbers in runs under way, and passes the gates of their campaigns.
/// Leaves out `known` contacts.
async fn hold_runs(
    tx: &Tx<'_>,
    reach: &Reach,
    phones: &[String],
    known: &[(Uuid, i64)],
) -> Result<Vec<(Uuid, i64)>> {
    let mut found = suppressions::find_in_active_campaigns(tx, reach, phones).await?;
    found.retain(|found| !known.contains(found));
    let mut campaigns: Vec<Uuid> = found.iter().map(|(id, _)| *id).collect();
    campaigns.dedup();
    gates::pass(tx, &campaigns).await?;
    Ok(found)
}

/// Puts contacts that came back where their runs find them. The caller must hold the campaigns'
/// gates exclusively.
async fn put_back(tx: &Tx<'_>, contacts: &[(Uuid, i64)]) -> Result<()> {
    // Statements about several contacts are under way at the same time, so that the gates are not
    // held for a round trip per statement.
    let returns = contacts.iter().copied().map(|(id, position)| put_back_one(tx, id, position));
    stream::iter(returns).buffer_unordered(PUT_BACK_AT_ONCE).try_collect::<()>().await
}

async fn put_back_one(tx: &Tx<'_>, id: Uuid, position: i64) -> Result<()> {
    if let Some(campaign) = campaigns::find(tx, id).await? {
        come_back(tx, &campaign, position).await?;
        tx.notify_on_commit(ControlEvent::Work { campaign: id });
    }
    Ok(())
}
