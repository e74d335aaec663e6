//! The worker with the simulated provider against a small service. The service keeps honest books
//! and keeps cutting streams, before and after it did the requested work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use campaign_process::Health;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::dispatch_service_server::{DispatchService, DispatchServiceServer};
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AttemptAuthorization, AuthorizeDecision, AuthorizeResult, Batch, CallOutcome, DispatchRequest,
    DispatchResponse, Interaction, InteractionResult, InteractionStatus, LeaseKey, LeasedContact,
    ReleaseAck, RenewResult, RenewedLease, ReportAck, Welcome,
};
use clap::Parser;
use dialer_worker::call::Outcome;
use dialer_worker::config::Config;
use dialer_worker::simulated::SimulatedDialer;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

const CONTACTS: usize = 1_000;
const MAX_CALLS: usize = 20;
const PREFETCH: usize = 40;
const MAX_BATCH: usize = 15;
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq)]
enum Slot {
    Leased,
    Authorized,
    Closed,
}

/// Records of the service.
struct Books {
    random: SmallRng,
    waiting: Vec<usize>,
    /// Contacts of each lease, each with its slot's state.
    leases: Vec<Vec<(usize, Slot)>>,
    /// Contact by attempt.
    granted: HashMap<String, usize>,
    /// Every reported version of a fact, by contact and key.
    facts: BTreeMap<(String, String), Vec<Interaction>>,
    repeats: usize,
    streams: usize,
    most_undialled: usize,
}

struct Honest {
    books: Arc<Mutex<Books>>,
    progress: Arc<Notify>,
}

#[tonic::async_trait]
impl DispatchService for Honest {
    type DispatchStream = ReceiverStream<Result<DispatchResponse, Status>>;

    async fn dispatch(
        &self,
        request: tonic::Request<Streaming<DispatchRequest>>,
    ) -> Result<tonic::Response<Self::DispatchStream>, Status> {
        let (responses, stream) = mpsc::channel(100);
        let (books, progress) = (Arc::clone(&self.books), Arc::clone(&self.progress));
        tokio::spawn(async move {
            serve(request.into_inner(), responses, &books, &progress).await;
        });
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }
}

/// Serves one stream until it is cut at a random message.
async fn serve(
    mut requests: Streaming<DispatchRequest>,
    responses: mpsc::Sender<Result<DispatchResponse, Status>>,
    books: &Mutex<Books>,
    progress: &Notify,
) {
    let (cut_after, cut_at, processes_last) = {
        let mut books = books.lock().expect("no panic");
        books.streams += 1;
        let processes_last = books.random.random_bool(0.5);
        (books.random.random_range(1..40), books.streams % 3, processes_last)
    };
    let mut credit = 0;
    for number in 0.. {
        let Ok(Some(DispatchRequest { message: Some(message) })) = requests.message().await else {
            return;
        };
        // Cuts take turns, so that each kind of answer gets lost.
        let is_last = number >= cut_after
            && match cut_at {
                0 => matches!(message, Request::Report(_)),
                1 => matches!(message, Request::Authorize(_)),
                _ => true,
            };
        if is_last && !processes_last {
            return;
        }
        let answers = books.lock().expect("no panic").process(message, &mut credit);
        progress.notify_one();
        if is_last {
            return;
        }
        for answer in answers {
            let answer = DispatchResponse { message: Some(answer) };
            if responses.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

impl Books {
    fn process(&mut self, request: Request, credit: &mut usize) -> Vec<Response> {
        let answer = match request {
            Request::Hello(hello) => {
                self.expire_all_but(&hello.leases);
                welcome(&hello.leases)
            }
            Request::Credit(more) => {
                *credit += usize::try_from(more.contacts).expect("positive");
                let undialled = self.slots().filter(|slot| *slot == Slot::Leased).count();
                self.most_undialled = self.most_undialled.max(undialled + *credit);
                return self.lease(credit);
            }
            Request::Authorize(asked) => {
                let lease = number(&asked.lease.expect("a lease"));
                let attempts =
                    asked.slots.iter().map(|slot| self.authorize(lease, *slot)).collect();
                let request_number = asked.request_number;
                Response::AuthorizeResult(AuthorizeResult {
                    request_number,
                    attempts,
                    retry_delay: None,
                })
            }
            Request::Report(report) => {
                let results =
                    report.interactions.into_iter().map(|fact| self.record(fact)).collect();
                let report_number = report.report_number;
                Response::ReportAck(ReportAck { report_number, results })
            }
            Request::ProviderReport(_) => return Vec::new(),
            Request::Renew(renew) => {
                Response::RenewResult(RenewResult { leases: kept(&renew.leases) })
            }
            Request::Release(release) => {
                let key = release.lease.expect("a lease");
                let lease = number(&key);
                for slot in release.slots {
                    let (contact, state) = &mut self.leases[lease][slot as usize];
                    if *state == Slot::Leased {
                        *state = Slot::Closed;
                        self.waiting.push(*contact);
                    }
                }
                Response::ReleaseAck(ReleaseAck { lease: key.lease, released: 0 })
            }
        };
        [vec![answer], self.lease(credit)].concat()
    }

    /// Expires all other leases. A batch cut off with its stream is known to nobody else. The real
    /// service lets it expire.
    fn expire_all_but(&mut self, named: &[LeaseKey]) {
        let named: BTreeSet<usize> = named.iter().map(number).collect();
        for (lease, slots) in self.leases.iter_mut().enumerate() {
            let lost = slots
                .iter_mut()
                .filter(|(_, state)| *state == Slot::Leased && !named.contains(&lease));
            for (contact, state) in lost {
                *state = Slot::Closed;
                self.waiting.push(*contact);
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.leases.iter().flatten().map(|(_, state)| *state)
    }

    fn lease(&mut self, credit: &mut usize) -> Vec<Response> {
        let mut batches = Vec::new();
        while *credit > 0 && !self.waiting.is_empty() {
            let count = MAX_BATCH.min(*credit).min(self.waiting.len());
            *credit -= count;
            let contacts: Vec<usize> = self.waiting.drain(..count).collect();
            let leased = contacts.iter().enumerate().map(|(slot, contact)| LeasedContact {
                slot: i32::try_from(slot).expect("few"),
                contact: format!("campaigns/a/contacts/{contact}"),
                phone_number: format!("+1555{contact:07}"),
                ..LeasedContact::default()
            });
            batches.push(Response::Batch(Batch {
                lease: Some(key(self.leases.len())),
                campaign: "campaigns/a".to_owned(),
                run: 1,
                contacts: leased.collect(),
                ..Batch::default()
            }));
            self.leases.push(contacts.into_iter().map(|contact| (contact, Slot::Leased)).collect());
        }
        batches
    }

    fn authorize(&mut self, lease: usize, slot: i32) -> AttemptAuthorization {
        let attempt_id = format!("1-{lease}-{slot}");
        let (contact, state) = &mut self.leases[lease][slot as usize];
        let decision = match state {
            // Some attempts are rejected, and their contacts come again later.
            Slot::Leased if self.random.random_bool(0.1) => {
                *state = Slot::Closed;
                self.waiting.push(*contact);
                AuthorizeDecision::NotNow
            }
            Slot::Leased => {
                *state = Slot::Authorized;
                self.granted.insert(attempt_id.clone(), *contact);
                AuthorizeDecision::Granted
            }
            Slot::Authorized => AuthorizeDecision::AlreadyGranted,
            Slot::Closed => AuthorizeDecision::SlotClosed,
        };
        AttemptAuthorization { slot, decision: decision.into(), attempt_id }
    }

    fn record(&mut self, fact: Interaction) -> InteractionResult {
        let key = match fact.fact {
            Some(Fact::CallEnded(_)) => fact.attempt_id.clone(),
            _ => fact.interaction_id.clone(),
        };
        let interaction_id = fact.interaction_id.clone();
        let versions = self.facts.entry((fact.contact.clone(), key)).or_default();
        self.repeats += usize::from(!versions.is_empty());
        versions.push(fact);
        let status = InteractionStatus::Recorded.into();
        InteractionResult { interaction_id, status, message: String::new() }
    }

    fn ended(&self) -> impl Iterator<Item = (&str, CallOutcome)> {
        self.facts.values().filter_map(|versions| match &versions[0].fact {
            Some(Fact::CallEnded(ended)) => {
                Some((versions[0].attempt_id.as_str(), ended.outcome()))
            }
            _ => None,
        })
    }
}

fn welcome(leases: &[LeaseKey]) -> Response {
    Response::Welcome(Welcome {
        lease_ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        max_batch_contacts: i32::try_from(MAX_BATCH).expect("few"),
        max_credit_contacts: 1_000,
        max_report_interactions: 7,
        leases: kept(leases),
        call_outcomes: Outcome::ALL.map(|outcome| outcome.to_api().into()).to_vec(),
    })
}

fn kept(leases: &[LeaseKey]) -> Vec<RenewedLease> {
    let kept = leases.iter().map(|key| RenewedLease {
        lease: key.lease.clone(),
        expire_time: Some(prost_types::Timestamp::default()),
        lost: false,
    });
    kept.collect()
}

fn key(number: usize) -> LeaseKey {
    LeaseKey { lease: format!("campaigns/a/leases/{number}"), token: number.to_string() }
}

fn number(key: &LeaseKey) -> usize {
    key.token.parse().expect("a token of ours")
}

/// Reads the provider's own record. Returns the outcome by attempt, and the most simultaneous
/// calls.
fn read_dial_log(path: &PathBuf) -> (HashMap<String, String>, usize) {
    let text = std::fs::read_to_string(path).expect("written");
    let (mut dialed, mut ended, mut most) = (BTreeSet::new(), HashMap::new(), 0);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("whole lines");
        let attempt = line["attempt_id"].as_str().expect("text").to_owned();
        if line["event"] == "dialed" {
            assert!(dialed.insert(attempt.clone()), "{attempt} was dialled twice");
        } else {
            let outcome = line["outcome"].as_str().expect("text").to_owned();
            assert!(ended.insert(attempt, outcome).is_none());
        }
        most = most.max(dialed.len() - ended.len());
    }
    assert_eq!(dialed.len(), ended.len());
    (ended, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_contact_is_dialled_once_and_reported_however_often_streams_break() {
    let books = Arc::new(Mutex::new(Books {
        random: SmallRng::seed_from_u64(1),
        waiting: (0..CONTACTS).collect(),
        leases: Vec::new(),
        granted: HashMap::new(),
        facts: BTreeMap::new(),
        repeats: 0,
        streams: 0,
        most_undialled: 0,
    }));
    let progress = Arc::new(Notify::new());
    let service = Honest { books: Arc::clone(&books), progress: Arc::clone(&progress) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server =
        tonic::transport::Server::builder().add_service(DispatchServiceServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let path = std::env::temp_dir().join(format!("dials-{}.jsonl", uuid::Uuid::new_v4()));
    let log = path.to_str().expect("text");
    let (calls, prefetch) = (MAX_CALLS.to_string(), PREFETCH.to_string());
    let flags =
        ["dialer-worker", "--service-url", &url, "--dial-log", log, "--time-scale", "0.0002"];
    let limits = ["--max-calls", &calls, "--prefetch-contacts", &prefetch];
    let config = Config::try_parse_from([&flags[..], &limits[..]].concat()).expect("right");
    let dialer = SimulatedDialer::new(&config.simulated).expect("log opens");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let health = Health::new().await;
    let worker = tokio::spawn(async move {
        dialer_worker::run(&config.worker, Arc::new(dialer), health, Arc::default(), stop).await
    });

    let all_ended = async {
        while books.lock().expect("no panic").ended().count() < CONTACTS {
            progress.notified().await;
        }
    };
    tokio::time::timeout(DEADLINE, all_ended).await.expect("every contact ends");
    shutdown.cancel();
    let summary = worker.await.expect("no panic");
    assert_eq!(summary.unacknowledged, 0);

    let books = books.lock().expect("no panic");
    let (dialled, most_calls) = read_dial_log(&path);
    std::fs::remove_file(&path).expect("it is ours");
    let granted: BTreeSet<&str> = books.granted.keys().map(String::as_str).collect();
    assert_eq!(granted, dialled.keys().map(String::as_str).collect(), "granted and dialled");
    assert_eq!(books.granted.values().collect::<BTreeSet<_>>().len(), CONTACTS, "once each");
    for (attempt, outcome) in books.ended() {
        let reported = outcome.as_str_name().to_lowercase();
        assert_eq!(reported, format!("call_outcome_{}", dialled[attempt]), "{attempt}");
    }
    for versions in books.facts.values() {
        assert!(versions.iter().all(|version| *version == versions[0]), "a repeat is the same");
    }
    assert!(most_calls <= MAX_CALLS, "{most_calls} calls at once");
    assert!(books.most_undialled <= PREFETCH, "{} contacts hoarded", books.most_undialled);
    assert!(books.streams > 20 && books.repeats > 5, "the faults came");
}
