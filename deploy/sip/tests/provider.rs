//! Test of a dead trunk: the campaign says why nobody is called, and goes on when the trunk works.

mod database;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use campaign_proto::v1::IdleReason;
use campaign_sip::{Campaign, STOP_LIMIT, Sipp, Traffic, programs};
use tokio::time::{Instant, sleep};

use database::Database;

const CONTACTS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn a_campaign_says_that_the_trunk_is_dead_and_goes_on_when_it_works() {
    let database = Database::create().await;
    let programs = programs(Path::new(env!("CARGO_BIN_EXE_sip-demo"))).expect("a folder");
    let flags = ["--chore-interval-millis", "100", "--log", "warn"];
    let (mut service, address) = programs.service(&database.url(), &flags).await.expect("service");
    let mut campaign = Campaign::create(&address, CONTACTS).await.expect("a campaign");
    // This socket has the port and says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let trunk = silent.local_addr().expect("bound");
    let flags = [
        "--provider",
        "sip",
        "--sip-trunk",
        &trunk.to_string(),
        "--sip-response-limit-seconds",
        "1",
        "--sip-ring-limit-seconds",
        "1",
        "--sip-talk-limit-seconds",
        "1",
        "--max-calls",
        "1",
        "--provider-failures",
        "2",
        "--provider-retry-seconds",
        "1",
    ];
    let mut worker = programs.worker("worker", &address, &flags).expect("a worker");
    campaign.launch().await.expect("launched");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let progress = campaign.progress().await.expect("progress");
        if progress.idle_reason() == IdleReason::ProviderFailing {
            let why =
                "the provider failed several calls in a row, the last with: no answer in time";
            assert_eq!(progress.idle_message, why);
            break;
        }
        assert!(Instant::now() < deadline, "{progress:?}");
        sleep(Duration::from_millis(50)).await;
    }
    drop(silent);
    let mut sipp = Sipp::start_on(trunk.port(), "people", Traffic::Udp, &[]).await.expect("sipp");
    campaign.completed(PATIENCE, |_| {}).await.expect("completed");
    let tally = campaign.tally().await.expect("a tally");
    assert_eq!(tally.values().sum::<u64>(), CONTACTS as u64, "{tally:?}");
    let progress = campaign.progress().await.expect("progress");
    assert_ne!(progress.idle_reason(), IdleReason::ProviderFailing);
    worker.stop(STOP_LIMIT).await.expect("stopped");
    sipp.kill();
    service.stop(STOP_LIMIT).await.expect("stopped");
    database.drop().await;
    std::fs::remove_dir_all(programs.logs()).expect("they are ours");
}
