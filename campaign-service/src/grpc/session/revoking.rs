//! Notifications to one worker: new work, stops, and revoked contacts.

use super::Session;
use crate::app::campaigns::stops::Stop;
use crate::grpc::names;
use crate::store::notify::{ControlEvent, RemovalCause, StopCause};
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
                // A busy worker reaches the campaign in its next round.
                // Work of another tenant is ignored.
                if self.is_idle
                    && self.serves(campaign)
                    && self.campaigns.reaches(&self.reach, campaign).await?
                {
                    self.urgent = Some(campaign);
                    self.is_idle = false;
                }
                Ok(())
            }
            Ok(ControlEvent::Stopped { campaign, run, cause, hang_up }) => {
                self.revoke(Stop { campaign, run, cause, hang_up }).await
            }
            Ok(ControlEvent::ContactRemoved { campaign, position, cause }) => {
                self.revoke_contact(campaign, position, cause).await
            }
            Ok(ControlEvent::ContactsRemoved { campaign, positions, cause }) => {
                for position in positions {
                    self.revoke_contact(campaign, position, cause).await?;
                }
                Ok(())
            }
            Ok(ControlEvent::Missed) | Err(RecvError::Lagged(_)) => {
                self.is_idle = false;
                self.check_held().await
            }
            Err(RecvError::Closed) => Err(Status::unavailable("this replica is stopping")),
        }
    }

    /// Notifies the worker that a run stopped, if the worker holds leases of the run. The same stop
    /// is sent once.
    async fn revoke(&mut self, stop: Stop) -> Result<(), Status> {
        let Stop { campaign, run, cause, hang_up } = stop;
        let mut is_news = false;
        for ((id, _), held) in &mut self.held {
            if *id != campaign {
                continue;
            }
            let told = (held.run <= run).then_some((cause, hang_up));
            is_news |= told.is_some() && held.told != told;
            held.told = told;
        }
        if !is_news {
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

    /// Revokes the leases of runs that stopped without a notification.
    pub(super) async fn check_held(&mut self) -> Result<(), Status> {
        let campaigns: HashSet<Uuid> = self.held.keys().map(|(campaign, _)| *campaign).collect();
        let campaigns: Vec<Uuid> = campaigns.into_iter().collect();
        for stop in self.campaigns.stops(&campaigns).await? {
            self.revoke(stop).await?;
        }
        Ok(())
    }
}
