//! Short form of `make chaos`: one round.

use campaign_chaos::postgres::Template;
use campaign_chaos::round;
use campaign_chaos::setting::{Kind, Setting, Versions};
use std::path::Path;
use std::time::Duration;

const SEED: u64 = 7;
const HISTORIES: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn promises_hold_under_faults() {
    let built = Path::new(env!("CARGO_BIN_EXE_chaos")).to_owned();
    let folder = std::env::temp_dir().join(format!("campaign-chaos-test-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder of our own");
    let versions = Versions { built, previous: None };
    let service = versions.first_service().expect("built");
    let template = Template::make(&folder, &service).await.expect("a PostgreSQL");
    let setting = Setting {
        seed: SEED,
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
    assert!(outcome.verdict.authorized > HISTORIES && outcome.verdict.facts > HISTORIES);
    assert!(outcome.verdict.erased > 0);
    std::fs::remove_dir_all(folder).expect("it is ours");
}
