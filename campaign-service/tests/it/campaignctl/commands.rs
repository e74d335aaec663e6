//! All other commands, and the messages of commands that fail.

use super::{Ctl, IN_PART, NOT_FOUND, REFUSED, USAGE};
use crate::support::{Service, TestDb};
use campaign_proto::v1;
use serde_json::Value;

#[tokio::test]
async fn every_command_on_contacts_and_suppressions_answers() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring").await;
    let add = ["contacts", "add", "Spring", "(201) 555-0100", "--default-region", "US"];
    let more = ["--display-name", "Ada", "--priority", "3", "--attribute", "company=Acme"];
    let added = ctl.json(&[&add[..], &more].concat()).await;
    let contact = added["name"].as_str().unwrap();
    assert_eq!(contact, format!("{name}/contacts/0"));
    assert_eq!((&added["priority"], &added["attributes"]["company"]), (&3.into(), &"Acme".into()));
    let exists = ctl.refused(&add, REFUSED).await;
    assert!(exists.contains(contact), "{exists}");

    ctl.text(&["contacts", "update", "Spring/0", "--time-zone", "America/Denver"]).await;
    let got = ctl.json(&["contacts", "get", contact]).await;
    assert_eq!(got["timeZone"], "America/Denver");
    assert_eq!(got["displayName"], "Ada", "nothing else changed: {got}");
    ctl.text(&["contacts", "add", "Spring", "+12015550101"]).await;
    let page = ctl.text(&["contacts", "list", "Spring", "--page-size", "1"]).await;
    assert!(page.contains("Ada") && page.contains("there is more: --page-token "), "{page}");
    let all = ctl.text(&["contacts", "list", "Spring", "--page-size", "1", "--all"]).await;
    assert!(all.contains("+12015550101") && !all.contains("--page-token"), "{all}");
    let explained = ctl.text(&["contacts", "explain", "Spring/0"]).await;
    assert!(explained.contains("standing"), "{explained}");

    let numbers = ["suppressions", "add", "+12015550101", "12", "--source", "phone call"];
    let suppressed = ctl.run(&numbers).await;
    assert_eq!(suppressed.code, IN_PART, "{suppressed:?}");
    assert!(suppressed.out.contains("1 added") && suppressed.err.contains("1 number was not"));
    let listed = ctl.json(&["suppressions", "list"]).await;
    assert_eq!(listed["suppressions"][0]["source"], "phone call");
    ctl.text(&["suppressions", "get", "+12015550101"]).await;
    ctl.text(&["suppressions", "remove", "+12015550101"]).await;
    ctl.refused(&["suppressions", "get", "+12015550101"], NOT_FOUND).await;

    let without_yes = ctl.refused(&["contacts", "erase", "+12015550101"], REFUSED).await;
    assert!(without_yes.contains("--yes"), "{without_yes}");
    let no_key = ctl.refused(&["contacts", "erase", "+12015550101", "--yes"], REFUSED).await;
    assert!(no_key.contains("--erasure-key-file"), "{no_key}");

    let facts = r#"[{"phoneNumber": "+12015550100", "interaction": {"interactionId": "a", "success": {}}},
        {"phoneNumber": "+12015550199", "interaction": {"interactionId": "b", "success": {}}}]"#;
    let recorded = ctl.run_with(&["interactions", "record", "Spring", "--file", "-"], facts).await;
    assert_eq!(recorded.code, IN_PART, "the second is of nobody: {recorded:?}");
    assert!(recorded.out.contains("recorded") && recorded.out.contains("rejected"), "{recorded:?}");
    let history = ctl.text(&["contacts", "history", "Spring/0"]).await;
    assert!(history.contains("success"), "{history}");
    let routed = ctl.json(&["interactions", "route-inbound", "Spring", "+12015550100"]).await;
    assert_eq!(routed["reason"], "TURN_AWAY_REASON_NOT_RUNNING", "{routed}");
    ctl.text(&["contacts", "delete", "Spring/0"]).await;
    ctl.refused(&["contacts", "get", "Spring/0"], NOT_FOUND).await;
}

#[tokio::test]
async fn a_campaign_is_changed_in_part() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let file = r#"{"displayName": "Spring", "pacing": {"maxCallsPerSecond": 5},
        "schedule": {"timeZone": "Europe/Berlin", "blackoutDates": ["2027-12-24"]}}"#;
    let file = ctl.file("campaign.json", file);
    let created = ctl.json(&["campaigns", "create", "--file", &file, "--weight", "2"]).await;
    assert_eq!(created["displayName"], "Spring");
    assert_eq!(created["pacing"]["maxCallsPerSecond"], 5);
    assert_eq!(created["pacing"]["weight"], 2, "{created}");
    let serving = r#"{"workerPool": "berlin", "channels": ["call"]}"#;
    let serving = ctl.file("serving.json", serving);
    let update = ["campaigns", "update", "Spring"];
    let updated = ctl.json(&[&update[..], &["--file", &serving]].concat()).await;
    assert_eq!(
        (&updated["workerPool"], &updated["channels"][0]),
        (&"berlin".into(), &"call".into())
    );
    let flags = ["--worker-pool", "texas", "--channel", "sms", "--channel", "email"];
    ctl.json(&[&update[..], &flags].concat()).await;
    let shown = ctl.text(&["campaigns", "get", "Spring"]).await;
    assert!(shown.contains("texas") && shown.contains("sms, email"), "{shown}");
    let cleared = ctl.json(&[&update[..], &["--worker-pool", "", "--channel", ""]].concat()).await;
    assert_eq!((cleared.get("workerPool"), cleared.get("channels")), (None, None), "{cleared}");
    let update = ["campaigns", "update", "Spring", "--window", "mon-fri=09:00-17:30"];
    let more = ["--retry", "busy=3/30", "--display-name", "Summer"];
    let updated = ctl.json(&[&update[..], &more].concat()).await;
    assert_eq!(updated["schedule"]["windows"].as_array().unwrap().len(), 5);
    assert_eq!(updated["schedule"]["blackoutDates"][0], "2027-12-24", "the rest stays: {updated}");
    assert_eq!(updated["retryPolicy"]["busy"]["minDelay"], "1800s", "{updated}");

    let stale = ["campaigns", "update", "Summer", "--description", "x", "--etag"];
    let etag = created["etag"].as_str().unwrap();
    let stale = ctl.refused(&[&stale[..], &[etag]].concat(), REFUSED).await;
    assert!(stale.contains("ETAG_MISMATCH"), "{stale}");
    let unknown = ctl.file("unknown.json", r#"{"colour": "red"}"#);
    let unknown = ctl.refused(&["campaigns", "update", "Summer", "--file", &unknown], USAGE).await;
    assert!(unknown.contains("colour"), "{unknown}");
    ctl.text(&["campaigns", "delete", "Summer", "--yes"]).await;
    ctl.refused(&["campaigns", "get", "Summer"], NOT_FOUND).await;
}

#[tokio::test]
async fn names_that_fit_none_or_several_are_said_so() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let none = ctl.text(&["campaigns", "list"]).await;
    assert!(none.contains("campaignctl campaigns create"), "{none}");
    let names = [ctl.create("Spring").await, ctl.create("Spring").await];
    let several = ctl.refused(&["pause", "Spring"], USAGE).await;
    assert!(names.iter().all(|name| several.contains(name)), "{several}");
    let id = names[0].strip_prefix("campaigns/").unwrap();
    let first = ctl.json(&["campaigns", "get", id]).await;
    assert_eq!(first["name"], names[0]);
    let missing = ctl.refused(&["pause", "Autumn"], NOT_FOUND).await;
    assert!(missing.contains("Autumn") && missing.contains("campaigns list"), "{missing}");
    let near = ctl.refused(&["pause", "Sprnig"], NOT_FOUND).await;
    assert!(
        near.contains(r#"no campaign is named "Sprnig"; did you mean "Spring"?"#),
        "two campaigns have the name, which is proposed once: {near}"
    );
    // Programs read the failure as JSON.
    let wrong = ctl.run(&["campaigns", "create", "", "-o", "json"]).await;
    assert_eq!(wrong.code, USAGE, "{wrong:?}");
    let error: Value = serde_json::from_str(&wrong.err).unwrap();
    assert_eq!(error["error"]["code"], "InvalidArgument");
    assert_eq!(error["error"]["fields"][0]["field"], "campaign.display_name", "{error}");
    assert_eq!(error["error"]["exitCode"], USAGE);
}

#[tokio::test]
async fn campaigns_are_listed_by_state() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let old = ctl.create("Oldest").await;
    clients.add_contacts(&old, 0..1).await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&old, settings).await;
    for n in 0..210 {
        let campaign = v1::Campaign { display_name: format!("Draft {n}"), ..Default::default() };
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        clients.campaigns.create_campaign(request).await.unwrap();
    }
    // The running one is beyond the first page.
    let running = ctl.json(&["campaigns", "list", "--state", "running"]).await;
    let names: Vec<&Value> =
        running["campaigns"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&Value::from(old.as_str())]);
    let both = ["campaigns", "list", "--state", "RUNNING", "--state", "Draft"];
    assert_eq!(ctl.json(&both).await["campaigns"].as_array().unwrap().len(), 211);
    let none = ctl.text(&["campaigns", "list", "--state", "PAUSED"]).await;
    assert_eq!(none, "no campaign is PAUSED\n");
    let unknown = ctl.refused(&["campaigns", "list", "--state", "STARTED"], USAGE).await;
    assert!(unknown.contains("DRAFT, SCHEDULED, RUNNING, PAUSED"), "{unknown}");
    let help = ctl.text(&["campaigns", "list", "--help"]).await;
    assert!(help.contains("All pages are fetched and filtered here"), "{help}");
    // A view finds it, too.
    let frame = ctl.text(&["watch", "--once"]).await;
    assert!(frame.contains("Oldest") && !frame.contains("Draft"), "{frame}");
}

#[tokio::test]
async fn zones_and_windows_are_said_back_as_understood() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let create = ["campaigns", "create", "Night", "--time-zone", "Eastern"];
    let hours = ["--window", "sun=10pm-2am", "--window", "mon-tue=9:00am-5pm"];
    let created = ctl.text(&[&create[..], &hours].concat()).await;
    for wanted in [
        "time zone Eastern is America/New_York",
        "window sun=10pm-2am is sun=22:00-24:00 and mon=00:00-02:00",
        "window mon-tue=9:00am-5pm is mon-tue=09:00-17:00",
        "America/New_York, sun 22:00-24:00 mon 00:00-02:00 mon 09:00-17:00",
    ] {
        assert!(created.contains(wanted), "{wanted}: {created}");
    }
    let update = ["campaigns", "update", "Night", "--time-zone", "Berlin"];
    assert_eq!(ctl.json(&update).await["schedule"]["timeZone"], "Europe/Berlin");
    let add = ["contacts", "add", "Night", "+12015550100", "--time-zone", "Denver"];
    assert!(ctl.text(&add).await.contains("time zone Denver is America/Denver"));
    let unknown =
        ctl.refused(&["campaigns", "update", "Night", "--time-zone", "Berln"], USAGE).await;
    assert!(unknown.contains(r#"did you mean "Europe/Berlin"#), "{unknown}");
}

/// A campaign's name cannot command a terminal.
#[tokio::test]
async fn other_peoples_names_do_nothing_to_a_terminal() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    ctl.create("Spring").await;
    let client = db.client().await;
    let rename =
        r#"UPDATE campaigns SET config = jsonb_set(config, '{display_name}', '"\u001b[2Jgone"')"#;
    let renamed = client.execute(rename, &[]).await;
    assert_eq!(renamed.unwrap(), 1);
    for args in [&["campaigns", "list"][..], &["watch", "--once"]] {
        let text = ctl.text(args).await;
        assert!(text.contains("gone") && !text.contains('\u{1b}'), "{text:?}");
    }
}
