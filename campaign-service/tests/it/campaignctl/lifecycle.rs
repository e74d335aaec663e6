//! A campaign from its creation to its end.

use super::{Ctl, DONE, IN_PART, REFUSED, USAGE, csv};
use crate::support::{Service, TestDb, Worker};

fn check_errors_file(path: &str) {
    let told = std::fs::read_to_string(path).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), 4, "{told:?}");
    // Lines are those of the file, and the rows are there.
    assert_eq!(told[0], "line,field,reason,phone_number,display_name");
    assert!(told[1].starts_with("5,phone_number,"), "{told:?}");
    assert!(told[1].ends_with(",n/a,Nobody"), "{told:?}");
    assert!(told[2].starts_with("6,phone_number,\"is already in the campaign"), "{told:?}");
    assert!(told[2].ends_with(",+12015550100,Again"), "{told:?}");
    assert!(told[3].starts_with("7,row,has 3 fields where the header has 2"), "{told:?}");
    assert!(told[3].ends_with(",+12015550109,Zoe,too much"), "{told:?}");
}

#[tokio::test]
async fn a_campaign_from_create_to_cancel() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring offer").await;
    let got = ctl.text(&["campaigns", "get", "Spring offer"]).await;
    assert!(got.contains("DRAFT") && got.contains("Europe/Berlin, mon 00:00-24:00"), "{got}");

    // The file has three good rows, one duplicate, and two bad rows.
    let rows = csv(0..3) + "n/a,Nobody\n+12015550100,Again\n+12015550109,\"Zoe\",too much\n";
    let (file, errors) = (ctl.file("contacts.csv", &rows), ctl.path("errors.csv"));
    let imported = ctl.run(&["import", "Spring offer", &file, "--errors", &errors]).await;
    assert_eq!(imported.code, IN_PART, "{imported:?}");
    assert!(imported.out.contains("6 rows: 3 created, 1 duplicate, 2 rejected"), "{imported:?}");
    check_errors_file(&errors);

    let preview = ctl.json(&["preview", "Spring offer", "--exclude-success"]).await;
    assert_eq!((&preview["total"], &preview["eligible"]), (&"3".into(), &"3".into()));
    let token = preview["previewToken"].as_str().unwrap();
    // The list changes after the preview.
    ctl.text(&["contacts", "add", "Spring offer", "+12015550110"]).await;
    let settings = ["launch", "Spring offer", "--exclude-success", "--yes"];
    let stale = [&settings[..], &["--preview-token", token]].concat();
    let refused = ctl.refused(&stale, REFUSED).await;
    assert!(refused.contains("PREVIEW_OUTDATED") && refused.contains("new preview"), "{refused}");

    let silent = ctl.refused(&["launch", "Spring offer"], USAGE).await;
    assert!(silent.contains("no terminal") && silent.contains("--yes"), "{silent}");
    let launched = ctl.text(&settings).await;
    assert!(launched.contains("4 of 4 contacts would be engaged"), "{launched}");
    assert!(launched.contains("launched Spring offer, run 1: RUNNING"), "{launched}");
    let again = ctl.refused(&settings, REFUSED).await;
    assert!(again.contains("RUNNING") && again.contains("allowed now: pause, cancel"), "{again}");

    let mut worker = Worker::connect(&service.clients, "w", &name).await;
    let held = worker.lease(2).await;
    worker.granted(&held[0]).await;
    let progress = ctl.json(&["campaigns", "progress", &name]).await;
    assert_eq!(progress["inCall"], "1", "{progress}");
    let paused = ctl.text(&["pause", "Spring offer", "--reason", "lunch"]).await;
    assert!(paused.contains("PAUSED, run 1; 1 call in progress, left to finish"), "{paused}");
    assert!(ctl.text(&["resume", "Spring offer"]).await.contains("RUNNING"));
    let cancelled = ctl.text(&["cancel", &name, "--reason", "wrong list", "--yes"]).await;
    assert!(cancelled.contains("CANCELLED, run 1; 1 call in progress, hung up"), "{cancelled}");

    let audit = ctl.json(&["campaigns", "audit", &name]).await;
    let events = audit["auditEvents"].as_array().unwrap();
    let told: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default();
            (text("command"), text("actor"), text("reason"))
        })
        .collect();
    let by_ann = |command, reason| (command, "ann", reason);
    let wanted = [
        by_ann("CANCEL", "wrong list"),
        by_ann("RESUME", ""),
        by_ann("PAUSE", "lunch"),
        by_ann("LAUNCH", ""),
        by_ann("CREATE", ""),
    ];
    assert_eq!(told, wanted);
    let runs = ctl.text(&["campaigns", "runs", &name]).await;
    assert!(runs.contains("exclude.success=yes"), "{runs}");
}

#[tokio::test]
async fn a_reset_needs_the_campaigns_name() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring offer").await;
    ctl.text(&["contacts", "add", &name, "+12015550100"]).await;
    let opt_out = ["--fact", "opted-out", "--channel", "text", "--interaction-id", "sms-1"];
    let record = ["interactions", "record", &name, "--contact", "0"];
    ctl.text(&[&record[..], &opt_out].concat()).await;

    let reset = ["launch", &name, "--reset-contact-history", "--yes"];
    for wrong in [&[][..], &["--confirm-reset", "spring offer"]] {
        let refused = ctl.refused(&[&reset[..], wrong].concat(), REFUSED).await;
        assert!(refused.contains("--confirm-reset \"Spring offer\""), "{refused}");
    }
    let needless = ["launch", &name, "--yes", "--confirm-reset", "Spring offer"];
    ctl.refused(&needless, USAGE).await;
    let history = ctl.json(&["contacts", "history", &format!("{name}/contacts/0")]).await;
    assert_eq!(history["refused"], true, "nothing was cleared: {history}");

    let args = [&reset[..], &["--confirm-reset", "Spring offer"]].concat();
    let launched = ctl.run(&args).await;
    assert_eq!(launched.code, DONE, "{launched:?}");
    assert!(launched.out.contains("1 opt-outs with it"), "the warning is shown: {launched:?}");
    let history = ctl.json(&["contacts", "history", "Spring offer/0"]).await;
    assert_eq!(history["refused"], serde_json::Value::Null, "{history}");
}
