//! Keys, tokens and certificates, created for a test and removed with it.

use super::{Service, TestDb, test_options};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use campaign_service::server::{Access, Options};
use campaign_service::tls::{Tls, TlsFiles};
use campaign_service::tokens::{Demands, KeySource, Tokens};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rsa::pkcs8::EncodePrivateKey;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Audience of the tests' tokens.
pub const AUDIENCE: &str = "campaigns.test";
/// Interval of checking files for changes in tests.
const RELOAD_INTERVAL: Duration = Duration::from_millis(20);

/// Folder that is removed with this value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("campaign-keys-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file atomically, as a rotation of keys does.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let draft = self.path(&format!("{name}.draft"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path(name)).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Signer of tokens.
#[derive(Clone)]
pub struct Signer {
    pub id: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// Public key, PEM.
    pub public_pem: String,
}

impl Signer {
    /// Returns a signer with a key on the curve P-256.
    pub fn new(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        Self {
            id: id.to_owned(),
            algorithm: Algorithm::ES256,
            key,
            public_pem: pair.public_key_pem(),
        }
    }

    pub fn ed25519(id: &str) -> Self {
        // Every reader accepts this form of the key, which holds only the secret.
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend(
            [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat(),
        );
        let (key, algorithm) = (EncodingKey::from_ed_der(&der), Algorithm::EdDSA);
        let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        spki.extend(URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap());
        let public_pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(spki)
        );
        Self { id: id.to_owned(), algorithm, key, public_pem }
    }

    pub fn rsa(id: &str, bits: usize) -> Self {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
        let pem = key.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).unwrap();
        let public_pem = rsa::pkcs8::EncodePublicKey::to_public_key_pem(
            &key.to_public_key(),
            rsa::pkcs8::LineEnding::LF,
        );
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        let algorithm = Algorithm::RS256;
        Self { id: id.to_owned(), algorithm, key, public_pem: public_pem.unwrap() }
    }

    /// Returns the public key as an entry of a key set.
    pub fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    /// Returns a token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }

    /// Returns a token with these roles, valid for an hour.
    pub fn token(&self, tenant: &str, roles: &[&str]) -> String {
        self.sign(&claims(tenant, roles))
    }
}

/// Returns the key set of these signers.
pub fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.public()).collect();
    json!({ "keys": keys }).to_string()
}

/// Returns the claims of a token that is valid for an hour.
pub fn claims(tenant: &str, roles: &[&str]) -> Value {
    let mut claims = json!({
        "sub": "ann@example.com", "aud": AUDIENCE, "roles": roles,
        "exp": get_current_timestamp() + 3_600,
    });
    if !tenant.is_empty() {
        claims["tenant"] = tenant.into();
    }
    claims
}

/// Service that requires tokens.
pub struct Guarded {
    pub service: Service,
    pub signer: Signer,
    pub folder: Folder,
}

impl Guarded {
    pub async fn start(db: &TestDb) -> Self {
        Self::start_with(db, test_options()).await
    }

    pub async fn start_with(db: &TestDb, options: Options) -> Self {
        let (folder, signer) = (Folder::new(), Signer::new("first"));
        let file = folder.write("keys.json", &key_set(&[&signer]));
        let options = Options { access: with_tokens(KeySource::Jwks(file)), ..options };
        Self { service: Service::start_with(db, options).await, signer, folder }
    }

    /// Returns clients with these roles.
    pub fn clients(&self, tenant: &str, roles: &[&str]) -> super::Clients {
        self.clients_with(&self.signer.token(tenant, roles))
    }

    pub fn clients_with(&self, token: &str) -> super::Clients {
        self.service.clients.with_token(token)
    }
}

/// Returns access by tokens for our audience, of any issuer, without leeway.
pub fn with_tokens(keys: KeySource) -> Access {
    let demands = Demands { audience: AUDIENCE.to_owned(), issuer: None, leeway: Duration::ZERO };
    let tokens = Some(Arc::new(Tokens::open(&keys, demands).unwrap()));
    Access { tokens, tls: None, reload_interval: RELOAD_INTERVAL }
}

/// Returns access with TLS alone.
pub fn with_tls(files: &TlsFiles) -> Access {
    let tls = Some(Arc::new(Tls::open(files).unwrap()));
    Access { tokens: None, tls, reload_interval: RELOAD_INTERVAL }
}

/// Certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        // The name differs from that of the certificates. Otherwise some clients take them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&pair).unwrap();
        Self { issuer: Issuer::new(params, pair), certificate }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Returns a certificate for localhost or a client, and its key, PEM.
    pub fn issue(&self) -> (String, String) {
        self.issue_for(&["localhost", "127.0.0.1"])
    }

    /// Returns a certificate for names and addresses, and its key, PEM.
    pub fn issue_for(&self, names: &[&str]) -> (String, String) {
        self.sign(names, None)
    }

    /// Returns a client's certificate with a serial number, and its key, PEM.
    pub fn issue_numbered(&self, number: u64) -> (String, String) {
        self.sign(&["client"], Some(number.into()))
    }

    /// Returns the list of revoked certificates, PEM. Its next update is long overdue.
    pub fn revoke(&self, numbers: &[u64]) -> String {
        let revoked = |number: &u64| RevokedCertParams {
            serial_number: (*number).into(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2024, 2, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn sign(&self, names: &[&str], serial_number: Option<SerialNumber>) -> (String, String) {
        let pair = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = serial_number;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        (certificate.pem(), pair.serialize_pem())
    }

    /// Writes a new certificate and its key into files.
    pub fn issue_to(&self, folder: &Folder, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue();
        (
            folder.write(&format!("{name}.pem"), &certificate),
            folder.write(&format!("{name}-key.pem"), &key),
        )
    }
}
