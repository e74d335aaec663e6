//! Worker under the test's control.

use super::{Clients, PATIENCE};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Contact that the worker holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub lease: v1::LeaseKey,
    pub slot: i32,
    pub contact: String,
    pub phone: String,
    pub attempt_number: i32,
    pub link: String,
}

/// Worker with one open stream.
#[derive(Debug)]
pub struct Worker {
    requests: mpsc::Sender<v1::DispatchRequest>,
    responses: Streaming<v1::DispatchResponse>,
    pub welcome: v1::Welcome,
    /// Credit that the service has not used yet.
    credit: i32,
    /// Messages that came while the worker waited for another.
    early: VecDeque<Response>,
    next_number: i64,
}

impl Worker {
    /// Connects a worker that serves only one campaign.
    pub async fn connect(clients: &Clients, worker_id: &str, campaign: &str) -> Self {
        Self::reconnect(clients, worker_id, campaign, Vec::new()).await
    }

    /// Connects a worker that goes on with leases.
    pub async fn reconnect(
        clients: &Clients,
        worker_id: &str,
        campaign: &str,
        leases: Vec<v1::LeaseKey>,
    ) -> Self {
        let hello = v1::Hello {
            worker_id: worker_id.to_owned(),
            protocol_version: 1,
            leases,
            campaigns: vec![campaign.to_owned()],
            ..Default::default()
        };
        Self::open(clients, Request::Hello(hello)).await.unwrap()
    }

    /// Opens a stream with a first message of any kind.
    pub async fn open(clients: &Clients, first: Request) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(64);
        requests.send(v1::DispatchRequest { message: Some(first) }).await.unwrap();
        let mut client = clients.dispatch.clone();
        let mut responses = client.dispatch(ReceiverStream::new(receiver)).await?.into_inner();
        let first = responses.message().await?.and_then(|response| response.message);
        let Some(Response::Welcome(welcome)) = first else { panic!("not welcome: {first:?}") };
        Ok(Self { requests, responses, welcome, credit: 0, early: VecDeque::new(), next_number: 1 })
    }

    pub async fn send(&self, message: Request) {
        self.requests.send(v1::DispatchRequest { message: Some(message) }).await.unwrap();
    }

    /// Returns the next message, which must come.
    pub async fn next(&mut self) -> Result<Response, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        let message = message.expect("no message came")?;
        Ok(message.expect("the stream ended").message.expect("an empty message"))
    }

    /// Returns the next message that `pick` takes. The others wait for their turn.
    pub async fn wait<T>(&mut self, mut pick: impl FnMut(&Response) -> Option<T>) -> T {
        if let Some(at) = self.early.iter().position(|message| pick(message).is_some()) {
            let message = self.early.remove(at).unwrap();
            return pick(&message).unwrap();
        }
        loop {
            let message = self.next().await.unwrap();
            if let Some(picked) = pick(&message) {
                return picked;
            }
            self.early.push_back(message);
        }
    }

    /// Gives credit and takes contacts until there are none, or the credit is used up. Returns the contacts.
    pub async fn lease(&mut self, contacts: i32) -> Vec<Held> {
        self.send(Request::Credit(v1::Credit { contacts })).await;
        self.credit += contacts;
        let mut held = Vec::new();
        while self.credit > 0 {
            let credit = self.credit;
            let batch = self
                .wait(|message| match message {
                    Response::Batch(batch) => Some(Some(batch.clone())),
                    // An earlier idle message names another credit.
                    Response::Idle(idle) if idle.credit_contacts == credit => Some(None),
                    _ => None,
                })
                .await;
            let Some(batch) = batch else { break };
            self.credit -= i32::try_from(batch.contacts.len()).unwrap();
            held.extend(unpack(&batch));
        }
        held
    }

    /// Asks for contacts, and waits until some come.
    pub async fn lease_some(&mut self, contacts: i32) -> Vec<Held> {
        let held = self.lease(contacts).await;
        if held.is_empty() { self.batch().await } else { held }
    }

    /// Returns the next batch, whenever it comes.
    pub async fn batch(&mut self) -> Vec<Held> {
        let batch = self
            .wait(|message| match message {
                Response::Batch(batch) => Some(batch.clone()),
                _ => None,
            })
            .await;
        self.credit -= i32::try_from(batch.contacts.len()).unwrap();
        unpack(&batch)
    }

    /// Returns whether an idle message came while the worker waited for another.
    pub fn was_told_to_wait(&self) -> bool {
        self.early.iter().any(|message| matches!(message, Response::Idle(_)))
    }

    /// Asks to authorise contacts. Returns the decision and attempt ID of each.
    pub async fn authorize(&mut self, held: &[Held]) -> Vec<(v1::AuthorizeDecision, String)> {
        let mut decisions = Vec::new();
        // One request for each run of contacts that share a lease.
        for chunk in held.chunk_by(|a, b| a.lease == b.lease) {
            let slots = chunk.iter().map(|held| held.slot).collect();
            let result = self.authorize_slots(&chunk[0].lease, slots).await;
            decisions.extend(
                result
                    .attempts
                    .iter()
                    .map(|attempt| (attempt.decision(), attempt.attempt_id.clone())),
            );
        }
        decisions
    }

    pub async fn authorize_slots(
        &mut self,
        lease: &v1::LeaseKey,
        slots: Vec<i32>,
    ) -> v1::AuthorizeResult {
        let request_number = self.number();
        let lease = Some(lease.clone());
        let authorize = v1::Authorize { request_number, lease, slots, ..Default::default() };
        self.send(Request::Authorize(authorize)).await;
        self.wait(|message| match message {
            Response::AuthorizeResult(result) if result.request_number == request_number => {
                Some(result.clone())
            }
            _ => None,
        })
        .await
    }

    /// Asks to authorise one contact, which must be granted. Returns its attempt ID.
    pub async fn granted(&mut self, held: &Held) -> String {
        let (decision, attempt) = self.authorize(std::slice::from_ref(held)).await.remove(0);
        assert_eq!(decision, v1::AuthorizeDecision::Granted);
        attempt
    }

    /// Reports facts. Returns the result of each.
    pub async fn report(
        &mut self,
        interactions: Vec<v1::Interaction>,
    ) -> Vec<v1::InteractionResult> {
        let report_number = self.number();
        let report = v1::Report { report_number, interactions, ..Default::default() };
        self.send(Request::Report(report)).await;
        self.wait(|message| match message {
            Response::ReportAck(ack) if ack.report_number == report_number => {
                Some(ack.results.clone())
            }
            _ => None,
        })
        .await
    }

    /// Reports how an attempt ended.
    pub async fn end(
        &mut self,
        held: &Held,
        attempt_id: &str,
        outcome: v1::CallOutcome,
    ) -> v1::InteractionStatus {
        let fact = Fact::CallEnded(v1::CallEnded { outcome: outcome.into(), ..Default::default() });
        self.tell(held, attempt_id, "", fact).await
    }

    /// Reports one fact of an attempt.
    pub async fn tell(
        &mut self,
        held: &Held,
        attempt_id: &str,
        interaction_id: &str,
        fact: Fact,
    ) -> v1::InteractionStatus {
        let interaction = v1::Interaction {
            interaction_id: interaction_id.to_owned(),
            contact: held.contact.clone(),
            attempt_id: attempt_id.to_owned(),
            fact: Some(fact),
            ..Default::default()
        };
        self.report(vec![interaction]).await[0].status()
    }

    /// Returns the next revocation.
    pub async fn revoked(&mut self) -> v1::Revoke {
        self.wait(|message| match message {
            Response::Revoke(revoke) => Some(revoke.clone()),
            _ => None,
        })
        .await
    }

    /// Closes the stream and waits until the service has noticed. Nothing is leased to the worker after that.
    /// Returns the contacts that came meanwhile.
    pub async fn close(self) -> Vec<Held> {
        let Self { requests, mut responses, early, .. } = self;
        drop(requests);
        let mut messages: Vec<Response> = early.into();
        while let Some(response) = responses.message().await.unwrap() {
            messages.extend(response.message);
        }
        let batch = |message| match message {
            Response::Batch(batch) => unpack(&batch),
            _ => Vec::new(),
        };
        messages.into_iter().flat_map(batch).collect()
    }

    /// Releases these slots of a lease, or all if none is named. Returns how many were released.
    pub async fn release(&mut self, lease: &v1::LeaseKey, slots: Vec<i32>) -> i32 {
        self.send(Request::Release(v1::Release { lease: Some(lease.clone()), slots })).await;
        let name = lease.lease.clone();
        self.wait(|message| match message {
            Response::ReleaseAck(ack) if ack.lease == name => Some(ack.released),
            _ => None,
        })
        .await
    }

    fn number(&mut self) -> i64 {
        self.next_number += 1;
        self.next_number
    }
}

fn unpack(batch: &v1::Batch) -> Vec<Held> {
    let held = |contact: &v1::LeasedContact| Held {
        lease: batch.lease.clone().unwrap(),
        slot: contact.slot,
        contact: contact.contact.clone(),
        phone: contact.phone_number.clone(),
        attempt_number: contact.attempt_number,
        link: contact.link.clone(),
    };
    batch.contacts.iter().map(held).collect()
}
