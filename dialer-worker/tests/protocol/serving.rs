//! Pools, channels and campaigns that the worker asks for.

use campaign_proto::v1::Welcome;
use clap::Parser;
use dialer_worker::config::Config;
use dialer_worker::dialer;
use dialer_worker::metrics::Metrics;

use crate::fake::FakeService;
use crate::under_test::FakeWorker;

#[tokio::test]
async fn every_hello_names_pools_channels_and_campaigns() {
    let mut service = FakeService::start().await;
    let flags = ["--pool", "berlin,texas", "--campaign", "campaigns/1"];
    let worker = FakeWorker::start(&service.url, &flags);
    for _ in 0..2 {
        let (mut stream, hello) = service.accept().await;
        assert_eq!(hello.pools, ["berlin", "texas"]);
        assert_eq!(hello.channels, ["fax"]);
        assert_eq!(hello.campaigns, ["campaigns/1"]);
        stream.welcome(Welcome::default()).await;
        stream.credit().await;
    }
    worker.stop();
}

#[tokio::test]
async fn a_worker_without_flags_asks_for_every_campaign_without_a_pool() {
    let mut service = FakeService::start().await;
    let worker = FakeWorker::start(&service.url, &[]);
    let (_, hello) = service.accept().await;
    assert_eq!((hello.pools.len(), hello.campaigns.len()), (0, 0));
    worker.stop();
}

#[tokio::test]
async fn each_provider_names_its_channels() {
    let http = ["--provider", "http", "--http-url", "http://127.0.0.1:9"];
    let secret = ["--http-callback-secret", "0123456789abcdef"];
    let http = [&http[..], &secret, &["--http-callback-listen", "127.0.0.1:0"]].concat();
    let sip = ["--provider", "sip", "--sip-trunk", "127.0.0.1:9", "--sip-caller", "+4930555000"];
    for (flags, channels) in [
        (vec!["--provider", "simulated"], &[][..]),
        (sip.to_vec(), &["call"]),
        (http.clone(), &["call"]),
        ([&http[..], &["--http-channel", "sms"]].concat(), &["sms"]),
        ([&http[..], &["--http-channel", "email"]].concat(), &["email"]),
    ] {
        let program = [&["dialer-worker"], flags.as_slice()].concat();
        let config = Config::try_parse_from(program).expect("flags are right");
        let dialer = dialer(&config, &Metrics::default()).await.expect("it starts");
        assert_eq!(dialer.channels(), channels, "{flags:?}");
    }
}
