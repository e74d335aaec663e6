//! Stream of a worker, and a worker that takes contacts as fast as it gets them.

use crate::api::Api;
use crate::args::{BATCH_CONTACTS, CONNECTIONS};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::dispatch_service_client::DispatchServiceClient;
use campaign_proto::v1::interaction::Fact;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

/// Batches that a worker has credit for.
const CREDIT_BATCHES: usize = 4;

/// Open stream.
pub struct Stream {
    /// Requests to send. The channel is not bounded: credit bounds the waiting requests.
    requests: mpsc::UnboundedSender<v1::DispatchRequest>,
    responses: Streaming<v1::DispatchResponse>,
    /// Share of the contacts that is traced: one in so many.
    pub trace_every: Option<usize>,
    /// Contacts since the last traced one.
    untraced: usize,
}

impl Stream {
    /// Opens a stream and says hello; serves these campaigns, or all.
    pub async fn open(channel: &Channel, worker_id: String, campaigns: &[String]) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let hello = v1::Hello {
            worker_id,
            protocol_version: 1,
            campaigns: campaigns.to_vec(),
            ..Default::default()
        };
        requests.send(v1::DispatchRequest { message: Some(Request::Hello(hello)) }).unwrap();
        let mut client = DispatchServiceClient::new(channel.clone());
        let responses = client.dispatch(UnboundedReceiverStream::new(receiver)).await.unwrap();
        let responses = responses.into_inner();
        let mut stream = Self { requests, responses, trace_every: None, untraced: 0 };
        let first = stream.next().await;
        assert!(matches!(first, Response::Welcome(_)), "not welcome: {first:?}");
        stream
    }

    pub fn send(&self, message: Request) {
        let request = v1::DispatchRequest { message: Some(message) };
        self.requests.send(request).expect("the service ended the stream");
    }

    pub fn credit(&self, contacts: usize) {
        self.send(Request::Credit(v1::Credit { contacts: i32::try_from(contacts).unwrap() }));
    }

    /// Begins the traces of calls, as a worker would.
    fn traceparents(&mut self, contacts: usize) -> Vec<String> {
        let Some(every) = self.trace_every else { return Vec::new() };
        let passed = self.untraced + contacts;
        self.untraced = passed % every;
        let traced = |_| {
            let trace = uuid::Uuid::new_v4().simple();
            let span = uuid::Uuid::new_v4().as_u64_pair().0;
            format!("00-{trace}-{span:016x}-01")
        };
        (0..passed / every).map(traced).collect()
    }

    /// Returns the next message, which must come.
    pub async fn next(&mut self) -> Response {
        let response = self.responses.message().await.unwrap();
        response.expect("the service ended the stream").message.expect("a message this knows")
    }
}

/// Contacts done by all workers; all workers stop when there are enough.
#[derive(Debug)]
pub struct Done {
    count: AtomicUsize,
    enough: usize,
    pub stop: CancellationToken,
}

impl Done {
    pub fn new(enough: usize) -> Self {
        Self { count: AtomicUsize::new(0), enough, stop: CancellationToken::new() }
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self, contacts: usize) {
        if self.count.fetch_add(contacts, Ordering::Relaxed) + contacts >= self.enough {
            self.stop.cancel();
        }
    }
}

/// Takes batches, asks for `at_once` contacts in each request, and reports every call as answered.
pub async fn work(mut stream: Stream, at_once: usize, done: &Done) {
    stream.credit(BATCH_CONTACTS * CREDIT_BATCHES);
    let mut asked: HashMap<i64, (Vec<v1::LeasedContact>, Vec<String>)> = HashMap::new();
    let (mut ended, mut traced) = (Vec::with_capacity(BATCH_CONTACTS), Vec::new());
    let mut number = 0;
    loop {
        let response = tokio::select! {
            biased;
            () = done.stop.cancelled() => return,
            response = stream.next() => response,
        };
        match response {
            Response::Batch(v1::Batch { lease, mut contacts, .. }) => {
                while !contacts.is_empty() {
                    let rest = contacts.split_off(at_once.min(contacts.len()));
                    let slots = contacts.iter().map(|contact| contact.slot).collect();
                    number += 1;
                    let traceparents = stream.traceparents(contacts.len());
                    asked.insert(number, (contacts, traceparents.clone()));
                    let (request_number, lease) = (number, lease.clone());
                    let authorize = v1::Authorize { request_number, lease, slots, traceparents };
                    stream.send(Request::Authorize(authorize));
                    contacts = rest;
                }
            }
            Response::AuthorizeResult(result) => {
                let (contacts, traces) = asked.remove(&result.request_number).unwrap();
                traced.extend(traces);
                ended.extend(contacts.into_iter().zip(result.attempts).map(answered));
                if ended.len() >= BATCH_CONTACTS || asked.is_empty() {
                    let interactions = std::mem::take(&mut ended);
                    let traceparents = std::mem::take(&mut traced);
                    let report_number = result.request_number;
                    let report = v1::Report { report_number, interactions, traceparents };
                    stream.send(Request::Report(report));
                }
            }
            Response::ReportAck(ack) => {
                assert_recorded(&ack);
                done.add(ack.results.len());
                stream.credit(ack.results.len());
            }
            _ => {}
        }
    }
}

/// Has workers call every contact of a campaign that was launched, and waits until it is completed.
pub async fn call_all(api: &mut Api, campaign: &str, contacts: usize) {
    let done = Arc::new(Done::new(contacts));
    let mut workers = JoinSet::new();
    for n in 0..CONNECTIONS {
        let only = [campaign.to_owned()];
        let stream = Stream::open(&api.channel, format!("bench-{n}"), &only).await;
        let done = Arc::clone(&done);
        workers.spawn(async move { work(stream, BATCH_CONTACTS, &done).await });
    }
    workers.join_all().await;
    api.wait_until_completed(campaign).await;
}

/// Returns the end of a call that must have been granted.
fn answered((contact, attempt): (v1::LeasedContact, v1::AttemptAuthorization)) -> v1::Interaction {
    assert_eq!(attempt.decision(), v1::AuthorizeDecision::Granted);
    call_ended(contact.contact, attempt.attempt_id)
}

/// Returns the end of a call that a person answered.
pub fn call_ended(contact: String, attempt_id: String) -> v1::Interaction {
    let outcome = v1::CallOutcome::Answered.into();
    v1::Interaction {
        contact,
        attempt_id,
        fact: Some(Fact::CallEnded(v1::CallEnded { outcome, ..Default::default() })),
        ..Default::default()
    }
}

pub fn assert_recorded(ack: &v1::ReportAck) {
    let recorded = v1::InteractionStatus::Recorded;
    assert!(ack.results.iter().all(|result| result.status() == recorded), "{:?}", ack.results);
}
