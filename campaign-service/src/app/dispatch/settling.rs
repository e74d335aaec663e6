//! Sleep of campaigns that have nobody to hand out.

use super::Dispatch;
use crate::app::error::Result;
use crate::app::outlook::next_work;
use crate::store::{Gate, agenda, campaigns};
use uuid::Uuid;

impl Dispatch {
    /// Lets a campaign sleep until it may have contacts to hand out. Returns whether it sleeps. It
    /// does not if others are in its gate or add contacts, if it has work now, or if it does not
    /// dial: commands and the clock keep the entry then. Never waits, so that nobody waits behind it.
    pub async fn settle(&self, id: Uuid) -> Result<bool> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if !agenda::try_alone(&tx, id).await? {
            return Ok(false);
        }
        let campaign = campaigns::find(&tx, id).await?;
        let Some(campaign) = campaign.filter(|campaign| campaign.is_dialling(tx.now)) else {
            return Ok(false);
        };
        let work_at = next_work(&tx, &campaign).await?;
        let sleeps = work_at.is_none_or(|work_at| work_at > tx.now);
        agenda::settle(&tx, id, work_at).await?;
        tx.commit().await?;
        Ok(sleeps)
    }
}
