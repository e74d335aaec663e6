//! Sleep of campaigns that have nobody to hand out.

use super::Dispatch;
use crate::app::error::Result;
use crate::app::outlook::next_work;
use crate::store::{Gate, agenda, campaigns};
use uuid::Uuid;

/// Result of putting a campaign to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The campaign sleeps until its next work.
    Asleep,
    /// The campaign has work now.
    Awake,
    /// Others are in the campaign's gate, or add contacts.
    Busy,
}

impl Dispatch {
    /// Lets a campaign sleep until it may have contacts to hand out. Never waits, so that nobody
    /// waits behind it.
    pub async fn settle(&self, id: Uuid) -> Result<Settled> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if !agenda::try_alone(&tx, id).await? {
            return Ok(Settled::Busy);
        }
        let campaign = campaigns::find(&tx, id).await?;
        // Commands and the clock keep the entry of a campaign that does not dial.
        let Some(campaign) = campaign.filter(|campaign| campaign.is_dialling(tx.now)) else {
            return Ok(Settled::Asleep);
        };
        let work_at = next_work(&tx, &campaign).await?;
        let has_work = work_at.is_some_and(|work_at| work_at <= tx.now);
        agenda::settle(&tx, id, work_at).await?;
        tx.commit().await?;
        Ok(if has_work { Settled::Awake } else { Settled::Asleep })
    }
}
