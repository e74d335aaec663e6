//! Answers to the trunk's challenges, for each request of a call.
//!
//! The stack below answers one MD5 challenge a request. It is shown such a challenge, so that it
//! repeats the request, and [`Credentials::sign`] puts the right answers in place of the stack's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsipstack::dialog::authenticate::Credential;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Header, Method, Request, Response};
use uuid::Uuid;

use super::digest::{Challenge, Login, Protected};

/// Most realms that may challenge one call: the trunk's and its proxies'.
const REALMS: usize = 4;
/// Time for which answers are kept after a call, for what is still under way: 64 times T1.
const KEEP: Duration = Duration::from_secs(32);

/// Challenges of all calls that have a user and a password.
#[derive(Default)]
pub(super) struct Credentials {
    /// Calls by their Call-ID.
    calls: Mutex<HashMap<String, Challenged>>,
}

/// Challenges of one call, and its answers.
struct Challenged {
    login: Arc<Login>,
    realms: Vec<Realm>,
    /// Latest signed request of each method. A repeated request keeps its answers.
    signed: Vec<Signed>,
    /// Code of the last answer to the INVITE, if it was a challenge.
    refused: Option<u16>,
}

struct Realm {
    is_proxy: bool,
    challenge: Challenge,
    cnonce: String,
    count: u32,
}

struct Signed {
    sequence: u32,
    method: Method,
    headers: Vec<Header>,
    realms: Vec<(bool, String)>,
}

impl Credentials {
    /// Prepares for the challenges of a call.
    pub fn begin(&self, call_id: &str, login: &Arc<Login>) {
        let login = Arc::clone(login);
        let (realms, signed) = (Vec::new(), Vec::new());
        let call = Challenged { login, realms, signed, refused: None };
        self.calls().insert(call_id.to_owned(), call);
    }

    /// Forgets a call, once what is under way has ended.
    pub fn forget(self: &Arc<Self>, call_id: &str) {
        let (credentials, call_id) = (Arc::clone(self), call_id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(KEEP).await;
            credentials.calls().remove(&call_id);
        });
    }

    /// Returns the code of the challenge with which a call ended.
    pub fn refused(&self, call_id: &str) -> Option<u16> {
        self.calls().get(call_id).and_then(|call| call.refused)
    }

    /// Notes the challenges of a response, and shows the stack one that makes it repeat the request
    /// if there is an answer that the trunk has not refused.
    pub fn hear(&self, response: &mut Response) {
        let (Some((sequence, method)), Ok(call_id)) =
            (sequence(response), response.call_id_header().map(|id| id.value().to_owned()))
        else {
            return;
        };
        let code = response.status_code.code();
        let mut calls = self.calls();
        let Some(call) = calls.get_mut(&call_id) else { return };
        if method == Method::Invite {
            call.refused = matches!(code, 401 | 407).then_some(code);
        }
        if matches!(code, 401 | 407) {
            let challenges = take_challenges(response, code == 407);
            let shown = call.note(sequence, method, challenges);
            response.headers.extend(shown.into_iter().collect());
        }
    }

    /// Replaces the answers of a request by the right ones.
    pub fn sign(&self, request: &mut Request) {
        let (Some((sequence, _)), Ok(call_id)) =
            (sequence(request), request.call_id_header().map(|id| id.value().to_owned()))
        else {
            return;
        };
        let mut calls = self.calls();
        let Some(call) = calls.get_mut(&call_id) else { return };
        request.headers.retain(|header| {
            !matches!(header, Header::Authorization(_) | Header::ProxyAuthorization(_))
        });
        let headers = match request.method {
            Method::Cancel => Vec::new(),
            // The ACK carries what its INVITE carried (RFC 3261 §22.1).
            Method::Ack => call.signed(sequence, Method::Invite).unwrap_or_default(),
            method => call.signed(sequence, method).unwrap_or_else(|| call.sign(sequence, request)),
        };
        request.headers.extend(headers);
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<String, Challenged>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Challenged {
    /// Takes the challenges to a request into account. Returns the challenge for the stack.
    fn note(
        &mut self,
        sequence: u32,
        method: Method,
        challenges: Vec<(bool, Challenge)>,
    ) -> Option<Header> {
        let answered = self.signed.iter().find(|signed| signed.method == method);
        if answered.is_some_and(|answered| answered.sequence > sequence) {
            // The response is repeated, and the request with its answer is under way.
            return None;
        }
        let answered = answered.filter(|answered| answered.sequence == sequence);
        let mut shown = None;
        let mut heard: Vec<(bool, String)> = Vec::new();
        for (is_proxy, challenge) in challenges {
            let key = (is_proxy, challenge.realm.clone());
            // The server's first is the one that it prefers (RFC 8760 §2.4).
            if heard.contains(&key) || heard.len() == REALMS {
                continue;
            }
            heard.push(key.clone());
            let is_new = !answered.is_some_and(|answered| answered.realms.contains(&key));
            if is_new || challenge.is_stale {
                shown = Some(show(is_proxy, answered.is_some()));
            }
            self.realms.retain(|realm| (realm.is_proxy, &realm.challenge.realm) != (key.0, &key.1));
            if self.realms.len() < REALMS {
                let cnonce = Uuid::new_v4().simple().to_string();
                self.realms.push(Realm { is_proxy, challenge, cnonce, count: 0 });
            }
        }
        shown.or_else(|| heard.first().map(|(is_proxy, _)| show(*is_proxy, false)))
    }

    fn signed(&self, sequence: u32, method: Method) -> Option<Vec<Header>> {
        let is_same = |signed: &&Signed| signed.sequence == sequence && signed.method == method;
        self.signed.iter().find(is_same).map(|signed| signed.headers.clone())
    }

    fn sign(&mut self, sequence: u32, request: &Request) -> Vec<Header> {
        let (method, uri) = (request.method.to_string(), request.uri.to_string());
        let mut headers = Vec::new();
        for realm in &mut self.realms {
            realm.count += 1;
            let protected = Protected {
                method: &method,
                uri: &uri,
                body: &request.body,
                cnonce: &realm.cnonce,
                count: realm.count,
            };
            let answer = realm.challenge.answer(&self.login, &protected);
            headers.push(if realm.is_proxy {
                Header::ProxyAuthorization(answer.into())
            } else {
                Header::Authorization(answer.into())
            });
        }
        if !headers.is_empty() {
            let keys =
                self.realms.iter().map(|realm| (realm.is_proxy, realm.challenge.realm.clone()));
            let realms = keys.collect();
            self.signed.retain(|signed| signed.method != request.method);
            let headers = headers.clone();
            self.signed.push(Signed { sequence, method: request.method, headers, realms });
        }
        headers
    }
}

/// Returns what makes the stack answer challenges. It never leaves the worker.
pub(super) fn for_stack(login: &Login) -> Credential {
    Credential { username: login.user.clone(), ..Credential::default() }
}

/// Returns a challenge that the stack understands. `again` makes it answer once more: to the stack
/// that looks like a nonce that was too old.
fn show(is_proxy: bool, again: bool) -> Header {
    let stale = if again { ", stale=true" } else { "" };
    let text = format!("Digest realm=\"-\", nonce=\"-\", algorithm=MD5{stale}");
    if is_proxy {
        Header::ProxyAuthenticate(text.into())
    } else {
        Header::WwwAuthenticate(text.into())
    }
}

/// Takes all challenges out of a response. Returns those that can be answered, and whether they are
/// of a proxy. A challenge of the kind that the code does not announce counts only without the other.
fn take_challenges(response: &mut Response, is_proxy: bool) -> Vec<(bool, Challenge)> {
    let mut challenges = Vec::new();
    for header in response.headers.iter() {
        let (of_proxy, text) = match header {
            Header::ProxyAuthenticate(header) => (true, header.value()),
            Header::WwwAuthenticate(header) => (false, header.value()),
            _ => continue,
        };
        challenges.extend(Challenge::read(text).into_iter().map(|challenge| (of_proxy, challenge)));
    }
    response.headers.retain(|header| {
        !matches!(header, Header::ProxyAuthenticate(_) | Header::WwwAuthenticate(_))
    });
    if challenges.iter().any(|(of_proxy, _)| *of_proxy == is_proxy) {
        challenges.retain(|(of_proxy, _)| *of_proxy == is_proxy);
    }
    challenges
}

fn sequence(message: &impl HeadersExt) -> Option<(u32, Method)> {
    let header = message.cseq_header().ok()?;
    Some((header.seq().ok()?, header.method().ok()?))
}
