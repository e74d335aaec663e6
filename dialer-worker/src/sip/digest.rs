//! Digest authentication: reading challenges and computing responses (RFC 7616; for SIP RFC 3261
//! §22 and RFC 8760).

use std::fmt::Write as _;
use std::sync::Arc;

use campaign_process::Secret;
use md5::{Digest as _, Md5};
use sha2::{Sha256, Sha512_256};

/// Longest value of a challenge that is taken, in bytes.
const VALUE_BYTES: usize = 1_024;

/// Hash function of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Md5,
    Sha256,
    Sha512Of256,
}

/// Quality of protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Auth,
    /// The body is protected too.
    AuthInt,
}

/// Challenge that the worker can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Values as they stood between their quotes. They enter the hash and the answer like that.
    pub realm: String,
    nonce: String,
    opaque: Option<String>,
    /// Algorithm in the server's spelling.
    algorithm: Option<String>,
    hash: Hash,
    /// Whether the password's hash is bound to the nonce.
    is_session: bool,
    protection: Option<Protection>,
    /// Whether only the nonce was too old, and the credentials were right.
    pub is_stale: bool,
}

/// User and password.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub user: String,
    pub password: Secret,
}

impl Login {
    /// Returns user and password, if both are set.
    pub fn of(user: Option<&str>, password: Option<&Secret>) -> Option<Arc<Self>> {
        let (user, password) = (user?.to_owned(), password?.clone());
        Some(Arc::new(Self { user, password }))
    }
}

/// Request that a response protects.
pub(super) struct Protected<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    pub body: &'a [u8],
    /// Own nonce; the same as long as the challenge is used.
    pub cnonce: &'a str,
    /// Number of uses of the challenge, this one included.
    pub count: u32,
}

impl Hash {
    fn hex(self, data: &[u8]) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(data)),
            Self::Sha256 => hex(&Sha256::digest(data)),
            Self::Sha512Of256 => hex(&Sha512_256::digest(data)),
        }
    }
}

/// Returns bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Challenge {
    /// Reads the challenges of a `WWW-Authenticate` or `Proxy-Authenticate` header. Omits those
    /// that the worker cannot answer: other schemes, unknown algorithms.
    pub fn read(header: &str) -> Vec<Self> {
        split(header)
            .into_iter()
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Digest"))
            .filter_map(|(_, values)| Self::from_values(&values))
            .collect()
    }

    fn from_values(values: &[(&str, &str)]) -> Option<Self> {
        let value = |wanted: &str| {
            let named = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            named.map(|(_, value)| (*value).to_owned())
        };
        if values.iter().any(|(_, value)| value.len() > VALUE_BYTES) {
            return None;
        }
        let algorithm = value("algorithm");
        let (hash, is_session) = algorithm.as_deref().map_or(Some((Hash::Md5, false)), hash)?;
        let protection = match value("qop") {
            None => None,
            Some(list) => Some(protection(&list)?),
        };
        Some(Self {
            realm: value("realm")?,
            nonce: value("nonce")?,
            opaque: value("opaque"),
            algorithm,
            hash,
            is_session,
            protection,
            is_stale: value("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// Returns the value of the header that answers the challenge.
    pub fn answer(&self, login: &Login, protected: &Protected<'_>) -> String {
        let response = self.response(login, protected);
        let user = login.user.replace('\\', "\\\\").replace('"', "\\\"");
        let Protected { uri, cnonce, count, .. } = protected;
        let mut text = format!(
            "Digest username=\"{user}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", \
             response=\"{response}\"",
            self.realm, self.nonce
        );
        if let Some(algorithm) = &self.algorithm {
            let _ = write!(text, ", algorithm={algorithm}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(text, ", opaque=\"{opaque}\"");
        }
        match self.protection {
            Some(protection) => {
                let name = protection.name();
                let _ = write!(text, ", qop={name}, nc={count:08x}, cnonce=\"{cnonce}\"");
            }
            None if self.is_session => {
                let _ = write!(text, ", cnonce=\"{cnonce}\"");
            }
            None => {}
        }
        text
    }

    fn response(&self, login: &Login, protected: &Protected<'_>) -> String {
        let hex = |text: String| self.hash.hex(text.as_bytes());
        let Protected { method, uri, body, cnonce, count } = protected;
        let (realm, nonce) = (&self.realm, &self.nonce);
        let mut secret = hex(format!("{}:{realm}:{}", login.user, login.password.reveal()));
        if self.is_session {
            secret = hex(format!("{secret}:{nonce}:{cnonce}"));
        }
        let request = match self.protection {
            Some(Protection::AuthInt) => hex(format!("{method}:{uri}:{}", self.hash.hex(body))),
            _ => hex(format!("{method}:{uri}")),
        };
        match self.protection {
            Some(protection) => {
                let name = protection.name();
                hex(format!("{secret}:{nonce}:{count:08x}:{cnonce}:{name}:{request}"))
            }
            None => hex(format!("{secret}:{nonce}:{request}")),
        }
    }
}

impl Protection {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// Returns the hash function of an algorithm, and whether it is the session's variant. Some servers
/// omit the first hyphen.
fn hash(algorithm: &str) -> Option<(Hash, bool)> {
    let name = algorithm.to_ascii_uppercase();
    let (name, is_session) = match name.strip_suffix("-SESS") {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let hash = match name {
        "MD5" => Hash::Md5,
        "SHA-256" | "SHA256" => Hash::Sha256,
        "SHA-512-256" | "SHA512-256" => Hash::Sha512Of256,
        _ => return None,
    };
    Some((hash, is_session))
}

/// Returns the protection to use of those offered: `auth` where possible, since a proxy may change
/// the body.
fn protection(list: &str) -> Option<Protection> {
    let offers =
        |wanted: &str| list.split(',').any(|name| name.trim().eq_ignore_ascii_case(wanted));
    if offers("auth") {
        Some(Protection::Auth)
    } else {
        offers("auth-int").then_some(Protection::AuthInt)
    }
}

/// Splits a header into challenges, each a scheme with named values. Quotes are removed, and
/// backslashes stay.
fn split(header: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let mut challenges: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == ',');
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() && !after.starts_with('=') {
            return challenges;
        }
        match after.trim_start().strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after.trim_start());
                if let Some((_, values)) = challenges.last_mut() {
                    values.push((word, value));
                }
                rest = after;
            }
            None => {
                challenges.push((word, Vec::new()));
                rest = after;
            }
        }
    }
}

/// Returns the value at the beginning of a text, and the text behind it.
fn value(text: &str) -> (&str, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_ascii_whitespace());
        return text.split_at(end.unwrap_or(text.len()));
    };
    let mut is_escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !is_escaped => return (&quoted[..at], &quoted[at + 1..]),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    (quoted, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        let password = "Circle of Life".parse().expect("any text");
        Login { user: "Mufasa".to_owned(), password }
    }

    fn one(header: &str) -> Challenge {
        let mut challenges = Challenge::read(header);
        assert_eq!(challenges.len(), 1, "{header}");
        challenges.remove(0)
    }

    fn get<'a>(cnonce: &'a str, uri: &'a str) -> Protected<'a> {
        Protected { method: "GET", uri, body: b"", cnonce, count: 1 }
    }

    /// Examples of RFC 7616 §3.9.1, with its user, password and nonces.
    #[test]
    fn responses_are_those_of_the_standard() {
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = one(&format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"{nonce}\", opaque=\"FQhe\""
            ));
            let protected = get(cnonce, "/dir/index.html");
            assert_eq!(challenge.response(&login(), &protected), expected, "{algorithm}");
            let answer = challenge.answer(&login(), &protected);
            assert!(
                answer.contains(&format!("algorithm={algorithm}, opaque=\"FQhe\"")),
                "{answer}"
            );
            assert!(answer.contains("qop=auth, nc=00000001, cnonce="), "{answer}");
        }
    }

    /// Computed by Python's hashlib from the formulas of RFC 7616 §3.4.
    #[test]
    fn the_session_and_the_body_enter_the_hash() {
        let protected = Protected {
            method: "INVITE",
            uri: "sip:1@trunk",
            body: b"v=0\r\n",
            cnonce: "0a4f113b",
            count: 26,
        };
        for (words, expected) in [
            ("algorithm=MD5-sess, qop=\"auth\"", "273c50a4fe9e06fe87497917ecc55b1a"),
            ("qop=\"auth-int\"", "e9789782536e0c5679dbde5cbb97f410"),
            (
                "algorithm=SHA-512-256, qop=auth",
                "7cc3432d8fb469b50fc816a57bc401472691691b825cfdf9c58fcdae5e75f261",
            ),
            (
                "algorithm=SHA-256-sess, qop=\"auth-int\"",
                "a2fde5436b51eeb57fdda32749633c46043ac00656a15f75635691f2a0114ac4",
            ),
            ("algorithm=MD5", "b943db4126223b1e8d86889a5e599211"),
        ] {
            let challenge = one(&format!("Digest realm=\"trunk\", nonce=\"dcd98b\", {words}"));
            assert_eq!(challenge.response(&login(), &protected), expected, "{words}");
        }
    }

    #[test]
    fn a_header_may_hold_anything() {
        assert_eq!(Challenge::read(""), []);
        assert_eq!(Challenge::read("Basic realm=\"a\""), []);
        assert_eq!(Challenge::read("Digest"), []);
        assert_eq!(Challenge::read("=,==\""), []);
        assert_eq!(Challenge::read("Digest realm=\"a\", nonce=\"b\", algorithm=SHA3-512"), []);
        assert_eq!(Challenge::read("Digest realm=\"a\", nonce=\"b\", qop=\"auth-conf\""), []);
        let long = "x".repeat(VALUE_BYTES + 1);
        assert_eq!(Challenge::read(&format!("Digest realm=\"{long}\", nonce=\"b\"")), []);
        let two =
            Challenge::read("Basic realm=\"a\", DIGEST  Realm = \"q\\\"c, d\",nonce=e,STALE=TRUE");
        assert_eq!(two.len(), 1);
        assert_eq!((two[0].realm.as_str(), two[0].nonce.as_str()), ("q\\\"c, d", "e"));
        assert!(two[0].is_stale);
        let both =
            "Digest realm=\"a\", nonce=\"1\", algorithm=SHA-256, Digest realm=\"a\", nonce=\"2\"";
        assert_eq!(Challenge::read(both).len(), 2);
    }
}
