//! Leasing for one worker. Campaigns take turns by weight.

use super::{IDLE_POLL, Session};
use crate::app::dispatch::batch::{LeaseKey, Leased};
use crate::app::error::Error;
use crate::grpc::batches::batch_to_api;
use crate::grpc::names::CampaignName;
use crate::grpc::page::{ITEM_OVERHEAD_BYTES, MAX_PAGE_BYTES as MAX_BATCH_BYTES};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use prost::Message;
use tonic::Status;
use tracing::warn;
use uuid::Uuid;

impl Session {
    /// Leases contacts from the campaign whose turn it is. If no campaign has contacts, tells the
    /// worker to wait.
    pub(super) async fn lease_next(&mut self) -> Result<(), Status> {
        // An urgent campaign comes first, before the round.
        if let Some(campaign) = self.urgent.take()
            && self.lease_from(campaign).await?
        {
            return Ok(());
        }
        if self.round.is_empty() || self.round_ends_at <= tokio::time::Instant::now() {
            self.start_round().await?;
        }
        if self.lease_of_round().await? {
            return Ok(());
        }
        self.is_idle = true;
        let credit_contacts = i32::try_from(self.credit).unwrap_or(i32::MAX);
        self.send(Response::Idle(v1::Idle { credit_contacts })).await
    }

    /// Checks whether contacts became due. The worker knows that it waits, so that it is sent only
    /// contacts.
    pub(super) async fn poll(&mut self) -> Result<(), Status> {
        self.start_round().await?;
        self.is_idle = !self.lease_of_round().await?;
        Ok(())
    }

    async fn start_round(&mut self) -> Result<(), Status> {
        let mut running = self.dispatch.running_campaigns(&self.reach).await?;
        running.retain(|(campaign, _)| self.serves(*campaign));
        let ids: Vec<Uuid> = running.iter().map(|(campaign, _)| *campaign).collect();
        self.shares.keep(&ids);
        self.round = running.into_iter().collect();
        self.round_ends_at = tokio::time::Instant::now() + IDLE_POLL;
        Ok(())
    }

    pub(super) fn serves(&self, campaign: Uuid) -> bool {
        self.only.is_empty() || self.only.contains(&CampaignName::of(campaign))
    }

    /// Leases from one campaign of the round. Returns whether a campaign had contacts.
    async fn lease_of_round(&mut self) -> Result<bool, Status> {
        while let Some(campaign) = self.shares.next(self.round.keys().copied()) {
            if self.lease_from(campaign).await? {
                return Ok(true);
            }
            self.round.remove(&campaign);
            self.shares.had_nothing(campaign);
        }
        Ok(false)
    }

    /// Leases from a campaign and sends the batch. Returns whether the campaign may have contacts.
    async fn lease_from(&mut self, campaign: Uuid) -> Result<bool, Status> {
        let weight = self.round.get(&campaign).copied().unwrap_or(1);
        let batch = match self.dispatch.lease(&self.worker_id, campaign, self.credit).await {
            Ok(Leased::Batch(batch)) => batch,
            Ok(Leased::NothingYet) => {
                // The search cost about as much as a full batch, so others come first.
                self.shares.handed(campaign, self.dispatch.limits.max_batch_contacts, weight);
                return Ok(true);
            }
            Ok(Leased::Nothing) | Err(Error::NotFound(_)) => return Ok(false),
            // Trouble with one campaign must not keep the others from this worker.
            Err(error) => {
                warn!(%campaign, %error, "contacts could not be leased; leasing is retried");
                return Ok(false);
            }
        };
        let key = LeaseKey { campaign, number: batch.lease.number, token: batch.lease.token };
        let run = batch.lease.run;
        let mut batch = batch_to_api(*batch);
        let too_many = beyond(MAX_BATCH_BYTES, &mut batch.contacts);
        if !too_many.is_empty() {
            self.dispatch.release(key, &too_many).await?;
        }
        self.shares.handed(campaign, batch.contacts.len(), weight);
        self.credit = self.credit.saturating_sub(batch.contacts.len());
        self.metrics.calls.leases.inc();
        self.metrics.calls.leased_contacts.inc_by(batch.contacts.len() as u64);
        let now = tokio::time::Instant::now();
        self.held.retain(|_, held| held.gone_at > now);
        self.hold(campaign, key.number, run);
        self.send(Response::Batch(batch)).await?;
        Ok(true)
    }
}

/// Cuts `contacts` to `max_bytes`, but to at least one contact. Returns the slots of the others.
fn beyond(max_bytes: usize, contacts: &mut Vec<v1::LeasedContact>) -> Vec<usize> {
    let mut bytes = 0;
    let fits = |contact: &v1::LeasedContact| {
        bytes += contact.encoded_len() + ITEM_OVERHEAD_BYTES;
        bytes <= max_bytes
    };
    let count = contacts.iter().map(fits).take_while(|fits| *fits).count();
    let slots = contacts.drain(count.max(1).min(contacts.len())..);
    slots.filter_map(|contact| usize::try_from(contact.slot).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_to_what_clients_take() {
        let contact = |slot| v1::LeasedContact {
            slot,
            display_name: "x".repeat(1_000),
            ..Default::default()
        };
        for (max_bytes, kept) in [(10_000, 9), (100_000, 20), (10, 1)] {
            let mut contacts: Vec<_> = (0..20).map(contact).collect();
            let given_back = beyond(max_bytes, &mut contacts);
            assert_eq!(contacts.len(), kept);
            assert_eq!(given_back, (kept..20).collect::<Vec<_>>());
        }
    }
}
