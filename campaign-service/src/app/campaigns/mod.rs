//! Campaigns: look-ups, commands, previews, stops, and the verification of audit logs.

pub mod auditing;
mod clock;
pub mod lifecycle;
pub mod preview;
pub mod stops;

use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::store::audit::{self, Event};
use crate::store::campaigns::{self, Run};
use crate::store::{Db, Gate};
use campaign_domain::Instant;
use campaign_domain::access::{Reach, Tenant};
use campaign_domain::campaign::Campaign;
use uuid::Uuid;

/// Use cases on campaigns.
#[derive(Clone, Debug)]
pub struct Campaigns {
    pub db: Db,
}

impl Campaigns {
    /// Returns whether a campaign is within the caller's reach. Nothing else decides this. Must be
    /// asked before anything is done with the campaign, its gate passed or time spent on it. So
    /// another tenant's campaign cannot be told from one that never was.
    pub async fn reaches(&self, reach: &Reach, id: Uuid) -> Result<bool> {
        let Reach::Of(tenant) = reach else { return Ok(true) };
        Ok(campaigns::is_of(&self.db.connect().await?, id, tenant).await?)
    }

    /// Returns a campaign that exists, and how many contacts it has.
    pub async fn get(&self, id: Uuid) -> Result<(Campaign, i64)> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        Ok((campaign, campaigns::counters(&tx, id).await?.contacts))
    }

    /// Lists a tenant's campaigns with their contact counts, newest first, after the last one of
    /// the previous page.
    pub async fn list(
        &self,
        tenant: &Tenant,
        after: Option<(Instant, Uuid)>,
        limit: i64,
    ) -> Result<Vec<(Campaign, i64)>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        Ok(campaigns::list(&tx, tenant, after, limit).await?)
    }

    /// Lists a campaign's runs with a number below `before`, newest first.
    pub async fn list_runs(&self, id: Uuid, before: Option<i32>, limit: i64) -> Result<Vec<Run>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        Ok(campaigns::list_runs(&tx, id, before, limit).await?)
    }

    /// Lists the audit events of a campaign, deleted or not, with a number below `before`, newest
    /// first.
    pub async fn list_audit_events(
        &self,
        id: Uuid,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Event>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if campaigns::find(&tx, id).await?.is_none() {
            return Err(Error::NotFound(format!("campaigns/{id}")));
        }
        Ok(audit::list(&tx, id, before, limit).await?)
    }
}
