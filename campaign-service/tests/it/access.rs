//! Access: which tokens the service accepts, and what each role may do.

use crate::support::access::{AUDIENCE, Folder, Guarded, Signer, claims, key_set, with_tokens};
use crate::support::{Clients, Service, TestDb, Worker, eventually, reason, test_options};
use campaign_domain::access::Role;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message;
use campaign_service::grpc::methods::{METHODS, Method, Rule};
use campaign_service::server::Options;
use campaign_service::tokens::KeySource;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

/// Calls a method with an empty request. Returns its first answer.
async fn call(clients: &Clients, path: &'static str, token: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(tokio_stream::once(()));
    if let Some(token) = token {
        let value: MetadataValue<Ascii> = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = Grpc::new(clients.channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let mut stream = client.streaming(request, path, codec).await?.into_inner();
    stream.message().await.map(|_| ())
}

/// Returns whether a method let its caller in, whatever it answered then.
fn let_in(outcome: &Result<(), Status>) -> bool {
    let code = outcome.as_ref().map_or_else(Status::code, |()| Code::Ok);
    !matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented)
}

#[tokio::test]
async fn every_role_may_call_what_the_table_says_and_nothing_else() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let clients = &guarded.service.clients;
    for Method { path, rule, .. } in METHODS {
        let anonymous = call(clients, path, None).await;
        assert_eq!(let_in(&anonymous), *rule == Rule::Open, "{path}: {anonymous:?}");
        if let (false, Err(status)) = (*rule == Rule::Open, &anonymous) {
            assert_eq!(reason(status), "TOKEN_MISSING", "{path}");
        }
        for role in Role::ALL {
            let token = guarded.signer.token("acme", &[role.name()]);
            let outcome = call(clients, path, Some(&token)).await;
            let may = match rule {
                Rule::Open | Rule::Known => true,
                Rule::Roles(roles) => roles.contains(&role),
            };
            assert_eq!(let_in(&outcome), may, "{path} as {role:?}: {outcome:?}");
            if let (false, Err(status)) = (may, &outcome) {
                assert_eq!(status.code(), Code::PermissionDenied, "{path} as {role:?}");
                assert_eq!(reason(status), "ROLE_MISSING", "{path} as {role:?}");
            }
        }
        let none = guarded.signer.token("acme", &["janitor"]);
        let outcome = call(clients, path, Some(&none)).await;
        assert_eq!(let_in(&outcome), !matches!(rule, Rule::Roles(_)), "{path}: {outcome:?}");
    }
    // A method that is not in the table is closed to everyone, even to an admin.
    let admin = guarded.signer.token("", &["admin"]);
    for path in ["/campaign.v1.CampaignService/Nothing", "/nothing"] {
        let status = call(clients, path, Some(&admin)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        let status = call(clients, path, None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
    }
}

async fn list(clients: &Clients) -> Result<(), Status> {
    let mut clients = clients.clone();
    clients.campaigns.list_campaigns(v1::ListCampaignsRequest::default()).await.map(|_| ())
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims("acme", &["viewer"]);
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims("acme", &["viewer"]);
    claims.as_object_mut().unwrap().remove(key);
    claims
}

/// Returns a token put together by hand.
fn unsigned(header: &Value, claims: &Value) -> String {
    use base64::Engine;
    let part =
        |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

#[tokio::test]
async fn what_is_no_token_for_us_lets_nobody_in() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let (signer, now) = (&guarded.signer, get_current_timestamp());
    let good = claims("acme", &["viewer"]);
    list(&guarded.clients_with(&signer.sign(&good))).await.unwrap();
    for fine in
        [with("aud", json!(["other", AUDIENCE])), without("tenant"), with("nbf", json!(now))]
    {
        list(&guarded.clients_with(&signer.sign(&fine))).await.unwrap();
    }
    let bad_claims = [
        ("expired", with("exp", json!(now - 5))),
        ("no end", without("exp")),
        ("an end that is no time", with("exp", json!("tomorrow"))),
        ("not yet", with("nbf", json!(now + 600))),
        ("another audience", with("aud", json!("other"))),
        ("other audiences", with("aud", json!(["other", "campaigns.test.evil"]))),
        ("no audience", without("aud")),
        ("an empty audience", with("aud", json!([]))),
        ("nobody", without("sub")),
        ("an empty name", with("sub", json!(""))),
        ("a name too long", with("sub", json!("n".repeat(201)))),
        ("a name with a break", with("sub", json!("a\nb"))),
        ("roles that are no list", with("roles", json!("admin"))),
        ("no tenant's name", with("tenant", json!("Acme"))),
        ("a tenant too long", with("tenant", json!("a".repeat(64)))),
        ("a tenant that is null", with("tenant", Value::Null)),
        ("too long", with("padding", json!("x".repeat(9_000)))),
    ];
    let mut bad: Vec<(&str, String)> =
        bad_claims.iter().map(|(name, claims)| (*name, signer.sign(claims))).collect();
    bad.push(("another key", Signer { id: "first".to_owned(), ..Signer::new("x") }.sign(&good)));
    bad.push(("a key not known", Signer::new("other").sign(&good)));
    bad.push(("another kind of key", Signer::ed25519("first").sign(&good)));
    for alg in ["none", "None", "NONE", "HS256", "ES256"] {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": "first" });
        bad.push(("not signed", unsigned(&header, &good)));
    }
    // These are signed with the public key as if it were a secret.
    let public = serde_json::to_string(&signer.public()).unwrap();
    for secret in [signer.public_pem.as_str(), signer.public_pem.trim(), &public, "", "first"] {
        let header = Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(secret.as_bytes());
        bad.push(("a public secret", encode(&header, &good, &key).unwrap()));
    }
    let mut critical = Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::ES256) };
    critical.crit = Some(vec!["exp".to_owned()]);
    bad.push(("more to understand", encode(&critical, &good, &signer.key).unwrap()));
    let (whole, other) = (signer.sign(&good), signer.sign(&with("roles", json!(["admin"]))));
    let parts: Vec<&str> = whole.split('.').collect();
    let payload = other.split('.').nth(1).unwrap();
    bad.push(("another's claims", format!("{}.{payload}.{}", parts[0], parts[2])));
    bad.push(("half a token", format!("{}.{}", parts[0], parts[1])));
    bad.push(("nonsense", "nonsense".to_owned()));
    for (name, token) in bad {
        let status = list(&guarded.clients_with(&token)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{name}: {status:?}");
        let wanted = if name == "expired" { "TOKEN_EXPIRED" } else { "TOKEN_INVALID" };
        assert_eq!(reason(&status), wanted, "{name}: {status:?}");
    }
}

#[tokio::test]
async fn each_kind_of_key_signs() {
    let db = TestDb::new().await;
    let folder = Folder::new();
    let signers = [Signer::new("p256"), Signer::ed25519("ed"), Signer::rsa("rsa", 2_048)];
    let file = folder.write("keys.json", &key_set(&signers.each_ref()));
    let options = Options { access: with_tokens(KeySource::Jwks(file)), ..test_options() };
    let service = Service::start_with(&db, options).await;
    for signer in &signers {
        let token = signer.token("", &["viewer"]);
        list(&service.clients.with_token(&token)).await.unwrap();
        // The same key works alone in a file.
        let file = folder.write("key.pem", &signer.public_pem);
        let access = with_tokens(KeySource::PublicKey(file));
        let tokens = access.tokens.unwrap();
        assert_eq!(tokens.identify(&token).unwrap().caller.actor, "ann@example.com");
        let other = Signer::new("other").token("", &["viewer"]);
        tokens.identify(&other).unwrap_err();
    }
    // The key is for another algorithm than RS512.
    let header = Header { kid: Some("rsa".to_owned()), ..Header::new(Algorithm::RS512) };
    let token = encode(&header, &claims("", &["viewer"]), &signers[2].key).unwrap();
    let status = list(&service.clients.with_token(&token)).await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_INVALID");
}

#[tokio::test]
async fn keys_change_while_the_service_runs() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let (first, second) = (guarded.signer.clone(), Signer::new("second"));
    let [old, new] =
        [&first, &second].map(|signer| guarded.clients_with(&signer.token("", &["viewer"])));
    list(&old).await.unwrap();
    list(&new).await.unwrap_err();
    guarded.folder.write("keys.json", &key_set(&[&first, &second]));
    eventually("the new key is known", || async { list(&new).await.ok() }).await;
    list(&old).await.unwrap();
    // An invalid file changes nothing.
    for bad in ["", "{", r#"{"keys": []}"#, &key_set(&[&second, &second])] {
        guarded.folder.write("keys.json", bad);
        tokio::time::sleep(Duration::from_millis(100)).await;
        list(&old).await.unwrap();
        list(&new).await.unwrap();
    }
    guarded.folder.write("keys.json", &key_set(&[&second]));
    eventually("the old key is gone", || async { list(&old).await.err() }).await;
    list(&new).await.unwrap();
}

#[tokio::test]
async fn the_audit_log_names_who_the_token_names() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let mut clients = guarded.clients("acme", &["operator"]);
    let campaign = v1::Campaign { display_name: "Spring".to_owned(), ..Default::default() };
    let request = v1::CreateCampaignRequest {
        campaign: Some(campaign),
        actor: "somebody else".to_owned(),
        ..Default::default()
    };
    let name = clients.campaigns.create_campaign(request).await.unwrap().into_inner().name;
    let request = v1::ListAuditEventsRequest { parent: name, ..Default::default() };
    let listed = clients.campaigns.list_audit_events(request).await.unwrap().into_inner();
    assert_eq!(listed.audit_events[0].actor, "ann@example.com");
}

#[tokio::test]
async fn only_an_admin_launches_what_brings_back_opt_outs() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let mut operator = guarded.clients("acme", &["operator", "viewer", "worker", "reporter"]);
    let mut admin = guarded.clients("acme", &["admin"]);
    let name = operator.create_campaign().await;
    let refused = v1::Exclusions { refused: Some(false), ..Default::default() };
    let back = v1::LaunchSettings { exclude: Some(refused), ..Default::default() };
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    for settings in [back, reset] {
        let confirm = if settings.reset_contact_history { "Spring" } else { "" };
        let request = v1::LaunchCampaignRequest {
            name: name.clone(),
            settings: Some(settings),
            confirm_reset: confirm.to_owned(),
            ..Default::default()
        };
        let status = operator.campaigns.launch_campaign(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{settings:?}");
        assert_eq!(reason(&status), "ROLE_MISSING");
        assert_eq!(operator.campaign(&name).await.run, admin.campaign(&name).await.run);
        admin.campaigns.launch_campaign(request).await.unwrap();
        operator.cancel(&name).await;
    }
    operator.launch(&name).await;
}

#[tokio::test]
async fn streams_end_with_the_token_that_opened_them() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let mut long = guarded.clients("acme", &["operator"]);
    let name = long.create_campaign().await;
    long.add_contacts(&name, 0..10).await;
    long.launch(&name).await;
    let mut claims = claims("acme", &["viewer", "worker"]);
    claims["exp"] = json!(get_current_timestamp() + 3);
    let clients = guarded.clients_with(&guarded.signer.sign(&claims));
    let request = v1::WatchCampaignRequest { name: name.clone(), interval_seconds: 60 };
    let mut watched = clients.clone().campaigns.watch_campaign(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().waiting, 10);
    let mut worker = Worker::connect(&clients, "worker", &name).await;
    let held = worker.lease(10).await;
    worker.granted(&held[0]).await;
    let ended = |status: Status| {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert_eq!(reason(&status), "TOKEN_EXPIRED");
    };
    ended(worker.next().await.unwrap_err());
    ended(watched.message().await.unwrap_err());
    // With a fresh token, the worker has its leases as before.
    let fresh = guarded.clients("acme", &["worker"]);
    let leases = vec![held[0].lease.clone()];
    let mut worker = Worker::reconnect(&fresh, "worker", &name, leases).await;
    assert!(!worker.welcome.leases[0].lost);
    worker.granted(&held[1]).await;
    let hello = Message::Hello(v1::Hello { worker_id: "w".to_owned(), ..Default::default() });
    assert_eq!(reason(&Worker::open(&clients, hello).await.unwrap_err()), "TOKEN_EXPIRED");
}
