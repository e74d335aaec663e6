//! Strangers: callers that never authenticate. Everything that they send or leave unfinished costs a fixed amount of
//! memory and delays nobody else.

use crate::support::processes::campaign_service;
use crate::support::{Clients, Service, TestDb, bad_fields, eventually, test_options};
use bytes::{BufMut, BytesMut};
use campaign_proto::v1;
use campaign_testkit::{Program, free_port};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

const CREATE: &str = "/campaign.v1.CampaignService/CreateCampaign";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Bytes that a connection sends.
#[derive(Default)]
struct Sent(BytesMut);

impl Sent {
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        let length = u32::try_from(content.len()).unwrap();
        self.0.put_slice(&length.to_be_bytes()[1..]);
        self.0.put_slice(&[kind, flags]);
        self.0.put_u32(stream);
        self.0.put_slice(content);
    }

    fn http2() -> Self {
        let mut sent = Self(PREFACE.into());
        sent.frame(SETTINGS, 0, 0, &[]);
        sent
    }

    fn request(&mut self, stream: u32, path: &str, flags: u8) {
        let mut block = BytesMut::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "x"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.put_slice(&literal(name, value.as_bytes()));
        }
        self.frame(HEADERS, flags, stream, &block);
    }

    /// Sends a message that is shorter than the length it announces.
    fn half_message(&mut self, stream: u32, length: u32, sent: usize) {
        let mut content = vec![0];
        content.extend(length.to_be_bytes());
        content.resize(content.len() + sent, b'x');
        for chunk in content.chunks(16_000) {
            self.frame(DATA, 0, stream, chunk);
        }
    }
}

/// Returns a header in HPACK, not compressed.
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let (length, rest) = if value.len() < 127 {
        (u8::try_from(value.len()).unwrap(), Vec::new())
    } else {
        let mut left = value.len() - 127;
        let mut rest = Vec::new();
        while left >= 128 {
            rest.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        rest.push(u8::try_from(left).unwrap());
        (127, rest)
    };
    let name = [&[0, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    [&name, &[length][..], &rest, value].concat()
}

fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|index| 2 * index + 1)
}

/// Returns the bytes that connections to the API send, one entry for each kind of attack.
fn attacks() -> Vec<Vec<u8>> {
    let mut attacks: Vec<Vec<u8>> = vec![Vec::new(), PREFACE[..10].to_vec()];
    for path in [HEALTH, CREATE] {
        let (mut few, mut many) = (Sent::http2(), Sent::http2());
        // This is as much as one connection could once send unread.
        for stream in streams(16) {
            few.request(stream, path, END_HEADERS);
            few.half_message(stream, 59_000, 58_000);
        }
        for stream in streams(100) {
            many.request(stream, path, END_HEADERS);
            many.half_message(stream, 300, 100);
        }
        attacks.extend([few.0.to_vec(), many.0.to_vec()]);
    }
    let mut resets = Sent::http2();
    for stream in streams(400) {
        resets.request(stream, HEALTH, END_HEADERS);
        resets.frame(RESET, 0, stream, &8_u32.to_be_bytes());
    }
    let mut headers = Sent::http2();
    for stream in streams(20) {
        headers.request(stream, CREATE, 0);
        for _ in 0..5 {
            let flood = literal("x-flood", &[b'x'; 10_000]);
            headers.frame(CONTINUATION, 0, stream, &flood);
        }
        headers.frame(CONTINUATION, END_HEADERS, stream, &[]);
    }
    attacks.extend([resets.0.to_vec(), headers.0.to_vec()]);
    attacks
}

/// Opens a connection and sends as much as possible. Returns the open connection.
async fn attack(port: u16, bytes: Vec<u8>) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let _ = timeout(Duration::from_secs(1), stream.write_all(&bytes)).await;
    Some(stream)
}

fn resident_mebibytes(program: &Program) -> u64 {
    program.kibibytes("VmRSS").unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_connections_cost_little_and_delay_nobody() {
    let db = TestDb::new().await;
    let [api, links, metrics, health] = [0; 4].map(|_| free_port());
    let at = |port| format!("127.0.0.1:{port}");
    let mut service = campaign_service();
    service
        .args(["serve", "--log", "error", "--listen", &at(api), "--link-listen", &at(links)])
        .args(["--link-base-url", "https://go.example.com"])
        .args(["--metrics-listen", &at(metrics), "--health-listen", &at(health)])
        .env("CAMPAIGN_LINK_KEY", "a key of thirty-two characters!!")
        .env("DATABASE_URL", &db.url);
    let service = Program::start(&mut service).unwrap();
    let mut clients = Clients::connect(&format!("http://127.0.0.1:{api}")).await;
    let name = clients.launch_endless().await;
    let mut pauses = Vec::new();
    let mut before = 0;
    for is_attacked in [false, true] {
        let mut held = tokio::task::JoinSet::new();
        if is_attacked {
            before = resident_mebibytes(&service);
            let attacks = attacks();
            for round in 0..60 {
                for bytes in &attacks {
                    held.spawn(attack(api, bytes.clone()));
                }
                held.spawn(attack(health, attacks[round % attacks.len()].clone()));
                held.spawn(attack(links, b"GET /l/a HTTP/1.1\r\nhost: x\r\nx-a: b".to_vec()));
                held.spawn(attack(metrics, vec![b'x'; 60_000]));
            }
        }
        for _ in 0..20 {
            let begun = Instant::now();
            clients.pause(&name).await;
            pauses.push(begun.elapsed());
            clients.resume(&name).await;
        }
        // All connections are held open while new callers come.
        let held = held.join_all().await;
        let grown = resident_mebibytes(&service).saturating_sub(before);
        assert!(!is_attacked || grown < 100, "{grown} MiB for {} connections", held.len());
        let mut new = Clients::connect(&format!("http://127.0.0.1:{api}")).await;
        assert_eq!(new.campaign(&name).await.state(), v1::CampaignState::Running);
        assert!(crate::support::processes::scrape(metrics).await.contains("turned_away"));
    }
    let attacked = &mut pauses[20..];
    attacked.sort();
    // The machine may be busy with other tests; a service that serves strangers first takes seconds.
    assert!(attacked[10] < Duration::from_millis(100), "{attacked:?}");
}

#[tokio::test]
async fn who_sends_half_a_message_is_answered_in_time_and_holds_no_place() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.reading.message_timeout = Duration::from_millis(300);
    options.calls.max_requests = 1;
    let service = Service::start_with(&db, options).await;
    let port = service.url.rsplit(':').next().unwrap().parse().unwrap();
    let mut sent = Sent::http2();
    sent.request(1, CREATE, END_HEADERS);
    sent.half_message(1, 100, 50);
    let mut stream = attack(port, sent.0.to_vec()).await.unwrap();
    // The only place for requests is free meanwhile.
    service.clients.clone().create_campaign().await;
    let mut seen = Vec::new();
    eventually("the half request is answered", || {
        let mut buffer = [0; 1_000];
        let read = stream.try_read(&mut buffer).unwrap_or(0);
        seen.extend_from_slice(&buffer[..read]);
        // The status is DEADLINE_EXCEEDED; it is not compressed, since it is short.
        let is_answered = seen.windows(11).any(|bytes| bytes == b"grpc-status");
        let is_answered = is_answered || seen.iter().filter(|byte| **byte == HEADERS).count() > 0;
        async move { is_answered.then_some(()) }
    })
    .await;
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_ends() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.connections.first_request = Duration::from_millis(200);
    options.side.first_request = Duration::from_millis(200);
    options.links = Some(
        campaign_service::links::Links::new(
            "a key of thirty-two characters!!",
            "https://x.example",
        )
        .unwrap(),
    );
    let service = Service::start_with(&db, options).await;
    let api = service.url.rsplit(':').next().unwrap().parse().unwrap();
    for (port, bytes) in [
        (api, Vec::new()),
        (api, PREFACE.to_vec()),
        (api, Sent::http2().0.to_vec()),
        (service.link_address.port(), Vec::new()),
        (service.link_address.port(), b"GET /l/a HTTP/1.1\r\n".to_vec()),
    ] {
        let mut stream = attack(port, bytes.clone()).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{bytes:?} keeps its connection");
    }
}

/// A connection opens more watches than it may have at the same time. Some are rejected, and commands have room.
#[tokio::test]
async fn a_connection_full_of_watches_has_room_for_a_pause() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    let mut watches = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (mut campaigns, name) = (clients.campaigns.clone(), name.clone());
        watches.spawn(async move {
            let request = v1::WatchCampaignRequest { name, interval_seconds: 60 };
            campaigns.watch_campaign(request).await
        });
    }
    // The pause also has room while the watches are being opened.
    timeout(Duration::from_secs(10), clients.pause(&name)).await.unwrap();
    let opened = timeout(Duration::from_secs(20), watches.join_all()).await.unwrap();
    let refused: Vec<_> = opened.iter().filter_map(|opened| opened.as_ref().err()).collect();
    assert_eq!(opened.len() - refused.len(), 96);
    for status in refused {
        assert_eq!(crate::support::reason(status), "TOO_MANY_STREAMS", "{status:?}");
        assert!(status.metadata().get("grpc-retry-pushback-ms").is_some());
    }
    timeout(Duration::from_secs(10), clients.resume(&name)).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_long_for_its_method_is_refused_by_field() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let reason = "x".repeat(3_000_000);
    let pause = v1::PauseCampaignRequest { name: name.clone(), reason, ..Default::default() };
    let status = clients.campaigns.pause_campaign(pause).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["reason"]);
    let phone_numbers = vec!["+14155550100".to_owned(); 100_000];
    let add = v1::AddSuppressionsRequest { phone_numbers, ..Default::default() };
    let status = clients.contacts.add_suppressions(add).await.unwrap_err();
    let [field] = &bad_fields(&status)[..] else { panic!("{status:?}") };
    assert!(field.starts_with("phone_numbers["), "{field}");
}
