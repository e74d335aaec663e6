//! SIP trunk over UDP (RFC 3261). A call is named by its Call-ID, which is the attempt's key. Dialogs are lost with the
//! program, as those of a trunk that crashed; the people talk on.

use super::log::{Create, Event};
use super::platform::Platform;
use crate::Result;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Delays between two sendings of what is not acknowledged (T1, and twice as long each time). The last one is shorter
/// than the RFC's 32 seconds, so that a round ends.
const DELAYS_MILLIS: [u64; 4] = [500, 1_000, 2_000, 500];
/// Longest datagram.
const MAX_DATAGRAM_BYTES: usize = 65_535;
const TAG: &str = "trunk";
/// Statuses by which an event counts as heard, or as heard by nobody.
const HEARD: u16 = 200;
const NOBODY: u16 = 408;

/// Request or response, without its body.
#[derive(Clone, Debug)]
struct Message {
    start: String,
    headers: Vec<(String, String)>,
}

impl Message {
    fn read(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let mut lines = text.split("\r\n\r\n").next()?.split("\r\n");
        let start = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self { start, headers: lines.filter_map(header).collect() })
    }

    fn get(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns the status of a response.
    fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()
    }

    /// Returns the method of a request, or of the request that a response answers.
    fn method(&self) -> &str {
        self.get("cseq").split_whitespace().nth(1).unwrap_or_default()
    }

    fn call_id(&self) -> &str {
        self.get("call-id")
    }

    /// Returns the response to this request.
    fn response(&self, status: &str, contact: Option<SocketAddr>) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for (_, via) in self.headers.iter().filter(|(name, _)| name == "via") {
            let _ = write!(text, "Via: {via}\r\n");
        }
        let to = self.get("to");
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag={TAG}") };
        let (from, id, cseq) = (self.get("from"), self.call_id(), self.get("cseq"));
        let _ = write!(text, "From: {from}\r\nTo: {to}{tag}\r\nCall-ID: {id}\r\nCSeq: {cseq}\r\n");
        let mut body = String::new();
        if let Some(own) = contact {
            let _ = write!(text, "Contact: <sip:{own}>\r\nContent-Type: application/sdp\r\n");
            body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                    m=audio 9 RTP/AVP 0\r\n"
                .to_owned();
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ringing,
    Answered,
    Over,
}

/// Call as the trunk signals it.
struct Leg {
    peer: SocketAddr,
    invite: Message,
    state: State,
    /// Last response to the INVITE.
    last: Vec<u8>,
    /// Cancelled when the final response, then the BYE is acknowledged.
    is_final_heard: CancellationToken,
    is_bye_heard: CancellationToken,
}

/// Trunk.
pub(super) struct Trunk {
    socket: UdpSocket,
    address: SocketAddr,
    legs: Mutex<HashMap<String, Leg>>,
}

impl Trunk {
    pub async fn bind(address: SocketAddr) -> Result<Arc<Self>> {
        let socket = UdpSocket::bind(address).await?;
        Ok(Arc::new(Self { socket, address, legs: Mutex::default() }))
    }

    fn legs(&self) -> MutexGuard<'_, HashMap<String, Leg>> {
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests until the program ends.
    pub async fn serve(self: Arc<Self>, platform: Platform) {
        let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
        loop {
            // An error tells that a worker is not there any more.
            let Ok((bytes, peer)) = self.socket.recv_from(&mut datagram).await else { continue };
            let Some(message) = Message::read(&datagram[..bytes]) else { continue };
            for response in self.answer(&platform, &message, peer) {
                let _ = self.socket.send_to(&response, peer).await;
            }
        }
    }

    fn answer(&self, platform: &Platform, message: &Message, peer: SocketAddr) -> Vec<Vec<u8>> {
        let id = message.call_id();
        if message.status().is_some() {
            if let Some(leg) = self.legs().get(id).filter(|_| message.method() == "BYE") {
                leg.is_bye_heard.cancel();
            }
            return Vec::new();
        }
        match message.method() {
            "INVITE" if message.get("to").contains("tag=") => {
                vec![message.response("200 OK", Some(self.address))]
            }
            "INVITE" => self.invited(platform, message, peer),
            "ACK" => {
                if let Some(leg) = self.legs().get(id) {
                    leg.is_final_heard.cancel();
                }
                Vec::new()
            }
            "CANCEL" | "BYE" => self.hung_up(platform, message),
            _ => vec![message.response("200 OK", None)],
        }
    }

    fn invited(&self, platform: &Platform, invite: &Message, peer: SocketAddr) -> Vec<Vec<u8>> {
        if let Some(leg) = self.legs().get(invite.call_id()) {
            return vec![leg.last.clone()];
        }
        let Some(create) = read(invite) else {
            return vec![invite.response("400 Bad Request", None)];
        };
        let is_failing = platform.fails();
        let status = if is_failing { "503 Service Unavailable" } else { "100 Trying" };
        let last = invite.response(status, None);
        let leg = Leg {
            peer,
            invite: invite.clone(),
            state: if is_failing { State::Over } else { State::Ringing },
            last: last.clone(),
            is_final_heard: CancellationToken::new(),
            is_bye_heard: CancellationToken::new(),
        };
        self.legs().insert(invite.call_id().to_owned(), leg);
        if !is_failing {
            platform.ring(create);
        }
        vec![last]
    }

    fn hung_up(&self, platform: &Platform, request: &Message) -> Vec<Vec<u8>> {
        let mut responses = Vec::new();
        let is_known = match self.legs().get_mut(request.call_id()) {
            Some(leg) => {
                let is_cancel = request.method() == "CANCEL";
                if is_cancel && leg.state == State::Ringing {
                    leg.last = leg.invite.response("487 Request Terminated", None);
                    responses.push(leg.last.clone());
                }
                // A CANCEL that crosses the answer changes nothing.
                if !is_cancel || leg.state == State::Ringing {
                    leg.state = State::Over;
                    platform.hang_up(request.call_id());
                }
                true
            }
            None => false,
        };
        let status = if is_known { "200 OK" } else { "481 Call/Transaction Does Not Exist" };
        responses.insert(0, request.response(status, None));
        responses
    }

    /// Signals an event to the worker. Returns how it was heard.
    pub async fn notify(&self, event: &Event) -> u16 {
        let sending = self.legs().get_mut(&event.key).and_then(|leg| self.signal(leg, event));
        let Some((bytes, peer, is_heard)) = sending else { return HEARD };
        for delay in DELAYS_MILLIS.map(Duration::from_millis) {
            let _ = self.socket.send_to(&bytes, peer).await;
            let Some(is_heard) = &is_heard else { return HEARD };
            if timeout(delay, is_heard.cancelled()).await.is_ok() {
                return HEARD;
            }
        }
        NOBODY
    }

    /// Returns what to send for an event, to whom, and how to know that it was heard. Provisional responses are not
    /// acknowledged.
    fn signal(
        &self,
        leg: &mut Leg,
        event: &Event,
    ) -> Option<(Vec<u8>, SocketAddr, Option<CancellationToken>)> {
        match (event.kind(), leg.state) {
            ("ringing", State::Ringing) => {
                leg.last = leg.invite.response("180 Ringing", None);
                Some((leg.last.clone(), leg.peer, None))
            }
            ("answered", State::Ringing) => {
                leg.state = State::Answered;
                leg.last = leg.invite.response("200 OK", Some(self.address));
                Some((leg.last.clone(), leg.peer, Some(leg.is_final_heard.clone())))
            }
            ("ended", State::Ringing) => {
                leg.state = State::Over;
                let outcome = event.body["outcome"].as_str().unwrap_or_default();
                leg.last = leg.invite.response(refusal(outcome), None);
                Some((leg.last.clone(), leg.peer, Some(leg.is_final_heard.clone())))
            }
            ("ended", State::Answered) => {
                leg.state = State::Over;
                Some((self.bye(&leg.invite), leg.peer, Some(leg.is_bye_heard.clone())))
            }
            _ => None,
        }
    }

    fn bye(&self, invite: &Message) -> Vec<u8> {
        let contact = invite.get("contact");
        let target = contact.trim_start_matches('<').split('>').next().unwrap_or_default();
        let (own, id) = (self.address, invite.call_id());
        let (from, to) = (invite.get("from"), invite.get("to"));
        format!(
            "BYE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{id}\r\nMax-Forwards: 70\r\n\
             From: {to};tag={TAG}\r\nTo: {from}\r\nCall-ID: {id}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }
}

fn refusal(outcome: &str) -> &'static str {
    match outcome {
        "busy" => "486 Busy Here",
        "invalid_number" => "404 Not Found",
        "congested" => "503 Service Unavailable",
        "rejected" => "607 Unwanted",
        // This is a failure if nothing rang before.
        _ => "480 Temporarily Unavailable",
    }
}

/// Returns the call that an INVITE asks for. SIP names no contact; in a campaign, its number does.
fn read(invite: &Message) -> Option<Create> {
    let key = invite.call_id();
    let (campaign, attempt_id) = key.split_once('.')?;
    let target = invite.start.split(' ').nth(1)?;
    let to = target.strip_prefix("sip:")?.split(['@', ';']).next()?;
    Some(Create {
        key: key.to_owned(),
        contact: format!("campaigns/{campaign}/{to}"),
        attempt_id: attempt_id.to_owned(),
        to: to.to_owned(),
        callback_url: String::new(),
    })
}
