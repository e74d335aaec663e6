//! Bearer tokens: JSON Web Tokens that the service verifies with public keys.
//!
//! The key decides the algorithm, never the token. This rejects a token without a signature, and a
//! token signed with a public key as if the key were a secret.

#[cfg(test)]
mod fuzz;

use crate::app::error::Error;
use crate::reloading::Reloading;
use campaign_domain::access::{Caller, Role, Tenant};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation, decode, decode_header,
};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest subject of a token, as in the audit log.
const MAX_SUBJECT_CHARACTERS: usize = 200;
/// Most keys valid at once.
const MAX_KEYS: usize = 100;
/// Shortest RSA key, in bits.
const MIN_RSA_BITS: usize = 2_048;
/// Longest RSA key, in bits. Longer keys take too long to verify with.
const MAX_RSA_BITS: usize = 8_192;
/// Length of a public key on P-256, in bytes: its kind and both coordinates.
const P256_BYTES: usize = 1 + 2 * 32;
/// Length of a public Ed25519 key, in bytes.
const ED25519_BYTES: usize = 32;

/// File with the public keys.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// File with a JSON Web Key Set.
    Jwks(PathBuf),
    /// File with one public key, PEM.
    PublicKey(PathBuf),
}

/// Claims that a token must have.
#[derive(Clone, Debug)]
pub struct Demands {
    pub audience: String,
    /// Issuer; `None`: any holder of a signing key.
    pub issuer: Option<String>,
    /// Largest accepted difference between clocks.
    pub leeway: Duration,
}

/// Verifier of tokens.
#[derive(Debug)]
pub struct Tokens {
    keys: Reloading<Vec<Key>>,
    demands: Demands,
}

/// Caller that a token identifies, and the end of the token.
#[derive(Clone, Debug)]
pub struct Identified {
    pub caller: Caller,
    /// Expiry of the token plus the leeway.
    pub ends_at: SystemTime,
}

#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Claims that the service reads. A claim of the wrong type makes the token invalid.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    tenant: String,
}

impl Tokens {
    /// Reads the keys of a file.
    ///
    /// # Errors
    /// Returns an error if the file has no usable keys. The error says what to do.
    pub fn open(source: &KeySource, demands: Demands) -> Result<Self, String> {
        let what = "the file of token keys";
        let keys = match source {
            KeySource::Jwks(file) => {
                Reloading::open(what, vec![file.clone()], |contents| keys_of_set(&contents[0]))
            }
            KeySource::PublicKey(file) => Reloading::open(what, vec![file.clone()], |contents| {
                Ok(vec![key_of_pem(&contents[0])?])
            }),
        };
        Ok(Self { keys: keys?, demands })
    }

    /// Reloads changed keys until `stop`.
    pub async fn run(&self, interval: Duration, stop: &CancellationToken) {
        self.keys.run(interval, stop).await;
    }

    /// Verifies a token and returns the caller that the token identifies.
    ///
    /// # Errors
    /// Returns an error if the token is not for this service or not valid now.
    pub fn identify(&self, token: &str) -> Result<Identified, Error> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid(&format!("has more than {MAX_TOKEN_BYTES} bytes")));
        }
        let header = decode_header(token).map_err(|_| invalid("is no JSON Web Token"))?;
        // Critical headers ask for extensions that the service does not support.
        if header.crit.is_some() {
            return Err(invalid("has critical headers, which are not supported"));
        }
        let keys = self.keys.current();
        let key = choose(&keys, header.kid.as_deref(), header.alg)?;
        let claims = decode::<Claims>(token, &key.key, &self.validation(key.algorithm))
            .map_err(|error| refusal(error.kind()))?
            .claims;
        self.identified(claims)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp", "aud", "sub"];
        validation.set_audience(&[&self.demands.audience]);
        if let Some(issuer) = &self.demands.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation.validate_nbf = true;
        validation.leeway = self.demands.leeway.as_secs();
        validation
    }

    fn identified(&self, claims: Claims) -> Result<Identified, Error> {
        let subject_length = claims.sub.chars().count();
        if !(1..=MAX_SUBJECT_CHARACTERS).contains(&subject_length)
            || claims.sub.chars().any(char::is_control)
        {
            return Err(invalid("must have a sub of 1 to 200 characters"));
        }
        let tenant = Tenant::new(&claims.tenant).ok_or_else(|| {
            invalid("must have a tenant of 1 to 63 small letters, digits and hyphens, or none")
        })?;
        // Roles of other services are ignored.
        let mut roles: Vec<Role> =
            claims.roles.iter().filter_map(|name| Role::from_name(name)).collect();
        roles.sort_unstable();
        roles.dedup();
        let ends_at = Duration::try_from_secs_f64(claims.exp)
            .ok()
            .and_then(|exp| UNIX_EPOCH.checked_add(exp)?.checked_add(self.demands.leeway))
            .ok_or_else(|| invalid("has an exp that is no time"))?;
        // Checked exactly, because a stream that the token opens ends at that moment.
        if ends_at <= SystemTime::now() {
            return Err(refusal(&ErrorKind::ExpiredSignature));
        }
        Ok(Identified { caller: Caller { actor: claims.sub, roles, tenant }, ends_at })
    }
}

/// Returns the key that a token names by `id`. Without an `id`, returns the only key for the algorithm.
fn choose<'a>(keys: &'a [Key], id: Option<&str>, algorithm: Algorithm) -> Result<&'a Key, Error> {
    let mut fits = keys.iter().filter(|key| {
        // A single key needs no id.
        key.algorithm == algorithm && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
    });
    match (fits.next(), fits.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(invalid("names no key (kid), and there are several")),
        (None, _) => Err(invalid("is signed with a key or algorithm that is not known here")),
    }
}

fn invalid(how: &str) -> Error {
    Error::Unauthenticated {
        reason: "TOKEN_INVALID",
        description: format!("the token {how}; get one made for this service"),
    }
}

fn refusal(kind: &ErrorKind) -> Error {
    match kind {
        ErrorKind::ExpiredSignature => Error::Unauthenticated {
            reason: "TOKEN_EXPIRED",
            description: "the token has expired; get a new one".to_owned(),
        },
        ErrorKind::ImmatureSignature => invalid("does not hold yet (nbf)"),
        ErrorKind::InvalidAudience => invalid("is for another audience (aud)"),
        ErrorKind::InvalidIssuer => invalid("is of another issuer (iss)"),
        ErrorKind::MissingRequiredClaim(claim) => invalid(&format!("has no {claim}")),
        ErrorKind::InvalidSignature => invalid("is not signed with the key it names"),
        _ => invalid("cannot be read"),
    }
}

pub(crate) fn keys_of_set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not a JSON Web Key Set: {error}"))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("it has more than {MAX_KEYS} keys"));
    }
    let mut keys: Vec<Key> = Vec::new();
    for jwk in &set.keys {
        let Some(key) = key_of_jwk(jwk)? else { continue };
        let is_twin = |other: &Key| other.id == key.id && other.algorithm == key.algorithm;
        if keys.iter().any(is_twin) {
            return Err("two keys have the same kid; each needs its own".to_owned());
        }
        keys.push(key);
    }
    if keys.len() > 1 && keys.iter().any(|key| key.id.is_none()) {
        return Err("a key has no kid; if there are several keys, each needs one".to_owned());
    }
    if keys.is_empty() {
        return Err("it has no key that signs with RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

pub(crate) fn key_of_pem(pem: &[u8]) -> Result<Key, String> {
    const WANTED: &str = "it must have one PUBLIC KEY in PEM: RSA, P-256 or Ed25519";
    let text = String::from_utf8_lossy(pem);
    if text.contains("PRIVATE") || !text.contains("PUBLIC KEY") {
        return Err(WANTED.to_owned());
    }
    let key = DecodingKey::from_ec_pem(pem)
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .or_else(|_| DecodingKey::from_rsa_pem(pem))
        .map_err(|_| WANTED.to_owned())?;
    let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| WANTED.to_owned())?;
    key_of_jwk(&jwk)?.ok_or_else(|| WANTED.to_owned())
}

/// Returns a key of a set; `None` if the service does not support the key's type or use.
fn key_of_jwk(jwk: &Jwk) -> Result<Option<Key>, String> {
    let id = jwk.common.key_id.clone();
    let named = id.as_deref().unwrap_or("without kid");
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return Ok(None),
    };
    let is_for_other = jwk.common.key_algorithm.is_some_and(|other| other != algorithm.into());
    if is_for_other || matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("the key {named}: {error}"))?;
    check_length(&key).map_err(|problem| format!("the key {named} {problem}"))?;
    // A malformed key fails only when it is used.
    jsonwebtoken::crypto::verify("", b"", &key, algorithm)
        .map_err(|error| format!("the key {named} is no public key: {error}"))?;
    Ok(Some(Key { id, algorithm, key }))
}

/// Checks the length of a key before its first use, because not all code that reads keys copes
/// with other lengths.
fn check_length(key: &DecodingKey) -> Result<(), String> {
    let wanted = match (key.kind(), key.family()) {
        (DecodingKeyKind::RsaModulusExponent { n, .. }, _) => {
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            let is_fit = (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&((n.len() - leading) * 8));
            return if is_fit {
                Ok(())
            } else {
                Err(format!("must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"))
            };
        }
        (DecodingKeyKind::SecretOrDer(_), AlgorithmFamily::Ed) => ED25519_BYTES,
        (DecodingKeyKind::SecretOrDer(_), _) => P256_BYTES,
    };
    match key.try_get_as_bytes() {
        Ok(bytes) if bytes.len() == wanted => Ok(()),
        _ => Err("does not have the length of its kind".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn problem(set: &Value) -> String {
        keys_of_set(set.to_string().as_bytes()).expect_err("nobody could use it")
    }

    #[test]
    fn a_set_with_a_key_that_is_none_is_refused() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let good = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "a" });
        let set = json!({ "keys": [good] }).to_string();
        assert_eq!(keys_of_set(set.as_bytes()).expect("right").len(), 1);
        for bad in [
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": format!("{x}AAAA") }),
            json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA" }),
            json!({ "kty": "EC", "crv": "P-256", "x": x, "y": x }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "RSA", "n": "", "e": "" }),
            json!({ "kty": "RSA", "n": "/w".repeat(100), "e": "AQAB" }),
        ] {
            assert!(!problem(&json!({ "keys": [good, bad] })).is_empty(), "{bad}");
        }
        // Keys for other uses are ignored. A secret is never used as a public key.
        for other in [
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc" }),
            json!({ "kty": "EC", "crv": "P-384", "x": x, "y": x }),
        ] {
            assert!(problem(&json!({ "keys": [other] })).contains("no key that signs"), "{other}");
        }
        let nameless = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        assert!(problem(&json!({ "keys": [good, nameless] })).contains("kid"));
        assert!(problem(&json!({ "keys": [good, good] })).contains("kid"));
        for pem in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(key_of_pem(pem.as_bytes()).is_err());
        }
    }
}
