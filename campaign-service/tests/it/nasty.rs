//! Every field of every request, by the descriptors, with every value that has broken a program somewhere. The answer
//! names each problem, and no worker's stream ends because of one.

mod values;

use crate::support::{Clients, PATIENCE, Service, TestDb, Worker};
use bytes::{Buf, BufMut, Bytes};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;
use values::{Good, bytes};

/// Codes that may answer a request, and say what is wrong with it.
const ANSWERS: [Code; 6] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::AlreadyExists,
    Code::Aborted,
];

/// Codec that passes messages as bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn open(
    clients: &Clients,
    path: &str,
    messages: mpsc::Receiver<Bytes>,
) -> Result<Streaming<Bytes>, Status> {
    let mut client = Grpc::new(clients.channel.clone()).max_encoding_message_size(usize::MAX);
    client.ready().await.unwrap();
    let path = path.parse().unwrap();
    let request = Request::new(ReceiverStream::new(messages));
    Ok(client.streaming(request, path, Raw).await?.into_inner())
}

/// Sends messages. Returns the first answer, or the status in its place.
async fn ask(clients: &Clients, path: &str, messages: Vec<Bytes>) -> Result<Bytes, Status> {
    let (sender, receiver) = mpsc::channel(4);
    for message in messages {
        sender.send(message).await.unwrap();
    }
    drop(sender);
    let asked = async {
        let answer = open(clients, path, receiver).await?.message().await?;
        Ok(answer.unwrap_or_default())
    };
    timeout(PATIENCE, asked).await.expect("there is an answer")
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).unwrap();
    let services = pool.services().filter(|service| service.package_name() == "campaign.v1");
    services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

fn check(what: &str, answer: Result<Bytes, Status>) {
    let Err(status) = answer else { return };
    assert!(ANSWERS.contains(&status.code()), "{what}: {status:?}");
    if status.code() == Code::InvalidArgument {
        let bad = status.get_details_bad_request().map_or(Vec::new(), |bad| bad.field_violations);
        assert!(
            bad.iter().all(|bad| !bad.field.is_empty()) && !bad.is_empty(),
            "{what}: {status:?}"
        );
    }
}

/// Creates a campaign with contacts and launches it.
async fn campaign(clients: &Clients, numbers: std::ops::Range<usize>) -> String {
    let mut clients = clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, numbers).await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&name, settings).await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_every_request_may_hold_anything() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let clients = service.clients.clone();
    let mut asking = tokio::task::JoinSet::new();
    let mut asked = 0;
    for (index, method) in methods().into_iter().enumerate() {
        if method.name() == "Dispatch" {
            continue;
        }
        let campaign = campaign(&clients, index * 10..index * 10 + 2).await;
        let good = Good { campaign, method: method.name().to_owned() };
        let of = method.input();
        let mut mutants = good.mutants(&of);
        // The value has the length that careless clients send. Not every field is tried with it, which would take long.
        let long = mutants.iter().rfind(|(_, mutant)| mutant.encoded_len() > 1 << 20).cloned();
        if let Some((name, mut mutant)) = long
            && let Some(field) = of.fields().find(|field| field.name() == name)
            && !field.is_list()
        {
            mutant.set_field(&field, Value::String("x".repeat(10_000_000)));
            mutants.push((name, mutant));
        }
        asked += mutants.len();
        // One task per method keeps 30 requests under way.
        let (clients, path) = (clients.clone(), path(&method));
        let header = v1::ImportHeader {
            parent: good.campaign.clone(),
            import_id: "before".to_owned(),
            ..Default::default()
        };
        let header = v1::import_contacts_request::Part::Header(header);
        let header = v1::ImportContactsRequest { part: Some(header) }.encode_to_vec();
        asking.spawn(async move {
            for (name, mutant) in mutants {
                let mut messages = vec![bytes(&mutant)];
                if path.ends_with("/ImportContacts") && !name.starts_with("header") {
                    messages.insert(0, header.clone().into());
                }
                let what = format!("{path} {name} {}", short(&mutant));
                check(&what, ask(&clients, &path, messages).await);
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    assert!(asked > 2_000, "{asked}");
}

fn short(mutant: &DynamicMessage) -> String {
    format!("{mutant:?}").chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_of_a_worker_ends_its_stream() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let clients = service.clients.clone();
    let campaign = campaign(&clients, 0..3).await;
    let good = Good { campaign: campaign.clone(), method: "Dispatch".to_owned() };
    let method = methods().into_iter().find(|method| method.name() == "Dispatch").unwrap();
    let (of, path) = (method.input(), path(&method));
    let hello = v1::Hello {
        worker_id: "w".to_owned(),
        protocol_version: 1,
        campaigns: vec![campaign.clone()],
        ..Default::default()
    };
    let hello = v1::dispatch_request::Message::Hello(hello);
    let hello = v1::DispatchRequest { message: Some(hello) }.encode_to_vec();
    let (sender, receiver) = mpsc::channel(4);
    sender.send(Bytes::from(hello)).await.unwrap();
    let mut answers = open(&clients, &path, receiver).await.unwrap();
    let mut mutants = good.mutants(&of);
    mutants.push(("nothing".to_owned(), DynamicMessage::new(of.clone())));
    let of_report = mutants.iter().filter(|(name, _)| name.starts_with("report.")).count();
    assert!(mutants.len() > 300 && of_report > 100, "{}, {of_report}", mutants.len());
    for (number, (name, mutant)) in (1_000_000..).zip(&mutants) {
        sender.send(bytes(mutant)).await.unwrap();
        // The next message is answered, whatever the last one was.
        let report = v1::Report { report_number: number, ..Default::default() };
        let report = v1::dispatch_request::Message::Report(report);
        let report = v1::DispatchRequest { message: Some(report) }.encode_to_vec();
        sender.send(report.into()).await.unwrap();
        loop {
            let answer = timeout(PATIENCE, answers.message()).await;
            let what = || format!("{name} {}", short(mutant));
            let answer = answer.unwrap_or_else(|_| panic!("{} is not answered", what()));
            let answer = answer.unwrap_or_else(|status| panic!("{}: {status:?}", what()));
            let answer = answer.unwrap_or_else(|| panic!("{} ends the stream", what()));
            let answer = v1::DispatchResponse::decode(answer).unwrap();
            match answer.message {
                Some(Response::ReportAck(ack)) if ack.report_number == number => break,
                Some(Response::Rejected(rejected)) => assert!(!rejected.reason.is_empty()),
                _ => {}
            }
        }
    }
    // A hello may be rejected, with a code that says why.
    for (name, mutant) in mutants.iter().filter(|(name, _)| name.starts_with("hello")) {
        let what = format!("{name} {}", short(mutant));
        check(&what, ask(&clients, &path, vec![bytes(mutant)]).await);
    }
}

/// A fact of an attempt that never existed is rejected with a reason. The rest of the report is recorded.
#[tokio::test]
async fn facts_do_not_name_attempts_that_never_were() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = campaign(&clients, 0..3).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let granted = worker.authorize(&held[..1]).await;
    let real = granted[0].1.clone();
    let parts: Vec<i64> = real.split('-').map(|part| part.parse().unwrap()).collect();
    let [run, lease, slot] = parts[..] else { panic!("{real}") };
    let fact = |id: &str, contact: &str, attempt: String| {
        let interaction = v1::Interaction {
            interaction_id: id.to_owned(),
            contact: contact.to_owned(),
            attempt_id: attempt,
            fact: Some(v1::interaction::Fact::Success(v1::Success {})),
            ..Default::default()
        };
        v1::ReportedInteraction { interaction: Some(interaction), ..Default::default() }
    };
    let (first, second) = (&held[0].contact, &held[1].contact);
    let interactions = vec![
        fact("a", second, format!("{run}-{lease}-{slot}")),
        fact("b", second, format!("{run}-{lease}-{}", held[1].slot)),
        fact("c", first, format!("{run}-{lease}-7")),
        fact("d", first, format!("{run}-{}-0", lease + 1_000)),
        fact("e", first, format!("{}-{lease}-{slot}", run + 1)),
        fact("f", first, format!("{run}-{lease}-2147483648")),
        fact("g", first, real),
    ];
    let request = v1::RecordInteractionsRequest { parent: name, interactions };
    let response = clients.interactions.record_interactions(request).await.unwrap().into_inner();
    let statuses: Vec<_> = response.results.iter().map(v1::InteractionResult::status).collect();
    use v1::InteractionStatus::{Recorded, Rejected};
    assert_eq!(statuses, [[Rejected; 6].as_slice(), &[Recorded]].concat());
    assert!(response.results[..6].iter().all(|result| result.message.contains("attempt_id")));
    assert!(!clients.history(second).await.success);
}
