//! Dispatch service without a database, which grants everything: a measurement behind it covers the worker alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::dispatch_service_server::{DispatchService, DispatchServiceServer};
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AttemptAuthorization, AuthorizeDecision, AuthorizeResult, Batch, CallEnded, CallOutcome,
    DispatchRequest, DispatchResponse, InteractionResult, InteractionStatus, LeaseKey,
    LeasedContact, Release, ReleaseAck, RenewResult, RenewedLease, Report, ReportAck, Welcome,
};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Status, Streaming};

use crate::Result;
use crate::campaign::phone_number;

/// Most contacts in one batch.
const MAX_BATCH_CONTACTS: u64 = 500;

/// Contacts to call, and the number of calls that ended.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Address of the service, `host:port`.
    pub address: String,
    books: Arc<Books>,
}

#[derive(Debug)]
struct Books {
    contacts: u64,
    leased: AtomicU64,
    ended: AtomicU64,
    answered: AtomicU64,
    released: AtomicU64,
    progress: Notify,
}

impl Dispatch {
    /// Serves so many contacts.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(contacts: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let books = Arc::new(Books {
            contacts,
            leased: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            released: AtomicU64::new(0),
            progress: Notify::new(),
        });
        let service = DispatchServiceServer::new(Granting { books: Arc::clone(&books) });
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { address, books })
    }

    /// Returns the number of calls that ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.books.ended.load(Ordering::Relaxed)
    }

    /// Returns the number of calls that ended after an answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.books.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many calls have ended.
    ///
    /// # Errors
    /// When the worker gave contacts back, because calls failed.
    pub async fn until_ended(&self, calls: u64) -> Result<()> {
        while self.ended() < calls {
            let released = self.books.released.load(Ordering::Relaxed);
            if released > 0 {
                let text = "the worker gave contacts back: the other side does not keep up; use a lower rate";
                return Err(text.into());
            }
            self.books.progress.notified().await;
        }
        Ok(())
    }
}

struct Granting {
    books: Arc<Books>,
}

#[tonic::async_trait]
impl DispatchService for Granting {
    type DispatchStream = ReceiverStream<std::result::Result<DispatchResponse, Status>>;

    async fn dispatch(
        &self,
        request: tonic::Request<Streaming<DispatchRequest>>,
    ) -> std::result::Result<tonic::Response<Self::DispatchStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, responses) = mpsc::channel(1_000);
        let books = Arc::clone(&self.books);
        tokio::spawn(async move {
            while let Ok(Some(DispatchRequest { message: Some(message) })) =
                requests.message().await
            {
                for response in books.answer(message) {
                    let response = DispatchResponse { message: Some(response) };
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(responses)))
    }
}

impl Books {
    fn answer(&self, message: Request) -> Vec<Response> {
        match message {
            Request::Hello(_) => vec![Response::Welcome(Welcome {
                lease_ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
                max_batch_contacts: 500,
                max_credit_contacts: 10_000,
                max_report_interactions: 500,
                leases: Vec::new(),
                call_outcomes: (1..=CallOutcome::Cancelled.into()).collect(),
            })],
            Request::Credit(credit) => self.lease(u64::try_from(credit.contacts).unwrap_or(0)),
            Request::Authorize(asked) => {
                let lease = asked.lease.unwrap_or_default().lease;
                let number = lease.rsplit('/').next().unwrap_or_default();
                let attempts = asked.slots.iter().map(|slot| AttemptAuthorization {
                    slot: *slot,
                    decision: AuthorizeDecision::Granted.into(),
                    attempt_id: format!("1-{number}-{slot}"),
                });
                let attempts = attempts.collect();
                let request_number = asked.request_number;
                vec![Response::AuthorizeResult(AuthorizeResult {
                    request_number,
                    attempts,
                    retry_delay: None,
                })]
            }
            Request::Report(report) => vec![Response::ReportAck(self.take(&report))],
            Request::ProviderReport(_) => Vec::new(),
            Request::Renew(renew) => {
                let leases = renew.leases.into_iter().map(|key| RenewedLease {
                    lease: key.lease,
                    expire_time: Some(prost_types::Timestamp::default()),
                    lost: false,
                });
                vec![Response::RenewResult(RenewResult { leases: leases.collect() })]
            }
            Request::Release(Release { lease, slots }) => {
                let released = i32::try_from(slots.len()).unwrap_or(i32::MAX);
                self.released.fetch_add(slots.len() as u64, Ordering::Relaxed);
                self.progress.notify_one();
                let lease = lease.unwrap_or_default().lease;
                vec![Response::ReleaseAck(ReleaseAck { lease, released })]
            }
        }
    }

    fn lease(&self, credit: u64) -> Vec<Response> {
        let mut batches = Vec::new();
        let mut credit = credit;
        while credit > 0 {
            let leased = self.leased.load(Ordering::Relaxed);
            let count = credit.min(MAX_BATCH_CONTACTS).min(self.contacts - leased);
            if count == 0 {
                break;
            }
            self.leased.store(leased + count, Ordering::Relaxed);
            credit -= count;
            let contacts = (0..count).map(|slot| LeasedContact {
                slot: i32::try_from(slot).unwrap_or(i32::MAX),
                contact: format!("campaigns/bench/contacts/{}", leased + slot),
                phone_number: phone_number(usize::try_from(leased + slot).unwrap_or(0)),
                ..LeasedContact::default()
            });
            batches.push(Response::Batch(Batch {
                lease: Some(LeaseKey {
                    lease: format!("campaigns/bench/leases/{leased}"),
                    token: "token".to_owned(),
                }),
                campaign: "campaigns/bench".to_owned(),
                run: 1,
                contacts: contacts.collect(),
                ..Batch::default()
            }));
        }
        batches
    }

    fn take(&self, report: &Report) -> ReportAck {
        for interaction in &report.interactions {
            if let Some(Fact::CallEnded(ended)) = &interaction.fact {
                self.note(ended);
            }
        }
        self.progress.notify_one();
        let recorded = InteractionResult {
            status: InteractionStatus::Recorded.into(),
            ..InteractionResult::default()
        };
        let results = vec![recorded; report.interactions.len()];
        ReportAck { report_number: report.report_number, results }
    }

    fn note(&self, ended: &CallEnded) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if ended.outcome() == CallOutcome::Answered {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}
