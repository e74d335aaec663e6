//! Fuzz tests of tokens: a token is rejected unless its claims were signed. `make fuzz` tries more inputs.

use super::{Demands, KeySource, Tokens};
use crate::grpc::fuzz::{change, changed, inputs};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

/// Signing key, and the verifier with its public key.
static BOTH: LazyLock<(EncodingKey, Tokens)> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let file = std::env::temp_dir().join(format!("token-key-{}.pem", uuid::Uuid::new_v4()));
    std::fs::write(&file, pair.public_key_pem()).expect("a file of ours");
    let demands =
        Demands { audience: "campaigns".to_owned(), issuer: None, leeway: Duration::from_secs(30) };
    let tokens = Tokens::open(&KeySource::PublicKey(file.clone()), demands).expect("a good key");
    std::fs::remove_file(file).expect("it is ours");
    (EncodingKey::from_ec_der(pair.serialized_der()), tokens)
});

fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::ES256), claims, &BOTH.0).expect("it can be signed")
}

fn good() -> Value {
    let exp = get_current_timestamp() + 3_600;
    json!({ "sub": "ann", "aud": "campaigns", "roles": ["viewer"], "tenant": "acme", "exp": exp })
}

/// Valid token, signed once.
static TOKEN: LazyLock<String> = LazyLock::new(|| signed(&good()));

/// Returns a strategy for values of a claim, valid or not.
fn claim() -> impl Strategy<Value = Value> {
    let texts = ["", "ann", "campaigns", "acme", "admin", "viewer", "UPPER", "a\u{0}b"];
    let leaf = prop_oneof![
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
        "\\PC{0,300}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(get_current_timestamp() + 60)),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!({ "a": [] })),
    ];
    prop_oneof![3 => leaf.clone(), 1 => vec(leaf, 0..5).prop_map(Value::from)]
}

fn claims() -> impl Strategy<Value = Value> {
    let names = ["sub", "aud", "roles", "tenant", "exp", "nbf", "iss"];
    vec((prop::sample::select(names.to_vec()), claim()), 0..4).prop_map(|changes| {
        let mut claims = good();
        for (name, value) in changes {
            claims[name] = value;
        }
        claims
    })
}

proptest! {
    #![proptest_config(inputs())]

    #[test]
    fn tokens_that_were_tampered_with(changes in vec(change(), 1..4)) {
        let token = changed(TOKEN.clone().into_bytes(), &changes);
        if let Ok(identified) = BOTH.1.identify(&String::from_utf8_lossy(&token)) {
            let caller = identified.caller;
            prop_assert_eq!((caller.actor.as_str(), caller.tenant.name()), ("ann", "acme"));
            prop_assert_eq!(caller.roles.len(), 1);
        }
    }

    #[test]
    fn tokens_that_say_anything(claims in claims()) {
        if let Ok(identified) = BOTH.1.identify(&signed(&claims)) {
            prop_assert_eq!(&claims["sub"], &json!(identified.caller.actor));
            let tenant = claims["tenant"].as_str().unwrap_or_default();
            prop_assert_eq!(tenant, identified.caller.tenant.name());
            prop_assert!(identified.ends_at > std::time::SystemTime::now());
        }
    }
}

#[test]
fn inputs_are_of_both_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    assert!(BOTH.1.identify(&TOKEN).is_ok());
    let mut runner = TestRunner::deterministic();
    let taken = (0..300).filter(|_| {
        let claims = claims().new_tree(&mut runner).expect("claims").current();
        BOTH.1.identify(&signed(&claims)).is_ok()
    });
    assert!((1..300).contains(&taken.count()));
}
