//! Short form of `make chaos`: one round.

use campaign_chaos::postgres::Template;
use campaign_chaos::round;
use campaign_chaos::setting::{Kind, Setting, Versions};
use std::path::Path;
use std::time::Duration;

/// Seeds of usual rounds: with the platform of voice agents, a SIP trunk, and Twilio's API.
const VOICE_AGENT: u64 = 7;
const SIP: u64 = 13;
const TWILIO: u64 = 19;
const HISTORIES: usize = 20;

/// Plays a round, and expects the judge to find nothing.
async fn play(seed: u64) {
    let built = Path::new(env!("CARGO_BIN_EXE_chaos")).to_owned();
    let name = format!("campaign-chaos-test-{seed}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).expect("a folder of our own");
    let versions = Versions { built, previous: None };
    let service = versions.first_service().expect("built");
    let template = Template::make(&folder, &service).await.expect("a PostgreSQL");
    let setting = Setting {
        seed,
        histories: HISTORIES,
        kind: Kind::Usual,
        window: Duration::from_secs(5),
        versions,
        folder: folder.join("round"),
    };
    let outcome = round::play(&template, &setting).await.expect("played");
    let kept = setting.folder.display();
    assert!(outcome.is_good(), "{:#?}; see {kept}", (outcome.violations(), &outcome.troubles));
    // The round was worth the name.
    let verdict = &outcome.verdict;
    assert!(verdict.authorized > HISTORIES && verdict.rang > HISTORIES);
    assert!(verdict.facts > 0 && verdict.erased > 0);
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_hold_under_faults() {
    play(VOICE_AGENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_hold_under_faults_with_a_sip_trunk() {
    play(SIP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_hold_under_faults_with_twilios_api() {
    play(TWILIO).await;
}
