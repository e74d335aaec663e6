//! Texts that people send to our numbers. A text has only a number, so an opt-out goes to the
//! service by that number, for all campaigns.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use campaign_process::traces::TraceContext;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{Interaction, OptedOut, RecordInteractionsRequest, ReportedInteraction};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::info;

use super::config::Channel;
use super::platform::{InboundText, Wish};
use crate::recorder::Recorder;
use crate::service::Replica;

/// Most opt-outs that wait for the service.
const MAX_WAITING: usize = 1_000;
/// Recorder of opt-outs by text.
pub(super) struct Texts {
    /// Campaign that stands for the tenant. Its contact, if the number has one, gets the fact.
    campaign: String,
    service: Recorder,
    waiting: Arc<Semaphore>,
}

impl Texts {
    pub fn new(campaign: String, replicas: &[Replica]) -> Self {
        Self {
            campaign,
            service: Recorder::new(replicas),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Handles a text. Completes when its opt-out is durable.
    pub async fn hear(self: &Arc<Self>, text: &InboundText) -> Result<(), StatusCode> {
        match text.wish {
            Wish::Stop => {}
            Wish::Start => {
                info!(
                    text = text.id,
                    "a person texts START; an opt-out holds until an admin removes the number"
                );
                return Ok(());
            }
            Wish::None => return Ok(()),
        }
        let place = Arc::clone(&self.waiting).try_acquire_owned();
        let place = place.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let (texts, request) = (Arc::clone(self), self.request(text));
        // Goes on even if the platform does not wait for it.
        let recorded = tokio::spawn(async move {
            let is_recorded =
                texts.service.record("an opt-out by text", request, &TraceContext::default()).await;
            drop(place);
            is_recorded
        });
        match recorded.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StatusCode::UNPROCESSABLE_ENTITY),
            Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Waits until no opt-out waits for the service, for the grace at most. Returns how many do.
    pub async fn stop(&self, grace: Duration) -> usize {
        let all = u32::try_from(MAX_WAITING).unwrap_or(u32::MAX);
        let _ = timeout(grace, self.waiting.acquire_many(all)).await;
        MAX_WAITING - self.waiting.available_permits()
    }

    fn request(&self, text: &InboundText) -> RecordInteractionsRequest {
        let opted_out = OptedOut { channel: Channel::Sms.name().to_owned(), everywhere: true };
        let interaction = Interaction {
            interaction_id: format!("text.{}", text.id),
            occur_time: Some(SystemTime::now().into()),
            fact: Some(Fact::OptedOut(opted_out)),
            ..Interaction::default()
        };
        let reported =
            ReportedInteraction { interaction: Some(interaction), phone_number: text.from.clone() };
        RecordInteractionsRequest { parent: self.campaign.clone(), interactions: vec![reported] }
    }
}
