//! What the service does, one use case a file. Reads the store, asks the domain, writes the store.

pub mod authorizing;
pub mod chores;
pub mod contacts;
pub mod control;
pub mod error;
pub mod explaining;
pub mod importing;
pub mod leasing;
pub mod lifecycle;
pub mod preview;
pub mod progress;
pub mod recording;
pub mod suppressing;

use crate::store::Db;
use crate::store::campaigns::{self, Campaign};
use crate::store::{Gate, Tx};
use error::{Error, Result};
use std::time::Duration;
use uuid::Uuid;

/// Limits of what workers get.
#[derive(Clone, Debug)]
pub struct DispatchLimits {
    /// A lease ends this long after it was given or renewed.
    pub lease_ttl: Duration,
    /// Most contacts in one batch.
    pub max_batch_contacts: usize,
    /// Most contacts looked at for one batch.
    pub max_scan_contacts: usize,
    /// Most outstanding credit of one worker.
    pub max_credit_contacts: usize,
    /// Most interactions in one report, and attempts in one authorisation.
    pub max_report_interactions: usize,
}

/// The use cases. One for the whole process.
#[derive(Clone, Debug)]
pub struct App {
    pub db: Db,
    pub limits: DispatchLimits,
}

impl App {
    /// A campaign that exists.
    pub async fn get_campaign(&self, id: Uuid) -> Result<(Campaign, i64)> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        let contacts = crate::store::contacts::count(&tx, id).await?;
        Ok((campaign, contacts))
    }
}

/// Loads a campaign that exists and is not deleted.
pub(crate) async fn existing(tx: &Tx<'_>, id: Uuid) -> Result<Campaign> {
    match campaigns::find(tx, id).await? {
        Some(campaign) if !campaign.is_deleted => Ok(campaign),
        _ => Err(Error::NotFound(format!("campaigns/{id}"))),
    }
}
