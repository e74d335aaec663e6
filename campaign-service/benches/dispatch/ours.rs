//! Ours, whole: real service processes, gRPC, lease → authorise → report → history, all acknowledged.

use crate::BATCH_CONTACTS;
use crate::scratch::Scratch;
use campaign_proto::v1;
use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::dispatch_service_client::DispatchServiceClient;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::interaction::Fact;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Batches that a worker has credit for.
const CREDIT_BATCHES: usize = 3;
/// Rows in one message of an import.
const IMPORT_ROWS: usize = 5_000;

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub workers: usize,
    pub replicas: usize,
}

/// Contacts a second.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub import_per_second: f64,
    pub dispatch_per_second: f64,
}

/// A replica; killed when dropped.
struct Replica {
    child: Child,
    channel: Channel,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn run(scratch: &Scratch, contacts: usize, setup: Setup) -> Measured {
    let migrated = Command::new(env!("CARGO_BIN_EXE_campaign-service"))
        .args(["migrate", "--log", "error"])
        .env("DATABASE_URL", &scratch.url)
        .status()
        .unwrap();
    assert!(migrated.success());
    let mut replicas = Vec::new();
    for _ in 0..setup.replicas {
        replicas.push(start(&scratch.url).await);
    }
    let channel = replicas[0].channel.clone();
    let name = create(channel.clone()).await;
    let started = Instant::now();
    import(channel.clone(), &name, contacts).await;
    let import_per_second = contacts as f64 / started.elapsed().as_secs_f64();
    scratch.client().await.batch_execute("VACUUM ANALYZE").await.unwrap();

    let launch = v1::LaunchCampaignRequest {
        name: name.clone(),
        settings: Some(v1::LaunchSettings::default()),
        ..Default::default()
    };
    let started = Instant::now();
    CampaignServiceClient::new(channel).launch_campaign(launch).await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for n in 0..setup.workers {
        let channel = replicas[n % replicas.len()].channel.clone();
        workers.spawn(work(channel, n, Arc::clone(&done), contacts));
    }
    workers.join_all().await;
    let dispatch_per_second = contacts as f64 / started.elapsed().as_secs_f64();
    let finished = "SELECT sum(octet_length(calls) / 32)::int8 FROM call_reports";
    let finished: i64 = scratch.client().await.query_one(finished, &[]).await.unwrap().get(0);
    assert_eq!(finished, i64::try_from(contacts).unwrap(), "history holds everyone");
    Measured { import_per_second, dispatch_per_second }
}

async fn start(database_url: &str) -> Replica {
    let address =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = Command::new(env!("CARGO_BIN_EXE_campaign-service"))
        .args(["serve", "--listen", &address, "--log", "error"])
        .env("DATABASE_URL", database_url)
        .spawn()
        .unwrap();
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Replica { child, channel },
            Err(error) => assert!(Instant::now() < deadline, "the service did not start: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn create(channel: Channel) -> String {
    let window = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
    let campaign = v1::Campaign {
        display_name: "Bench".to_owned(),
        description: "Measured".to_owned(),
        schedule: Some(v1::Schedule {
            time_zone: "Etc/UTC".to_owned(),
            windows: (1..=7).map(window).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
    CampaignServiceClient::new(channel).create_campaign(request).await.unwrap().into_inner().name
}

/// Numbers of the North American plan; they are never dialled, only counted.
fn phone(n: usize) -> String {
    format!("+1{}{:07}", 212 + n / 7_000_000, 2_000_000 + n % 7_000_000)
}

async fn import(channel: Channel, parent: &str, contacts: usize) {
    let header = v1::ImportHeader {
        parent: parent.to_owned(),
        import_id: "bench".to_owned(),
        default_region: String::new(),
    };
    let chunks = (0..contacts).step_by(IMPORT_ROWS).map(move |first| {
        let row = |n| v1::ImportRow {
            phone_number: phone(n),
            display_name: format!("Contact {n}"),
            ..Default::default()
        };
        let rows = (first..(first + IMPORT_ROWS).min(contacts)).map(row).collect();
        Part::Rows(v1::ImportRows { first_row: i64::try_from(first).unwrap() + 1, rows })
    });
    let parts = std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| v1::ImportContactsRequest { part: Some(part) });
    let import = ContactServiceClient::new(channel)
        .import_contacts(tokio_stream::iter(parts))
        .await
        .unwrap();
    assert_eq!(import.into_inner().created, i64::try_from(contacts).unwrap());
}

/// Takes batches, asks for all of a batch at once, reports every call as answered.
async fn work(channel: Channel, number: usize, done: Arc<AtomicUsize>, contacts: usize) {
    let (requests, receiver) = mpsc::channel(64);
    let send = |message| requests.send(v1::DispatchRequest { message: Some(message) });
    let hello = v1::Hello {
        worker_id: format!("bench-{number}"),
        protocol_version: 1,
        ..Default::default()
    };
    send(Request::Hello(hello)).await.unwrap();
    let batch = i32::try_from(BATCH_CONTACTS).unwrap();
    let credit = batch * i32::try_from(CREDIT_BATCHES).unwrap();
    send(Request::Credit(v1::Credit { contacts: credit })).await.unwrap();
    let mut client = DispatchServiceClient::new(channel);
    let mut responses = client.dispatch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let mut held: std::collections::HashMap<i64, v1::Batch> = std::collections::HashMap::new();
    let mut next_number = 0;
    while done.load(Ordering::Relaxed) < contacts {
        // Another worker may get the last contacts; then nothing comes here any more.
        let waiting = tokio::time::timeout(Duration::from_millis(100), responses.message());
        let Ok(response) = waiting.await else { continue };
        match response.unwrap().unwrap().message.unwrap() {
            Response::Batch(batch) => {
                next_number += 1;
                let slots = batch.contacts.iter().map(|contact| contact.slot).collect();
                let lease = batch.lease.clone();
                let request_number = next_number;
                held.insert(request_number, batch);
                send(Request::Authorize(v1::Authorize { request_number, lease, slots }))
                    .await
                    .unwrap();
            }
            Response::AuthorizeResult(result) => {
                let batch = held.remove(&result.request_number).unwrap();
                let ended = |(contact, attempt): (v1::LeasedContact, v1::AttemptAuthorization)| {
                    assert_eq!(attempt.decision(), v1::AuthorizeDecision::Granted);
                    let outcome = v1::CallOutcome::Answered.into();
                    v1::Interaction {
                        contact: contact.contact,
                        attempt_id: attempt.attempt_id,
                        fact: Some(Fact::CallEnded(v1::CallEnded { outcome, duration: None })),
                        ..Default::default()
                    }
                };
                let interactions: Vec<_> =
                    batch.contacts.into_iter().zip(result.attempts).map(ended).collect();
                let report_number = result.request_number;
                send(Request::Report(v1::Report { report_number, interactions })).await.unwrap();
            }
            Response::ReportAck(ack) => {
                let recorded = v1::InteractionStatus::Recorded;
                assert!(ack.results.iter().all(|result| result.status() == recorded));
                done.fetch_add(ack.results.len(), Ordering::Relaxed);
                let contacts = i32::try_from(ack.results.len()).unwrap();
                send(Request::Credit(v1::Credit { contacts })).await.unwrap();
            }
            _ => {}
        }
    }
}
