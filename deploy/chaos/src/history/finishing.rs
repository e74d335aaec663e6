//! End of a history, when faults are over: everybody is imported, and a last run goes to its end.

use super::History;
use campaign_proto::v1;
use campaign_proto::v1::CampaignState;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time from the end of faults to the end of a history.
const END_LIMIT: Duration = Duration::from_secs(300);

impl History {
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + END_LIMIT;
        while !self.is_imported() {
            self.import_up_to(usize::MAX).await;
            self.check(deadline, "the import")?;
        }
        let mut is_last = false;
        loop {
            let campaign = self.look().await;
            self.check(
                deadline,
                &format!(
                    "its last run ({})",
                    campaign.as_ref().map_or("no answer", |c| c.state().as_str_name())
                ),
            )?;
            let Some(campaign) = campaign else { continue };
            let is_live = campaign.launch_settings.as_ref().is_some_and(|s| s.live_forever);
            match campaign.state() {
                CampaignState::Completed if is_last => break,
                CampaignState::Draft | CampaignState::Completed | CampaignState::Cancelled => {
                    is_last |= self.launch(true).await;
                }
                CampaignState::Paused => self.command("RESUME").await,
                CampaignState::Running if is_live => self.command("CANCEL").await,
                _ => self.wait(500..1_000).await,
            }
        }
        self.check_sums().await
    }

    fn check(&self, deadline: Instant, what: &str) -> Result<(), String> {
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(format!("{} does not end: {what}", self.campaign))
    }

    async fn look(&mut self) -> Option<v1::Campaign> {
        let request = v1::GetCampaignRequest { name: self.campaign.clone() };
        self.ask(20, |mut client| {
            let request = request.clone();
            async move { client.campaigns.get_campaign(request).await }
        })
        .await
    }

    pub(super) async fn progress(&mut self) -> Option<v1::CampaignProgress> {
        let request = v1::GetCampaignProgressRequest { name: self.campaign.clone() };
        self.ask(20, |mut client| {
            let request = request.clone();
            async move { client.campaigns.get_campaign_progress(request).await }
        })
        .await
    }

    /// Checks that every contact is in exactly one bucket, and in none of those of work left to do. A contact whose
    /// machine is recognised after the run's end waits for the next run.
    async fn check_sums(&mut self) -> Result<(), String> {
        let progress = self.progress().await.ok_or("no progress")?;
        let removed: i64 = progress.removed.iter().map(|reason| reason.contacts).sum();
        // Their wait may be over, or not.
        let waiting = progress.waiting + progress.waiting_retry;
        let late = if self.stage.recognises_machines { waiting } else { 0 };
        let open = progress.waiting + progress.waiting_retry + progress.leased + progress.in_call;
        if open != late || removed + late != progress.total {
            return Err(format!("P1: the sums of {} are wrong: {progress:?}", self.campaign));
        }
        Ok(())
    }
}
