//! The platform over https: no other party receives any data.

use campaign_proto::v1::CallOutcome;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_testkit::free_address;
use clap::Parser;
use dialer_worker::config::Config;
use dialer_worker::dialer;
use dialer_worker::metrics::Metrics;

use crate::chaos::{flags, worker};
use crate::platform::{Faults, Platform};
use crate::service::Reported;
use crate::tls::{Authority, Identity};

const HERE: &str = "127.0.0.1";

/// Returns the reason why the provider does not start.
async fn refusal(platform: &str, more: &[&str]) -> String {
    let address = free_address().to_string();
    let program = [&["dialer-worker"], flags(platform, &address).as_slice(), more].concat();
    let config = Config::try_parse_from(program).expect("flags are right");
    dialer(&config, &Metrics::default()).await.err().expect("it does not start")
}

#[tokio::test]
async fn calls_go_over_https_to_whom_the_authority_vouches_for() {
    let authority = Authority::new();
    let platform = Platform::start_secure(&Identity::new(authority.server(HERE))).await;
    let ca_file = authority.file().to_str().expect("text");
    let (mut worker, _) = worker(&platform, &["--http-ca-file", ca_file]).await;
    let reported = worker.call(20).await;
    let known = platform.known();
    assert_eq!((known.len(), reported.ends.len()), (20, 20));
    assert!(known.values().all(|known| known.rings == 1));
    assert_eq!(worker.stop().await.unfinished_calls, 0);
}

#[tokio::test]
async fn a_worker_does_not_start_on_a_platform_that_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca_file = ["--http-ca-file", authority.file().to_str().expect("text")];
    let platform = Platform::start_secure(&Identity::new(stranger.server(HERE))).await;
    let elsewhere =
        Platform::start_secure(&Identity::new(authority.server("agents.example"))).await;
    let plain = Platform::start(Faults::default(), false).await;
    let plain = plain.url.replace("http:", "https:");
    for (url, flags) in [
        (&platform.url, &ca_file[..]),
        (&platform.url, &[]),
        (&elsewhere.url, &ca_file),
        (&plain, &[]),
    ] {
        let why = refusal(url, flags).await;
        assert!(why.contains("certificate") && why.contains("--http-ca-file"), "{why}");
    }
    let why = refusal(&platform.url, &["--http-ca-file", "/nowhere.pem"]).await;
    assert!(why.starts_with("--http-ca-file /nowhere.pem: "), "{why}");
    let why = refusal(&platform.url, &["--http-ca-file", "Cargo.toml"]).await;
    assert!(why.contains("holds no certificate"), "{why}");
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_unless_it_is_allowed() {
    let why = refusal("http://192.0.2.1:8080", &[]).await;
    assert!(why.contains("in the clear") && why.contains("--http-allow-plaintext"), "{why}");
    let address = free_address().to_string();
    let url = "http://192.0.2.1:8080";
    let allowed = ["--http-allow-plaintext"];
    let program = [&["dialer-worker"], flags(url, &address).as_slice(), &allowed].concat();
    let config = Config::try_parse_from(program).expect("flags are right");
    assert!(dialer(&config, &Metrics::default()).await.is_ok());
}

/// An untrusted platform counts as unreachable. Waiting contacts are released, and the service is
/// notified of the reason.
#[tokio::test]
async fn a_platform_that_is_not_trusted_any_more_stops_the_dialling() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = Identity::new(authority.server(HERE));
    let platform = Platform::start_secure(&identity).await;
    let ca_file = authority.file().to_str().expect("text");
    let flags = [
        "--http-ca-file",
        ca_file,
        "--max-calls",
        "1",
        "--provider-failures",
        "2",
        "--provider-retry-seconds",
        "1",
    ];
    let (mut worker, _) = worker(&platform, &flags).await;
    identity.change(stranger.server(HERE));
    worker.stream.lease_slots(1, 0..10).await;
    let (mut reported, mut told) = (Reported::default(), None);
    while reported.ends.len() + worker.released.len() < 10 || told.is_none() {
        match worker.stream.next().await {
            Request::ProviderReport(report) => told = Some(report),
            other => worker.note(other, &mut reported).await,
        }
    }
    assert_eq!(worker.released, (2..10).collect::<Vec<_>>(), "what waits is given back");
    assert_eq!(reported.count(CallOutcome::Congested), 2);
    assert!(told.is_some_and(|told| told.failing && told.reason.contains("certificate")));
    assert!(platform.known().is_empty(), "a stranger was told");

    identity.change(authority.server(HERE));
    worker.credit = 0;
    worker.until_credit().await;
    worker.stream.lease_slots(2, [0]).await;
    while reported.ends.len() < 3 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(platform.known().len(), 1);
    worker.stop().await;
}
