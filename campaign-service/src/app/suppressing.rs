//! The suppression lists, above all campaigns: each tenant's own, and the installation's, which holds for
//! everybody.

use super::App;
use super::contacts::come_back;
use super::error::{Error, Result};
use crate::store::campaigns::Campaign;
use crate::store::notify::{self, ControlEvent, RemovalCause};
use crate::store::suppressions::{self, Suppression};
use crate::store::{Gate, Tx, campaigns, contacts, due};
use campaign_domain::access::{Reach, Tenant};
use campaign_domain::lifecycle::State;
use std::collections::BTreeSet;
use uuid::Uuid;

/// An entry in errors: its own name is a number, and errors end in logs.
pub(super) const ENTRY: &str = "the suppression";
/// Most campaigns whose runs are waited for.
const MAX_CAMPAIGNS: i64 = 100_000;

impl App {
    /// Adds numbers; returns how many are new. When it returns, no attempt on them is authorised in the
    /// campaigns that the list holds for.
    pub async fn suppress(
        &self,
        tenant: &Tenant,
        phones: &[String],
        source: &str,
    ) -> Result<usize> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        // A number that was erased stays what it is, a hash.
        let phones = self.hold_erased(&tx, tenant, phones, source).await?;
        let added = add(&tx, tenant, &phones, source).await?;
        tx.commit().await?;
        drop(connection);
        self.take_back(&tenant.suppresses(), &phones).await?;
        Ok(added)
    }

    /// What is left to do when contacts' opt-outs have put their numbers on the list, however often.
    /// Only when it is done may the opt-outs be acknowledged.
    pub(super) async fn take_back_contacts(&self, id: Uuid, positions: &[i64]) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let Some(campaign) = campaigns::find(&tx, id).await? else { return Ok(()) };
        let phones = contacts::phones(&tx, id, positions).await?;
        drop(tx);
        drop(connection);
        self.take_back(&campaign.tenant.suppresses(), &phones).await
    }

    /// Takes numbers that were put on the list out of the runs under way. When it returns, no attempt on
    /// them is authorised.
    pub(super) async fn take_back(&self, reach: &Reach, phones: &[String]) -> Result<()> {
        let phone_texts: Vec<&str> = phones.iter().map(String::as_str).collect();
        let mut connection = self.db.connect().await?;
        // An authorisation that read the list before is committed when its campaign's gate lets us
        // through; every later one reads the list again.
        let tx = connection.begin(Gate::Open).await?;
        let held = suppressions::find_in_active_campaigns(&tx, reach, phones).await?;
        let states = [State::Running];
        let running = campaigns::ids_in_states(&tx, reach, &states, MAX_CAMPAIGNS).await?;
        drop(tx);
        for id in running.into_iter().chain(held.iter().map(|(id, _)| *id)).collect::<BTreeSet<_>>()
        {
            let tx = connection.begin(Gate::Exclusive(id)).await?;
            let found = contacts::find_by_phones(&tx, id, &phone_texts).await?;
            if found.is_empty() {
                continue;
            }
            let positions: Vec<i64> = found.iter().map(|(_, position, _)| *position).collect();
            // The list may have changed again before we came to this gate.
            let subjects = contacts::subjects(&tx, id, &positions).await?;
            let suppressed = subjects.iter().filter(|subject| subject.candidate.is_suppressed);
            let positions: Vec<i64> =
                suppressed.map(|subject| subject.candidate.position).collect();
            due::remove(&tx, id, &positions).await?;
            campaigns::bump_revision(&tx, id).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Takes a number off the list, erased or not; contacts with it wait again in the runs under way.
    pub async fn unsuppress(
        &self,
        tenant: &Tenant,
        phone: &str,
        actor: &str,
        reason: &str,
    ) -> Result<Suppression> {
        self.note_lifting(tenant, phone, actor, reason).await?;
        let reach = tenant.suppresses();
        let phones = [phone.to_owned()];
        let mut connection = self.db.connect().await?;
        // Off the list and waiting again, or neither.
        let tx = connection.begin(Gate::Open).await?;
        let waiting = hold_runs(&tx, &reach, &phones, &[]).await?;
        let listed = suppressions::delete(&tx, tenant, phone).await?;
        let erased = self.lift_erasure(&tx, tenant, phone).await?;
        let Some(removed) = listed.or(erased) else {
            return Err(Error::NotFound(ENTRY.to_owned()));
        };
        put_back(&tx, &waiting).await?;
        tx.commit().await?;
        // A run launched in between may have passed the contact before the list changed.
        let tx = connection.begin(Gate::Open).await?;
        let late = hold_runs(&tx, &reach, &phones, &waiting).await?;
        put_back(&tx, &late).await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// The entry of a number, erased or not.
    pub async fn get_suppression(&self, tenant: &Tenant, phone: &str) -> Result<Suppression> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let found = match suppressions::find(&tx, tenant, phone).await? {
            Some(found) => Some(found),
            None => self.erased_entry(&tx, tenant, phone).await?,
        };
        found.ok_or_else(|| Error::NotFound(ENTRY.to_owned()))
    }

    /// Entries in order of number.
    pub async fn list_suppressions(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Suppression>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        Ok(suppressions::list(&tx, tenant, after, limit).await?)
    }
}

/// Puts numbers on the list and tells the workers that hold them; returns how many are new. `take_back`
/// has to follow the commit.
async fn add(tx: &Tx<'_>, tenant: &Tenant, phones: &[String], source: &str) -> Result<usize> {
    let added = suppressions::insert(tx, tenant, phones, source).await?;
    tell(tx, tenant, phones).await?;
    Ok(added.len())
}

/// Tells the workers that hold numbers that these are on the list.
pub(super) async fn tell(tx: &Tx<'_>, tenant: &Tenant, phones: &[String]) -> Result<()> {
    let reach = tenant.suppresses();
    for (campaign, position) in suppressions::find_in_active_campaigns(tx, &reach, phones).await? {
        let cause = RemovalCause::Suppressed;
        notify::on_commit(tx, ControlEvent::ContactRemoved { campaign, position, cause });
    }
    Ok(())
}

/// Puts the numbers of contacts that opted out of every campaign on the list of the campaign's tenant.
/// `take_back_contacts` has to follow the commit.
pub(super) async fn add_contacts(
    tx: &Tx<'_>,
    campaign: &Campaign,
    positions: &[i64],
) -> Result<()> {
    if !positions.is_empty() {
        let phones = contacts::phones(tx, campaign.id, positions).await?;
        let source = format!("opt-out in campaigns/{}", campaign.id);
        add(tx, &campaign.tenant, &phones, &source).await?;
    }
    Ok(())
}

/// Where numbers stand in runs under way, but for what is known; the gates of those are passed.
async fn hold_runs(
    tx: &Tx<'_>,
    reach: &Reach,
    phones: &[String],
    known: &[(Uuid, i64)],
) -> Result<Vec<(Uuid, i64)>> {
    let mut found = suppressions::find_in_active_campaigns(tx, reach, phones).await?;
    found.retain(|found| !known.contains(found));
    for (id, _) in &found {
        tx.pass(*id).await?;
    }
    Ok(found)
}

/// Puts contacts that came back where their runs find them. The campaigns' gates must be held alone.
async fn put_back(tx: &Tx<'_>, contacts: &[(Uuid, i64)]) -> Result<()> {
    for (id, position) in contacts {
        if let Some(campaign) = campaigns::find(tx, *id).await? {
            come_back(tx, &campaign, *position).await?;
            notify::on_commit(tx, ControlEvent::Work { campaign: *id });
        }
    }
    Ok(())
}
