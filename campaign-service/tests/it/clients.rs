//! Behaviour that clients in any language rely on: deadlines, compression, pages of a size that they accept, and
//! streams that end with a status.

use crate::support::{
    Clients, Service, TestDb, eventually, gate_key, test_options, without_chores,
};
use bytes::Bytes;
use campaign_proto::v1;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use std::io::Write;
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt};

/// Calls a method over plain HTTP/2, since the library's clients answer deadlines themselves. Returns the code.
async fn code_of(service: &Service, method: &str, grpc_timeout: &str, message: &[u8]) -> Code {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let request = http::Request::post(format!("{}/campaign.v1.{method}", service.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", grpc_timeout)
        .body(Full::new(Bytes::from(framed)))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&head.headers).or(Status::from_header_map(&trailers));
    status.unwrap().code()
}

#[tokio::test]
async fn a_deadline_is_answered_as_one_whatever_it_is() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let late = Code::DeadlineExceeded;
    for (given, expected) in [
        ("99999999H", Code::Ok),
        ("99999999S", Code::Ok),
        ("0n", late),
        ("00000000H", late),
        ("123456789S", Code::Ok),
        ("-1S", Code::Ok),
        ("abc", Code::Ok),
        ("S", Code::Ok),
        ("1Y", Code::Ok),
    ] {
        let code = code_of(&service, "CampaignService/ListCampaigns", given, &[]).await;
        assert_eq!(code, expected, "{given}");
    }
}

#[tokio::test]
async fn a_deadline_that_passes_gives_the_statement_up() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&name, settings).await;
    let holder = db.client().await;
    holder.execute("SELECT pg_advisory_lock($1)", &[&gate_key(&name)]).await.unwrap();
    let pause = v1::PauseCampaignRequest { name: name.clone(), ..Default::default() };
    let pause = pause.encode_to_vec();
    let given: Vec<String> = (20..60).map(|millis| format!("{millis}m")).collect();
    let asking =
        given.iter().map(|given| code_of(&service, "CampaignService/PauseCampaign", given, &pause));
    let codes = futures_util::future::join_all(asking).await;
    assert!(codes.iter().all(|code| *code == Code::DeadlineExceeded), "{codes:?}");
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("nothing waits for nobody", || async {
        let count: i64 = holder.query_one(waiting, &[]).await.unwrap().get(0);
        (count == 0).then_some(())
    })
    .await;
    holder.execute("SELECT pg_advisory_unlock($1)", &[&gate_key(&name)]).await.unwrap();
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Running);
}

#[tokio::test]
async fn messages_may_be_compressed_both_ways() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    clients.campaigns = clients
        .campaigns
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    clients.contacts = clients
        .contacts
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..500).await;
    let list = v1::ListContactsRequest { parent: name, page_size: 500, ..Default::default() };
    let listed = clients.contacts.list_contacts(list).await.unwrap();
    assert_eq!(listed.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(listed.into_inner().contacts.len(), 500);
}

/// A message of 20 kB that unpacks to 20 MB is not unpacked beyond the method's limit.
#[tokio::test]
async fn a_message_that_grows_when_it_is_unpacked_is_refused() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // This begins the field `name`, which does not end.
    gzip.write_all(&[0x0a, 0xff, 0xff, 0xff, 0x7f]).unwrap();
    for _ in 0..20 {
        gzip.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    let packed = gzip.finish().unwrap();
    assert!(packed.len() < 64 * 1024, "{}", packed.len());
    let mut message = vec![1];
    message.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
    message.extend(packed);
    let request = http::Request::post("/campaign.v1.CampaignService/GetCampaign")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", "gzip")
        .body(tonic::body::Body::new(Full::new(Bytes::from(message))))
        .unwrap();
    let mut channel = service.clients.channel.clone();
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(crate::support::bad_fields(&status), ["name"]);
    response.into_body().collect().await.unwrap();
}

/// The largest page of the largest contacts fits a client with default limits.
#[tokio::test]
async fn a_page_fits_what_clients_take() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let attributes: std::collections::HashMap<String, String> =
        (0..7).map(|n| (format!("key {n}"), "\u{e9}".repeat(270))).collect();
    let row = |n| v1::ImportRow {
        phone_number: crate::support::phone(n),
        display_name: "\u{1f600}".repeat(200),
        attributes: attributes.clone(),
        ..Default::default()
    };
    let header = v1::ImportHeader {
        parent: name.clone(),
        import_id: "large".to_owned(),
        ..Default::default()
    };
    use v1::import_contacts_request::Part;
    let rows = v1::ImportRows { first_row: 1, rows: (0..1_000).map(row).collect() };
    let parts = [Part::Header(header), Part::Rows(rows)]
        .map(|part| v1::ImportContactsRequest { part: Some(part) });
    let import = clients.contacts.import_contacts(tokio_stream::iter(parts)).await.unwrap();
    assert_eq!(import.into_inner().created, 1_000);
    let (mut token, mut sizes) = (String::new(), Vec::new());
    loop {
        let list =
            v1::ListContactsRequest { parent: name.clone(), page_size: 1_000, page_token: token };
        let page = clients.contacts.list_contacts(list).await.unwrap().into_inner();
        sizes.push(page.contacts.len());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 1_000);
    assert!(sizes.len() > 1, "all of it would have fit anyway: {sizes:?}");
}

async fn watch(clients: &Clients, name: &str) -> tonic::Streaming<v1::CampaignProgress> {
    let request = v1::WatchCampaignRequest { name: name.to_owned(), interval_seconds: 0 };
    clients.campaigns.clone().watch_campaign(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_watch_of_a_draft_sees_its_launch_and_ends_with_the_run() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let mut watched = watch(&clients, &name).await;
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.state(), v1::CampaignState::Draft);
    clients.launch(&name).await;
    let next = watched.message().await.unwrap().unwrap();
    assert_eq!(next.state(), v1::CampaignState::Running);
    clients.cancel(&name).await;
    let mut last = next;
    while let Some(progress) = watched.message().await.unwrap() {
        last = progress;
    }
    assert_eq!(last.state(), v1::CampaignState::Cancelled);
}

#[tokio::test]
async fn a_watch_ends_unavailable_when_the_replica_stops() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.drain_grace = Duration::from_secs(5);
    let service = Service::start_with(&db, options).await;
    let clients = service.clients.clone();
    let name = clients.clone().create_campaign().await;
    let mut watched = watch(&clients, &name).await;
    watched.message().await.unwrap().unwrap();
    drop(service);
    let status = loop {
        match watched.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("OK means completed or cancelled"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

/// Fifty watchers cost the database what one costs, and who reads after a change sees it.
#[tokio::test]
async fn watchers_share_what_is_read_and_a_single_read_is_never_old() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let mut watchers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut watched = watch(&clients, &name).await;
        watched.message().await.unwrap().unwrap();
        watchers.spawn(async move { while let Ok(Some(_)) = watched.message().await {} });
    }
    let pool = db.client().await;
    let sql = "SELECT sum(seq_scan + idx_scan)::int8 FROM pg_stat_user_tables
        WHERE relname = 'history_purges'";
    let readings = || async {
        let _ = pool.execute("SELECT pg_stat_clear_snapshot()", &[]).await.unwrap();
        pool.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    // Sessions pass on what they counted with up to a second's delay.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = readings().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let more = readings().await - before;
    assert!((1..=9).contains(&more), "{more} readings in 5 seconds");
    for total in 2..30 {
        clients.add_contacts(&name, total - 1..total).await;
        let progress = clients.progress(&name).await;
        assert_eq!(progress.total, i64::try_from(total).unwrap());
    }
}

/// The service config for clients: streams have no time limit, and only failures that may pass are retried.
#[test]
fn the_service_config_fits_the_methods() {
    let text = include_str!("../../../deploy/kubernetes/service-config.json");
    let config: serde_json::Value = serde_json::from_str(text).unwrap();
    let pool = prost_reflect::DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).unwrap();
    for service in pool.services().filter(|service| service.package_name() == "campaign.v1") {
        for method in service.methods() {
            let configs = config["methodConfig"].as_array().unwrap();
            let of = |wanted: serde_json::Value| {
                configs.iter().find(|config| {
                    let names = config["name"].as_array().unwrap();
                    names.iter().any(|name| {
                        name["service"] == service.full_name() && name["method"] == wanted
                    })
                })
            };
            let applied = of(method.name().into()).or_else(|| of(serde_json::Value::Null)).unwrap();
            let is_stream = method.is_client_streaming() || method.is_server_streaming();
            assert_eq!(applied["timeout"].is_null(), is_stream, "{}", method.full_name());
            let codes = &applied["retryPolicy"]["retryableStatusCodes"];
            let expected = serde_json::json!(["UNAVAILABLE", "RESOURCE_EXHAUSTED"]);
            assert!(codes.is_null() == is_stream && (is_stream || *codes == expected));
        }
    }
}
