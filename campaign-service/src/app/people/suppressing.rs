//! Suppression lists, above all campaigns: each tenant's own, and the installation's, which holds
//! for everybody.

use super::erased::{ENTRY, Erased};
use super::revoking::take_back;
use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::store::audit::{self, Entry, Event};
use crate::store::suppressions::{self, Suppression};
use crate::store::{Db, Gate, Tx, campaigns, contacts};
use campaign_domain::access::Tenant;
use campaign_domain::campaign::Campaign;
use campaign_domain::subscriber::{all_spellings, canonical};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Reason why numbers are put on a list.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    pub source: &'a str,
    /// Whether the people asked for the suppression.
    pub is_wish: bool,
    pub actor: &'a str,
    pub reason: &'a str,
}

/// Returns the source of entries of people who opted out in a campaign.
fn source_of(campaign: Uuid) -> String {
    format!("opt-out in campaigns/{campaign}")
}

fn opt_out(source: &str) -> Listing<'_> {
    Listing { source, is_wish: true, actor: "service", reason: "opted out of every campaign" }
}

/// Use cases on suppression lists.
#[derive(Clone, Debug)]
pub struct Suppressions {
    pub db: Db,
    pub erased: Erased,
}

impl Suppressions {
    /// Adds numbers in all their spellings, and returns how many are new. After the return, no
    /// attempt on these numbers is authorised in the campaigns that the list holds for.
    pub async fn add(
        &self,
        tenant: &Tenant,
        phones: &[String],
        why: &Listing<'_>,
    ) -> Result<usize> {
        Ok(self.put_on_list(tenant, phones, why).await?.len())
    }

    /// Adds numbers. Returns the new ones, each in its canonical spelling.
    async fn put_on_list(
        &self,
        tenant: &Tenant,
        phones: &[String],
        why: &Listing<'_>,
    ) -> Result<BTreeSet<String>> {
        let phones = all_spellings(phones.iter().map(String::as_str));
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        // An erased number stays a hash, and is not put on the list.
        let phones = self.erased.hold(&tx, tenant, &phones, why.source).await?;
        let added = put(&tx, tenant, &phones, why).await?;
        tx.commit().await?;
        drop(connection);
        take_back(&self.db, &tenant.suppresses(), &phones).await?;
        Ok(added)
    }

    /// Suppresses numbers that opted out of every campaign and are no contacts of campaign `id`.
    /// Returns the numbers that are new on the list.
    pub async fn add_strangers(&self, id: Uuid, phones: &[String]) -> Result<BTreeSet<String>> {
        if phones.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        drop(tx);
        drop(connection);
        let source = source_of(id);
        let new = self.put_on_list(&campaign.tenant, phones, &opt_out(&source)).await?;
        let is_new = |phone: &&String| new.contains(canonical(phone).as_ref());
        Ok(phones.iter().filter(is_new).cloned().collect())
    }

    /// Lists the events of a tenant's list with the sources of the numbers. Newest first, with
    /// event numbers below `before`. Covers the whole list, or one phone number.
    pub async fn list_events(
        &self,
        tenant: &Tenant,
        phone: Option<&str>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<(Event, String)>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let log = audit::list_log(tenant);
        let events = match phone {
            Some(phone) => {
                let numbers = suppressions::events_of(&tx, tenant, phone, before, limit).await?;
                audit::some(&tx, log, &numbers).await?
            }
            None => audit::list(&tx, log, before, limit).await?,
        };
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        let mut sources = suppressions::sources(&tx, tenant, &numbers).await?;
        let with_source = |event: Event| {
            let source = sources.remove(&event.number).unwrap_or_default();
            (event, source)
        };
        Ok(events.into_iter().map(with_source).collect())
    }

    /// Returns the entry of a number, erased or not.
    pub async fn get(&self, tenant: &Tenant, phone: &str) -> Result<Suppression> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let found = match suppressions::find(&tx, tenant, phone).await? {
            Some(found) => Some(found),
            None => self.erased.entry(&tx, tenant, phone).await?,
        };
        found.ok_or_else(|| Error::NotFound(ENTRY.to_owned()))
    }

    /// Lists entries in order of number.
    pub async fn list(
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

/// Puts numbers on a list. Returns the new numbers, each in the canonical spelling of its subscriber.
/// The caller must call `take_back` after the commit, which also notifies the workers.
async fn put(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: &[String],
    why: &Listing<'_>,
) -> Result<BTreeSet<String>> {
    let added = suppressions::insert(tx, tenant, phones, why.source, why.is_wish).await?;
    let new = added.iter().filter(|added| !added.was_listed);
    let new: BTreeSet<String> = new.map(|added| canonical(&added.phone).into_owned()).collect();
    if !added.is_empty() {
        let changed: Vec<String> = added.into_iter().map(|added| added.phone).collect();
        let what = ("SUPPRESS", (why.actor, why.reason));
        log(tx, tenant, what, new.len(), (&changed, why.source)).await?;
    }
    Ok(new)
}

/// Records a change of a tenant's list in the list's own audit log, and the numbers concerned
/// beside the log. Must come last in a transaction: everybody who changes the list waits for the
/// log's gate, which this passes.
pub(super) async fn log(
    tx: &Tx<'_>,
    tenant: &Tenant,
    (command, (actor, reason)): (&str, (&str, &str)),
    numbers: usize,
    (phones, source): (&[String], &str),
) -> Result<()> {
    let campaign = audit::list_log(tenant);
    tx.pass(campaign).await?;
    let entry = Entry {
        campaign,
        actor,
        reason,
        command,
        before: None,
        after: None,
        run: 0,
        request_id: "",
        details: json!({ "numbers": numbers }),
    };
    let number = audit::insert(tx, &entry).await?;
    Ok(suppressions::note_numbers(tx, tenant, number, phones, source).await?)
}

/// Puts the numbers of contacts that opted out of every campaign on the list of the campaign's
/// tenant. The caller must call `take_back_contacts` after the commit.
pub(in crate::app) async fn add_contacts(
    tx: &Tx<'_>,
    campaign: &Campaign,
    positions: &[i64],
) -> Result<()> {
    if !positions.is_empty() {
        let phones = contacts::phones(tx, campaign.id, positions).await?;
        let phones = all_spellings(phones.iter().map(String::as_str));
        let source = source_of(campaign.id);
        put(tx, &campaign.tenant, &phones, &opt_out(&source)).await?;
    }
    Ok(())
}

/// Revokes contacts whose opt-outs have put their numbers on the list. May be repeated. The
/// opt-outs may be acknowledged only after this is done.
pub(in crate::app) async fn take_back_contacts(db: &Db, id: Uuid, positions: &[i64]) -> Result<()> {
    if positions.is_empty() {
        return Ok(());
    }
    let mut connection = db.connect().await?;
    let tx = connection.begin(Gate::Open).await?;
    let Some(campaign) = campaigns::find(&tx, id).await? else { return Ok(()) };
    let phones = contacts::phones(&tx, id, positions).await?;
    let phones = all_spellings(phones.iter().map(String::as_str));
    drop(tx);
    drop(connection);
    take_back(db, &campaign.tenant.suppresses(), &phones).await
}
