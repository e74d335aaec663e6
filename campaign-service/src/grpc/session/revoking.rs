//! What one worker has to hear of: work, stops, contacts taken back.

use super::Session;
use crate::app::error::Error;
use crate::grpc::names;
use crate::store::notify::{ControlEvent, RemovalCause, StopCause};
use campaign_domain::lifecycle::State;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::collections::HashSet;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;
use uuid::Uuid;

impl Session {
    pub(super) async fn hear(
        &mut self,
        event: Result<ControlEvent, RecvError>,
    ) -> Result<(), Status> {
        match event {
            Ok(ControlEvent::Work { campaign }) => {
                // A worker that is busy comes to it in its next round.
                // What is another tenant's it does not even notice.
                if self.is_idle
                    && self.serves(campaign)
                    && self.app.reaches(&self.reach, campaign).await?
                {
                    self.urgent = Some(campaign);
                    self.is_idle = false;
                }
                Ok(())
            }
            Ok(ControlEvent::Stopped { campaign, run, cause, hang_up }) => {
                self.revoke(campaign, run, cause, hang_up).await
            }
            Ok(ControlEvent::ContactRemoved { campaign, position, cause }) => {
                self.revoke_contact(campaign, position, cause).await
            }
            Ok(ControlEvent::Missed) | Err(RecvError::Lagged(_)) => {
                self.is_idle = false;
                self.check_held().await
            }
            Err(RecvError::Closed) => Err(Status::unavailable("this replica is stopping")),
        }
    }

    async fn revoke(
        &mut self,
        campaign: Uuid,
        run: i32,
        cause: StopCause,
        hang_up: bool,
    ) -> Result<(), Status> {
        if !self.held.iter().any(|((id, _), held)| *id == campaign && held.run <= run) {
            return Ok(());
        }
        let reason = match cause {
            StopCause::Paused => v1::RevokeReason::Paused,
            StopCause::Cancelled => v1::RevokeReason::Cancelled,
            StopCause::Completed => v1::RevokeReason::Completed,
        };
        let campaign = format!("campaigns/{campaign}");
        let revoke =
            v1::Revoke { campaign, contact: String::new(), reason: reason.into(), hang_up, run };
        self.send(Response::Revoke(revoke)).await
    }

    async fn revoke_contact(
        &mut self,
        campaign: Uuid,
        position: i64,
        cause: RemovalCause,
    ) -> Result<(), Status> {
        if !self.held.keys().any(|(id, _)| *id == campaign) {
            return Ok(());
        }
        let reason = match cause {
            RemovalCause::OptedOut => v1::RevokeReason::OptedOut,
            RemovalCause::Suppressed => v1::RevokeReason::Suppressed,
        };
        let revoke = v1::Revoke {
            campaign: format!("campaigns/{campaign}"),
            contact: names::contact_name(campaign, position),
            reason: reason.into(),
            hang_up: false,
            run: 0,
        };
        self.send(Response::Revoke(revoke)).await
    }

    /// Revokes what stopped without our hearing of it.
    pub(super) async fn check_held(&mut self) -> Result<(), Status> {
        let campaigns: HashSet<Uuid> = self.held.keys().map(|(campaign, _)| *campaign).collect();
        for campaign in campaigns {
            let (state, run) = match self.app.get_campaign(campaign).await {
                Ok((campaign, _)) => (campaign.state, campaign.run),
                Err(Error::NotFound(_)) => (State::Cancelled, i32::MAX),
                Err(error) => return Err(error.into()),
            };
            match state {
                State::Paused => self.revoke(campaign, run, StopCause::Paused, false).await?,
                State::Completed => self.revoke(campaign, run, StopCause::Completed, false).await?,
                State::Cancelled => self.revoke(campaign, run, StopCause::Cancelled, true).await?,
                // A newer run is on: the one before it was ended.
                State::Running | State::Scheduled | State::Draft => {
                    self.revoke(campaign, run - 1, StopCause::Cancelled, true).await?;
                }
            }
        }
        Ok(())
    }
}
