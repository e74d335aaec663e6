//! Profiles, tokens and TLS, and the doctor's checks of them.

use super::{Ctl, DONE, FAILED, NOT_ALLOWED, Ran, UNAVAILABLE, USAGE, ran};
use crate::support::access::{Authority, Folder, Guarded, claims, with_tls};
use crate::support::{Service, TestDb, eventually, test_options};
use campaign_service::server::Options;
use campaign_service::tls::TlsFiles;
use campaign_testkit::free_port;
use serde_json::{Value, json};

#[tokio::test]
async fn a_profile_says_where_the_service_is_and_flags_go_before_it() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new("");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let config = format!(
        "default_profile = \"here\"\n[profiles.here]\nservice_url = \"{}\"\nactor = \"bob\"\n\
         [profiles.away]\nservice_url = \"{nowhere}\"\n",
        service.url
    );
    let folder = ctl.home.path(".config/campaignctl");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), &config).unwrap();
    let name = ctl.create("Spring").await;
    let audit = ctl.json(&["campaigns", "audit", &name]).await;
    assert_eq!(audit["auditEvents"][0]["actor"], "bob");
    let away = ctl.refused(&["campaigns", "list", "--profile", "away"], UNAVAILABLE).await;
    assert!(away.contains(&nowhere) && away.contains("doctor"), "{away}");
    // Flags override the environment, which overrides the profile.
    let list = ["campaigns", "list", "--profile", "away"];
    ctl.text(&[&list[..], &["--service-url", &service.url]].concat()).await;
    let mut command = ctl.command(&list);
    command.env("CAMPAIGNCTL_SERVICE_URL", &service.url);
    assert_eq!(ran(command).await.code, 0);
    let mut command = ctl.command(&["campaigns", "list", "--service-url", &service.url]);
    command.env("CAMPAIGNCTL_SERVICE_URL", &nowhere);
    assert_eq!(ran(command).await.code, 0);

    let missing = ctl.refused(&["campaigns", "list", "--profile", "mars"], USAGE).await;
    assert!(missing.contains("it has: away, here"), "{missing}");
    let wrong = ctl.file("wrong.toml", "[profiles.here]\nservice_uri = \"x\"\n");
    let wrong = ctl.refused(&["campaigns", "list", "--config", &wrong], USAGE).await;
    assert!(wrong.contains("service_uri"), "the key is named: {wrong}");
}

#[tokio::test]
async fn who_is_not_let_in_learns_why() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let ctl = Ctl::new(&guarded.service.url);
    let missing = ctl.refused(&["campaigns", "list"], NOT_ALLOWED).await;
    assert!(missing.contains("TOKEN_MISSING") && missing.contains("--token-file"), "{missing}");
    let token = ctl.file("token", &guarded.signer.token("acme", &["viewer"]));
    let with = ["--token-file", &token];
    ctl.text(&[&["campaigns", "list"], &with[..]].concat()).await;
    let create = [&["campaigns", "create", "Spring"], &with[..]].concat();
    let create = ctl.refused(&create, NOT_ALLOWED).await;
    assert!(create.contains("operator"), "{create}");
    let doctor = ctl.text(&[&["doctor"], &with[..]].concat()).await;
    assert!(doctor.contains("ann@example.com of acme, roles: viewer"), "{doctor}");

    let old = guarded.signer.sign(&json!({ "sub": "ann", "exp": 1_000_000_000, "roles": [] }));
    let old = ctl.file("old", &old);
    let doctor = ctl.run(&["doctor", "--token-file", &old]).await;
    assert_eq!(doctor.code, FAILED, "{doctor:?}");
    assert!(
        doctor.out.contains("fail  token:") && doctor.out.contains("fail  access:"),
        "{doctor:?}"
    );
    assert!(!doctor.out.contains(&std::fs::read_to_string(&old).unwrap()), "{doctor:?}");
}

#[tokio::test]
async fn the_doctor_looks_at_everything() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    // The health status is known a moment after the start.
    let checks = eventually("the service is healthy", || async {
        let ran = ctl.run(&["doctor", "-o", "json"]).await;
        (ran.code == DONE).then_some(ran)
    })
    .await;
    for name in ["configuration", "token", "network", "tls", "access", "versions"] {
        assert_eq!(verdicts(&checks, name), ["ok"], "{name}: {checks:?}");
    }
    assert_eq!(verdicts(&checks, "health"), ["ok"; 4]);
    // The service reports its time only with the counts of a campaign.
    assert_eq!(verdicts(&checks, "clock"), ["skip"]);
    ctl.create("Spring").await;
    let checks = ctl.run(&["doctor", "-o", "json"]).await;
    assert_eq!(checks.code, DONE, "{checks:?}");
    assert_eq!(verdicts(&checks, "clock"), ["ok"]);

    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let away = ctl.run(&["doctor", "--service-url", &nowhere]).await;
    assert_eq!(away.code, FAILED, "{away:?}");
    assert!(away.out.contains("fail  network:") && away.out.contains("next: "), "{away:?}");
    let spoken =
        ctl.run(&["doctor", "--service-url", &service.url.replace("http:", "https:")]).await;
    assert!(spoken.code == FAILED && spoken.out.contains("fail  tls:"), "{spoken:?}");
    let malformed = ctl.refused(&["campaigns", "list", "--service-url", "localhost"], USAGE).await;
    assert!(malformed.contains("https://"), "{malformed}");
}

/// Returns the doctor's verdicts on a check.
fn verdicts(ran: &Ran, check: &str) -> Vec<String> {
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    let checks = found["checks"].as_array().unwrap().iter();
    let fits = checks.filter(|one| one["check"] == check);
    fits.map(|one| {
        let status = one["status"].as_str().unwrap();
        // Each problem comes with the next step.
        let is_wrong = matches!(status, "warn" | "fail");
        assert_eq!(is_wrong, one["next"] != "", "{one}");
        status.to_owned()
    })
    .collect()
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let ctl = Ctl::new(&guarded.service.url);
    let doctor = |token: String| {
        let file = ctl.file("token", &token);
        let ctl = &ctl;
        async move { ctl.run(&["doctor", "-o", "json", "--token-file", &file]).await }
    };
    let token = |exp: Value| {
        let mut claims = claims("acme", &["viewer"]);
        claims["exp"] = exp;
        guarded.signer.sign(&claims)
    };
    let now = chrono::Utc::now().timestamp();
    // The health status is known a moment after the start.
    let soon = eventually("the service is healthy", || async {
        let ran = doctor(token(json!(now + 300))).await;
        (ran.code == DONE).then_some(ran)
    })
    .await;
    assert_eq!(verdicts(&soon, "token"), ["warn"], "{soon:?}");
    let later = doctor(token(json!(now + 3_600))).await;
    assert_eq!(verdicts(&later, "token"), ["ok"], "{later:?}");
    for wrong in [token(Value::Null), "no token".to_owned()] {
        let ran = doctor(wrong).await;
        assert_eq!(
            (ran.code, verdicts(&ran, "token")),
            (FAILED, vec!["fail".to_owned()]),
            "{ran:?}"
        );
        assert_eq!(verdicts(&ran, "access"), ["fail"], "{ran:?}");
    }
    let nobody = guarded.signer.sign(&claims("acme", &["worker"]));
    let ran = doctor(nobody).await;
    assert_eq!((ran.code, verdicts(&ran, "access")), (FAILED, vec!["fail".to_owned()]), "{ran:?}");

    db.go_away().await;
    eventually("the doctor says that the database is away", || async {
        let ran = doctor(token(json!(now + 3_600))).await;
        (ran.code == FAILED && verdicts(&ran, "health") == ["fail"; 4]).then_some(())
    })
    .await;
    db.come_back().await;
}

#[tokio::test]
async fn tls_is_spoken_with_who_is_vouched_for() {
    let db = TestDb::new().await;
    let (folder, authority, other) = (Folder::new(), Authority::new(), Authority::new());
    let (cert, key) = authority.issue_to(&folder, "service");
    let files = TlsFiles { cert, key, clients: None };
    let options = Options { access: with_tls(&files), ..test_options() };
    let ca = folder.write("ca.pem", &authority.pem()).display().to_string();
    let other = folder.write("other.pem", &other.pem()).display().to_string();
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    campaign_process::install_tls_provider();
    let service = Service::start_over(&db, options, Some(tls)).await;
    let ctl = Ctl::new(&service.url);
    ctl.text(&["campaigns", "list", "--ca-file", &ca]).await;
    let refused = ctl.refused(&["campaigns", "list", "--ca-file", &other], UNAVAILABLE).await;
    assert!(refused.contains("certificate"), "{refused}");
    let doctor = ctl.run(&["doctor", "--ca-file", &other]).await;
    assert!(doctor.code == FAILED && doctor.out.contains("fail  tls:"), "{doctor:?}");
}

#[tokio::test]
async fn shells_complete_commands() {
    let ctl = Ctl::new("");
    for shell in ["bash", "zsh", "fish"] {
        let script = ctl.text(&["completions", shell]).await;
        assert!(
            script.contains("route-inbound") && script.contains("exclude-transferred"),
            "{shell}"
        );
    }
    let help = ctl.text(&["--help"]).await;
    assert!(help.contains("Exit codes:"), "{help}");
}
