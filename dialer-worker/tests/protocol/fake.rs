//! Dispatch service that a test controls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::dispatch_service_server::{DispatchService, DispatchServiceServer};
use campaign_proto::v1::interaction::Fact as ReportedFact;
use campaign_proto::v1::interaction_service_server::{
    InteractionService, InteractionServiceServer,
};
use campaign_proto::v1::{
    AttemptAuthorization, Authorize, AuthorizeDecision, AuthorizeResult, Batch, CallOutcome,
    DispatchRequest, DispatchResponse, Hello, Interaction, InteractionResult, InteractionStatus,
    LeaseKey, LeasedContact, ProviderReport, RecordInteractionsRequest, RecordInteractionsResponse,
    Release, ReleaseAck, RenewedLease, Report, ReportAck, RouteInboundRequest,
    RouteInboundResponse, Welcome,
};
use dialer_worker::call::Outcome;
use prost_types::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Status, Streaming};

/// Limit of every wait in a test. A worker that looks up its last call may be silent for 20 seconds.
const DEADLINE: Duration = Duration::from_secs(30);
const CAMPAIGN: &str = "campaigns/a";
const RUN: i32 = 3;

pub async fn within<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    timeout(DEADLINE, wanted).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Service on a port of its own. The test receives each stream that a worker opens.
pub struct FakeService {
    pub url: String,
    streams: mpsc::Receiver<FakeStream>,
    /// Requests to record without a lease. The first of them is answered UNAVAILABLE.
    #[allow(dead_code, reason = "the tests of the HTTP provider use it")]
    pub records: mpsc::Receiver<RecordInteractionsRequest>,
}

struct Acceptor(mpsc::Sender<FakeStream>);

struct Recorder(mpsc::Sender<RecordInteractionsRequest>, AtomicBool);

#[tonic::async_trait]
impl InteractionService for Recorder {
    async fn record_interactions(
        &self,
        request: tonic::Request<RecordInteractionsRequest>,
    ) -> Result<tonic::Response<RecordInteractionsResponse>, Status> {
        if !self.1.swap(true, Ordering::Relaxed) {
            return Err(Status::unavailable("not yet"));
        }
        let request = request.into_inner();
        let result = InteractionResult {
            status: InteractionStatus::Recorded.into(),
            ..InteractionResult::default()
        };
        let results = vec![result; request.interactions.len()];
        self.0.send(request).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(tonic::Response::new(RecordInteractionsResponse { results }))
    }

    async fn route_inbound(
        &self,
        _request: tonic::Request<RouteInboundRequest>,
    ) -> Result<tonic::Response<RouteInboundResponse>, Status> {
        Err(Status::unimplemented("nobody calls in"))
    }
}

#[tonic::async_trait]
impl DispatchService for Acceptor {
    type DispatchStream = ReceiverStream<Result<DispatchResponse, Status>>;

    async fn dispatch(
        &self,
        request: tonic::Request<Streaming<DispatchRequest>>,
    ) -> Result<tonic::Response<Self::DispatchStream>, Status> {
        let (responses, stream) = mpsc::channel(100);
        let stream_for_test = FakeStream { requests: request.into_inner(), responses };
        self.0.send(stream_for_test).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }
}

impl FakeService {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (sender, streams) = mpsc::channel(10);
        let service = DispatchServiceServer::new(Acceptor(sender));
        let (recorder, records) = mpsc::channel(10);
        let recorder = InteractionServiceServer::new(Recorder(recorder, AtomicBool::new(false)));
        let server = Server::builder().add_service(service).add_service(recorder);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, streams, records }
    }

    /// Returns the next stream, with its hello.
    pub async fn accept(&mut self) -> (FakeStream, Hello) {
        let mut stream = within("a stream", self.streams.recv()).await.expect("server runs");
        let Request::Hello(hello) = stream.next().await else { panic!("hello comes first") };
        (stream, hello)
    }

    /// Welcomes the next stream. Returns it with the credit that comes first.
    pub async fn welcome(&mut self) -> (FakeStream, i32) {
        self.welcome_with(Welcome::default()).await
    }

    pub async fn welcome_with(&mut self, welcome: Welcome) -> (FakeStream, i32) {
        let (mut stream, hello) = self.accept().await;
        assert_eq!(hello.leases, []);
        stream.welcome(welcome).await;
        let credit = stream.credit().await;
        (stream, credit)
    }
}

/// The service's end of one stream. Dropping it cuts the stream.
pub struct FakeStream {
    requests: Streaming<DispatchRequest>,
    responses: mpsc::Sender<Result<DispatchResponse, Status>>,
}

impl FakeStream {
    pub async fn send(&self, message: Response) {
        let response = DispatchResponse { message: Some(message) };
        let _ = self.responses.send(Ok(response)).await;
    }

    /// Sends `welcome` with limits that suit a test.
    pub async fn welcome(&self, welcome: Welcome) {
        let lease_ttl = prost_types::Duration { seconds: 60, nanos: 0 };
        self.send(Response::Welcome(Welcome {
            lease_ttl: welcome.lease_ttl.or(Some(lease_ttl)),
            max_batch_contacts: 500,
            max_credit_contacts: 1_000,
            max_report_interactions: 500,
            leases: welcome.leases,
            call_outcomes: if welcome.call_outcomes.is_empty() {
                Outcome::ALL.map(|outcome| outcome.to_api().into()).to_vec()
            } else {
                welcome.call_outcomes
            },
        }))
        .await;
    }

    pub async fn try_next(&mut self) -> Option<Request> {
        let next = within("a message", self.requests.message()).await;
        next.ok().flatten().and_then(|request| request.message)
    }

    pub async fn next(&mut self) -> Request {
        self.try_next().await.expect("the stream goes on")
    }

    pub async fn credit(&mut self) -> i32 {
        match self.next().await {
            Request::Credit(credit) => credit.contacts,
            other => panic!("not credit: {other:?}"),
        }
    }

    /// Returns the next authorisation request. Credit is skipped, reports are acknowledged.
    pub async fn authorize(&mut self) -> Authorize {
        loop {
            match self.next().await {
                Request::Authorize(authorize) => return authorize,
                Request::Report(report) => self.acknowledge(&report).await,
                Request::Credit(_) | Request::ProviderReport(_) => {}
                other => panic!("not authorize: {other:?}"),
            }
        }
    }

    /// Returns the next report. Credit is skipped.
    pub async fn report(&mut self) -> Report {
        loop {
            match self.next().await {
                Request::Report(report) => return report,
                Request::Credit(_) => {}
                other => panic!("not a report: {other:?}"),
            }
        }
    }

    /// Returns the next release. Credit is skipped.
    pub async fn release(&mut self) -> Release {
        loop {
            match self.next().await {
                Request::Release(release) => return release,
                Request::Credit(_) | Request::ProviderReport(_) => {}
                other => panic!("not a release: {other:?}"),
            }
        }
    }

    /// Returns the next credit. Releases and reports are acknowledged.
    pub async fn credit_after_idle(&mut self) -> i32 {
        loop {
            match self.next().await {
                Request::Credit(credit) => return credit.contacts,
                Request::Release(release) => self.acknowledge_release(&release).await,
                Request::Report(report) => self.acknowledge(&report).await,
                Request::ProviderReport(_) => {}
                other => panic!("not credit: {other:?}"),
            }
        }
    }

    /// Returns the next message other than credit. Reports are acknowledged.
    pub async fn next_of_work(&mut self) -> Request {
        loop {
            match self.next().await {
                Request::Report(report) => self.acknowledge(&report).await,
                Request::Credit(_) => {}
                other => return other,
            }
        }
    }

    /// Returns the next provider report. Credit is skipped, releases and reports are acknowledged.
    pub async fn provider_report(&mut self) -> ProviderReport {
        loop {
            match self.next().await {
                Request::ProviderReport(report) => return report,
                Request::Credit(_) => {}
                Request::Release(release) => self.acknowledge_release(&release).await,
                Request::Report(report) => self.acknowledge(&report).await,
                other => panic!("not a word on the provider: {other:?}"),
            }
        }
    }

    /// Sends a lease of `contacts` contacts.
    pub async fn lease(&self, number: u32, contacts: i32) {
        self.lease_slots(number, 0..contacts).await;
    }

    /// Sends a lease of these slots. Each slot is also the end of its contact's number.
    pub async fn lease_slots(&self, number: u32, slots: impl IntoIterator<Item = i32>) {
        let contacts = slots.into_iter().map(|slot| LeasedContact {
            slot,
            contact: contact(slot),
            phone_number: format!("+1555{slot:07}"),
            link: link(slot),
            ..LeasedContact::default()
        });
        self.send(Response::Batch(Batch {
            lease: Some(key(number)),
            campaign: CAMPAIGN.to_owned(),
            run: RUN,
            contacts: contacts.collect(),
            ..Batch::default()
        }))
        .await;
    }

    /// Answers with one decision per slot.
    pub async fn decide(&self, asked: &Authorize, decisions: &[AuthorizeDecision]) {
        assert_eq!(asked.slots.len(), decisions.len(), "asked for {:?}", asked.slots);
        let lease = &asked.lease.as_ref().expect("a lease").lease;
        let number = lease.rsplit('/').next().expect("a number");
        let attempts = asked.slots.iter().zip(decisions).map(|(slot, decision)| {
            let attempt_id = format!("{RUN}-{number}-{slot}");
            AttemptAuthorization { slot: *slot, decision: (*decision).into(), attempt_id }
        });
        let request_number = asked.request_number;
        let attempts = attempts.collect();
        self.send(Response::AuthorizeResult(AuthorizeResult {
            request_number,
            attempts,
            retry_delay: None,
        }))
        .await;
    }

    /// Waits for an authorisation request and grants all of it.
    pub async fn grant(&mut self) -> Authorize {
        let asked = self.authorize().await;
        let granted = vec![AuthorizeDecision::Granted; asked.slots.len()];
        self.decide(&asked, &granted).await;
        asked
    }

    pub async fn acknowledge(&self, report: &Report) {
        let result = InteractionResult {
            status: InteractionStatus::Recorded.into(),
            ..InteractionResult::default()
        };
        let results = vec![result; report.interactions.len()];
        let report_number = report.report_number;
        self.send(Response::ReportAck(ReportAck { report_number, results })).await;
    }

    pub async fn acknowledge_release(&self, release: &Release) {
        let lease = release.lease.as_ref().expect("a lease").lease.clone();
        let released = i32::try_from(release.slots.len()).expect("few");
        self.send(Response::ReleaseAck(ReleaseAck { lease, released })).await;
    }

    /// Receives and acknowledges `count` facts, in any number of reports.
    pub async fn take_facts(&mut self, count: usize) -> Vec<Interaction> {
        let mut facts = Vec::new();
        while facts.len() < count {
            let report = self.report().await;
            self.acknowledge(&report).await;
            facts.extend(report.interactions);
        }
        facts
    }

    /// Acknowledges messages until the worker ends the stream. No authorisation request may come.
    pub async fn end(mut self) {
        while let Some(said) = self.try_next().await {
            match said {
                Request::Report(report) => self.acknowledge(&report).await,
                Request::Release(release) => self.acknowledge_release(&release).await,
                Request::Credit(_) | Request::ProviderReport(_) => {}
                other => panic!("expected the end: {other:?}"),
            }
        }
    }
}

pub fn key(number: u32) -> LeaseKey {
    LeaseKey { lease: format!("{CAMPAIGN}/leases/{number}"), token: format!("token-{number}") }
}

/// Returns the link of a slot. The first contact has none.
pub fn link(slot: i32) -> String {
    if slot == 0 { String::new() } else { format!("https://a.example/l/{slot}") }
}

pub fn contact(slot: i32) -> String {
    format!("{CAMPAIGN}/contacts/{slot}")
}

/// Returns the outcome of a reported end of a call.
pub fn outcome(fact: &Interaction) -> Option<CallOutcome> {
    match &fact.fact {
        Some(ReportedFact::CallEnded(ended)) => Some(ended.outcome()),
        _ => None,
    }
}

/// Names each fact by its id. The end of a call is named by its attempt.
pub fn keys(facts: &[Interaction]) -> Vec<String> {
    let mut keys: Vec<_> = facts
        .iter()
        .map(|fact| match outcome(fact) {
            Some(_) => fact.attempt_id.clone(),
            None => fact.interaction_id.clone(),
        })
        .collect();
    keys.sort();
    keys
}

pub fn kept(number: u32) -> RenewedLease {
    let expire_time = Some(Timestamp::default());
    RenewedLease { lease: key(number).lease, expire_time, lost: false }
}

pub fn lost(number: u32) -> RenewedLease {
    RenewedLease { lease: key(number).lease, expire_time: None, lost: true }
}

/// Welcomes the next stream and keeps all leases that it names.
pub async fn welcome_back(service: &mut FakeService, leases: &[u32]) -> FakeStream {
    let (stream, hello) = service.accept().await;
    assert_eq!(hello.leases, leases.iter().copied().map(key).collect::<Vec<_>>());
    let leases = leases.iter().copied().map(kept).collect();
    stream.welcome(Welcome { leases, ..Welcome::default() }).await;
    stream
}
