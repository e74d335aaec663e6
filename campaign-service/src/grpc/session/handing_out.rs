//! Contacts for one worker, as the dispatcher hands them over.

use super::{Session, response};
use crate::app::dispatch::batch::LeasedBatch;
use crate::app::dispatch::dispatcher::Delivery;
use crate::grpc::batches::batch_to_api;
use crate::grpc::page::{ITEM_OVERHEAD_BYTES, MAX_PAGE_BYTES as MAX_BATCH_BYTES};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

impl Session {
    /// Sends what the dispatcher hands over, as long as the session lasts.
    pub(super) async fn hand_out_all(
        &self,
        deliveries: &mut mpsc::Receiver<Delivery>,
    ) -> Result<(), Status> {
        while let Some(delivery) = deliveries.recv().await {
            match delivery {
                Delivery::Batch { batch, stops_heard } => {
                    self.hand_out(*batch, stops_heard).await?;
                }
                Delivery::Idle { credit } => {
                    let credit_contacts = i32::try_from(credit).unwrap_or(i32::MAX);
                    self.send(Response::Idle(v1::Idle { credit_contacts })).await?;
                }
            }
        }
        // The registration is gone: the worker was asked to leave.
        std::future::pending().await
    }

    async fn hand_out(&self, batch: LeasedBatch, stops_heard: u64) -> Result<(), Status> {
        let (key, run) = (batch.key(), batch.lease.run);
        let is_leaving = self.registration().is_none();
        if is_leaving {
            self.dispatch.release(key, &[]).await?;
            return Ok(());
        }
        let mut batch = batch_to_api(batch);
        let too_many = beyond(MAX_BATCH_BYTES, &mut batch.contacts);
        if !too_many.is_empty() {
            self.dispatch.release(key, &too_many).await?;
            self.ask(too_many.len());
        }
        self.metrics.calls.leases.inc();
        self.metrics.calls.leased_contacts.inc_by(batch.contacts.len() as u64);
        let place = self.place().await?;
        {
            // A stop that is heard from now on finds the lease held, and is sent after the batch.
            let mut held = self.held();
            let gone_at = Instant::now() + self.dispatch.limits.lease_ttl;
            held.hold(key.campaign, key.number, run, gone_at);
            place.send(Ok(response(Response::Batch(batch))));
        }
        if self.control.stops_heard() != stops_heard {
            // The run may have stopped while the batch was on its way here.
            self.check(&[key.campaign]).await?;
        }
        Ok(())
    }

    /// Lets the worker take more contacts.
    pub(super) fn ask(&self, contacts: usize) {
        if let Some(registration) = self.registration().as_ref() {
            registration.ask(contacts);
        }
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
