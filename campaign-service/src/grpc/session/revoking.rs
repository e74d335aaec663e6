//! Notifications to one worker: stops, and revoked contacts.

use super::{Session, response};
use crate::app::campaigns::stops::Stop;
use crate::grpc::names;
use crate::store::notify::{ControlEvent, RemovalCause, StopCause};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;
use uuid::Uuid;

impl Session {
    /// Notifies the worker of everything that concerns it, as long as the session lasts.
    pub(super) async fn hear_all(
        &self,
        mut events: broadcast::Receiver<ControlEvent>,
    ) -> Result<(), Status> {
        loop {
            match events.recv().await {
                Ok(ControlEvent::Stopped { campaign, run, cause, hang_up }) => {
                    self.revoke(Stop { campaign, run, cause, hang_up }).await?;
                }
                Ok(ControlEvent::ContactRemoved { campaign, position, cause }) => {
                    self.revoke_contact(campaign, position, cause).await?;
                }
                Ok(ControlEvent::ContactsRemoved { campaign, positions, cause }) => {
                    for position in positions {
                        self.revoke_contact(campaign, position, cause).await?;
                    }
                }
                // The dispatcher hears of work.
                Ok(ControlEvent::Work { .. }) => {}
                Ok(ControlEvent::Missed) | Err(RecvError::Lagged(_)) => self.check_held().await?,
                Err(RecvError::Closed) => {
                    return Err(Status::unavailable("this replica is stopping"));
                }
            }
        }
    }

    /// Notifies the worker that a run stopped, if the worker holds leases of the run. The same stop
    /// is sent once.
    async fn revoke(&self, stop: Stop) -> Result<(), Status> {
        if !self.held().is_news(&stop) {
            return Ok(());
        }
        let reason = match stop.cause {
            StopCause::Paused => v1::RevokeReason::Paused,
            StopCause::Cancelled => v1::RevokeReason::Cancelled,
            StopCause::Completed => v1::RevokeReason::Completed,
        };
        let place = self.place().await?;
        let mut held = self.held();
        held.note_told(&stop);
        let Stop { campaign, run, hang_up, .. } = stop;
        let campaign = format!("campaigns/{campaign}");
        let order =
            v1::Revoke { campaign, contact: String::new(), reason: reason.into(), hang_up, run };
        held.note_order(&order);
        place.send(Ok(response(Response::Revoke(order))));
        Ok(())
    }

    async fn revoke_contact(
        &self,
        campaign: Uuid,
        position: i64,
        cause: RemovalCause,
    ) -> Result<(), Status> {
        if !self.held().has_any_of(campaign) {
            return Ok(());
        }
        let reason = match cause {
            RemovalCause::OptedOut => v1::RevokeReason::OptedOut,
            RemovalCause::Suppressed => v1::RevokeReason::Suppressed,
        };
        let order = v1::Revoke {
            campaign: format!("campaigns/{campaign}"),
            contact: names::contact_name(campaign, position),
            reason: reason.into(),
            hang_up: false,
            run: 0,
        };
        let place = self.place().await?;
        self.held().note_order(&order);
        place.send(Ok(response(Response::Revoke(order))));
        Ok(())
    }

    /// Revokes the leases of runs that stopped without a notification.
    pub(super) async fn check_held(&self) -> Result<(), Status> {
        let campaigns = self.held().campaigns();
        self.check(&campaigns).await
    }

    /// Revokes the leases of these campaigns' runs that stopped.
    pub(super) async fn check(&self, campaigns: &[Uuid]) -> Result<(), Status> {
        for stop in self.campaigns.stops(campaigns).await? {
            self.revoke(stop).await?;
        }
        Ok(())
    }
}
