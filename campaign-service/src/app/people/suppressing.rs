//! Suppression lists, above all campaigns: each tenant's own, and the installation's, which holds
//! for everybody.

use super::erased::{ENTRY, Erased};
use super::listing::{Listing, opt_out, put, source_of};
use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::store::audit::{self, Event};
use crate::store::suppressions::{self, Suppression};
use crate::store::{Db, Gate};
use campaign_domain::access::Tenant;
use campaign_domain::subscriber::{all_spellings, canonical};
use std::collections::BTreeSet;
use uuid::Uuid;

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
        let added = put(&tx, tenant, phones, why).await?;
        tx.commit().await?;
        drop(connection);
        added.finish(&self.db).await
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
