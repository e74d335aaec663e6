//! Clicks on the links in texts.

use super::Facts;
use super::report::Report;
use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::store::{Gate, interactions};
use campaign_domain::campaign::Campaign;
use campaign_domain::facts::Fact;
use campaign_domain::settings::Epoch;
use std::sync::Arc;
use uuid::Uuid;

impl Facts {
    /// Returns the target of the link in a contact's text. A click by a person is recorded once in
    /// each cycle of a history generation. So a click after a rerun counts in the rerun.
    pub async fn open_link(
        self: &Arc<Self>,
        id: Uuid,
        position: i64,
        is_person: bool,
    ) -> Result<String> {
        let campaign = self.campaign(id).await?;
        let url = campaign.config.link_url;
        if url.is_empty() {
            return Err(Error::NotFound(format!("campaigns/{id}/contacts/{position}")));
        }
        if is_person {
            let Epoch { generation, cycle } = campaign.epoch;
            let report = Report {
                position,
                interaction_id: format!("link-opened-{generation}-{cycle}"),
                attempt: None,
                fact: Fact::LinkOpened { link: url.clone() },
                occurred_at: None,
            };
            if !self.is_recorded(id, &report).await? {
                self.record(id, vec![report]).await?;
            }
        }
        Ok(url)
    }

    async fn campaign(&self, id: Uuid) -> Result<Campaign> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await
    }

    /// Returns whether a fact was recorded before. Waits at no gate, because strangers may repeat
    /// the request.
    async fn is_recorded(&self, id: Uuid, report: &Report) -> Result<bool> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let key = (report.position, report.interaction_id.as_str());
        Ok(!interactions::find_recorded(&tx, id, &[key]).await?.is_empty())
    }
}
