//! Session descriptions: offers and answers (RFC 3264) whose media go nowhere, and those of another
//! party passed on.

use std::net::SocketAddr;

/// Codecs that the worker names: PCMU and PCMA (RFC 3551).
const CODECS: [(&str, &str); 2] = [("0", "PCMU/8000"), ("8", "PCMA/8000")];
/// Keys within the audio (RFC 4733), for a party that is connected later.
const KEYS: &str = "101";
/// Transport of the audio.
const TRANSPORT: &str = "RTP/AVP";
/// Longest description that is passed on, in bytes.
const PASSED_BYTES: usize = 16_384;

/// Session of one call, as the worker describes it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    address: SocketAddr,
    media_port: u16,
    /// Version of the last description; grows with each change.
    version: u64,
    /// Lines of the last description that follow its origin.
    lines: String,
    /// Whether offers name the keys within the audio.
    offers_keys: bool,
}

impl Session {
    /// Creates a session whose audio would go to `media_port` of the address.
    pub fn new(address: SocketAddr, media_port: u16, offers_keys: bool) -> Self {
        Self { address, media_port, version: 0, lines: String::new(), offers_keys }
    }

    /// Returns an offer of audio in both directions.
    pub fn offer(&mut self) -> Vec<u8> {
        self.offer_in("sendrecv")
    }

    /// Returns an offer of audio in no direction yet.
    pub fn hold(mut self) -> Vec<u8> {
        self.offer_in("inactive")
    }

    fn offer_in(&mut self, direction: &str) -> Vec<u8> {
        let mut codecs: Vec<&str> = CODECS.iter().map(|(number, _)| *number).collect();
        if self.offers_keys {
            codecs.push(KEYS);
        }
        let audio = self.audio(&codecs, direction);
        self.describe(&audio)
    }

    /// Returns another party's description as the worker's own: only the origin is the worker's,
    /// which must stay the same within a call (RFC 3264 §8). Returns `None` for what is no
    /// description.
    pub fn pass(&mut self, description: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(description).ok()?;
        if text.len() > PASSED_BYTES || !text.starts_with("v=0") {
            return None;
        }
        let lines = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !line.starts_with("v=") && !line.starts_with("o="));
        let lines: String = lines.flat_map(|line| [line, "\r\n"]).collect();
        Some(self.change(lines))
    }

    /// Returns the answer to an offer. The first audio with a codec of ours is accepted and all
    /// other media are declined. Returns `None` if there is no such audio: the offer must be
    /// rejected with 488. An INVITE without an offer asks for ours (RFC 3261 §14.2).
    pub fn answer(&mut self, offer: &[u8]) -> Option<Vec<u8>> {
        if offer.is_empty() {
            return Some(self.offer());
        }
        let offer = String::from_utf8_lossy(offer);
        let mut sections = sections(&offer);
        let session = sections.next().unwrap_or_default();
        let (mut media, mut is_accepted, mut is_needed) = (String::new(), false, false);
        for section in sections {
            let mut words = section[0].split_whitespace();
            let (kind, port) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let transport = words.next().unwrap_or_default();
            let formats: Vec<&str> = words.collect();
            // A stream with port 0 is not wanted any more.
            let is_wanted = port != "0";
            is_needed |= is_wanted;
            let known = |format: &&str| CODECS.iter().any(|(number, _)| number == format);
            let common: Vec<&str> = formats.iter().copied().filter(known).collect();
            let is_ours = kind == "audio" && transport == TRANSPORT && !common.is_empty();
            if is_wanted && is_ours && !is_accepted {
                is_accepted = true;
                media.push_str(&self.audio(&common, direction(&session, &section)));
            } else {
                media.push_str(&format!("m={kind} 0 {transport} {}\r\n", formats.join(" ")));
            }
        }
        (is_accepted || !is_needed).then(|| self.describe(&media))
    }

    fn audio(&self, codecs: &[&str], direction: &str) -> String {
        let mut audio = format!("m=audio {} {TRANSPORT} {}\r\n", self.media_port, codecs.join(" "));
        for (number, name) in CODECS.iter().filter(|(number, _)| codecs.contains(number)) {
            audio.push_str(&format!("a=rtpmap:{number} {name}\r\n"));
        }
        if codecs.contains(&KEYS) {
            audio.push_str(&format!(
                "a=rtpmap:{KEYS} telephone-event/8000\r\na=fmtp:{KEYS} 0-15\r\n"
            ));
        }
        audio + &format!("a={direction}\r\n")
    }

    fn describe(&mut self, media: &str) -> Vec<u8> {
        let ip = self.address.ip();
        let lines = format!("s=-\r\nc=IN {} {ip}\r\nt=0 0\r\n{media}", self.family());
        self.change(lines)
    }

    fn change(&mut self, lines: String) -> Vec<u8> {
        if lines != self.lines {
            self.version += 1;
            self.lines = lines;
        }
        self.description()
    }

    /// Returns the last description.
    pub fn description(&self) -> Vec<u8> {
        let (ip, version, lines) = (self.address.ip(), self.version, &self.lines);
        format!("v=0\r\no=- 1 {version} IN {} {ip}\r\n{lines}", self.family()).into_bytes()
    }

    fn family(&self) -> &'static str {
        if self.address.is_ipv6() { "IP6" } else { "IP4" }
    }
}

/// Returns the lines of the session, then those of each medium. The line that begins a medium lacks
/// its `m=`.
fn sections(description: &str) -> impl Iterator<Item = Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in description.lines().map(str::trim) {
        match line.strip_prefix("m=") {
            Some(media) => sections.push(vec![media]),
            None => sections.last_mut().expect("never empty").push(line),
        }
    }
    sections.into_iter()
}

/// Returns the direction that answers an offered one. A medium's own lines come before the session's.
/// The address 0.0.0.0 asks for silence, as before RFC 3264.
fn direction(session: &[&str], media: &[&str]) -> &'static str {
    let find =
        |wanted: fn(&str) -> bool| media.iter().chain(session).copied().find(|line| wanted(line));
    let is_direction =
        |line: &str| matches!(line, "a=sendrecv" | "a=sendonly" | "a=recvonly" | "a=inactive");
    let is_silenced = find(|line| line.starts_with("c="))
        .is_some_and(|line| line.split_whitespace().last() == Some("0.0.0.0"));
    match (find(is_direction), is_silenced) {
        (Some("a=inactive"), _) | (Some("a=recvonly"), true) => "inactive",
        (Some("a=sendonly"), _) | (_, true) => "recvonly",
        (Some("a=recvonly"), false) => "sendonly",
        (_, false) => "sendrecv",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n";

    fn session() -> Session {
        Session::new("127.0.0.1:5060".parse().expect("an address"), 9, false)
    }

    fn answered(media: &str) -> Option<Vec<String>> {
        let answer = session().answer(format!("{THEIRS}{media}").as_bytes())?;
        let text = String::from_utf8(answer).expect("text");
        let is_media = |line: &&str| line.starts_with("m=") || line.starts_with("a=");
        Some(text.lines().filter(is_media).map(str::to_owned).collect())
    }

    #[test]
    fn the_first_audio_with_a_common_codec_is_accepted_and_the_rest_declined() {
        let media = "m=video 4000 RTP/AVP 99\r\nm=audio 4002 RTP/AVP 18 8\r\na=x\r\nm=audio 4004 RTP/AVP 8\r\n";
        let expected = [
            "m=video 0 RTP/AVP 99",
            "m=audio 9 RTP/AVP 8",
            "a=rtpmap:8 PCMA/8000",
            "a=sendrecv",
            "m=audio 0 RTP/AVP 8",
        ];
        assert_eq!(answered(media).expect("accepted"), expected);
    }

    #[test]
    fn fax_encryption_and_unknown_codecs_are_rejected() {
        for media in [
            "m=image 7292 udptl t38\r\n",
            "m=audio 4002 RTP/AVP 18\r\n",
            "m=audio 4002 RTP/SAVP 0\r\n",
            "m=audio 4002 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n",
        ] {
            assert_eq!(answered(media), None, "{media}");
        }
        assert_eq!(answered("m=audio 0 RTP/AVP 0\r\n").expect("accepted"), ["m=audio 0 RTP/AVP 0"]);
    }

    #[test]
    fn hold_is_answered_with_the_other_direction() {
        for (offered, expected) in [
            ("", "sendrecv"),
            ("a=sendrecv\r\n", "sendrecv"),
            ("a=sendonly\r\n", "recvonly"),
            ("a=recvonly\r\n", "sendonly"),
            ("a=inactive\r\n", "inactive"),
            ("c=IN IP4 0.0.0.0\r\n", "recvonly"),
            ("c=IN IP4 0.0.0.0\r\na=inactive\r\n", "inactive"),
            ("c=IN IP4 0.0.0.0\r\na=recvonly\r\n", "inactive"),
        ] {
            let lines =
                answered(&format!("m=audio 4002 RTP/AVP 0\r\n{offered}")).expect("accepted");
            assert_eq!(lines.last(), Some(&format!("a={expected}")), "{offered}");
        }
    }

    #[test]
    fn the_version_grows_with_each_change_and_only_then() {
        let version = |text: Vec<u8>| {
            let text = String::from_utf8(text).expect("text");
            let origin = text.lines().find(|line| line.starts_with("o=")).expect("an origin");
            origin.split(' ').nth(2).expect("a version").to_owned()
        };
        let mut session = session();
        let held = format!("{THEIRS}m=audio 4002 RTP/AVP 0 8\r\na=sendonly\r\n");
        let resumed = format!("{THEIRS}m=audio 4002 RTP/AVP 0 8\r\n");
        assert_eq!(version(session.offer()), "1");
        assert_eq!(version(session.answer(held.as_bytes()).expect("accepted")), "2");
        assert_eq!(version(session.answer(held.as_bytes()).expect("accepted")), "2");
        assert_eq!(version(session.answer(resumed.as_bytes()).expect("accepted")), "3");
        assert_eq!(version(session.offer()), "3");
    }

    #[test]
    fn a_description_of_another_party_keeps_the_origin() {
        let mut session = session();
        session.offer();
        let agent = "v=0\no=agent 7 9 IN IP4 10.0.0.9\ns=x\nc=IN IP4 10.0.0.9\nt=0 0\n\
                     m=audio 7000 RTP/AVP 0\n";
        let passed = session.pass(agent.as_bytes()).expect("a description");
        let expected = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n\
                        m=audio 7000 RTP/AVP 0\r\n";
        assert_eq!(String::from_utf8(passed.clone()).expect("text"), expected);
        assert_eq!(session.pass(agent.as_bytes()), Some(passed.clone()), "nothing has changed");
        assert_eq!(session.description(), passed);
        for broken in ["", "hello", "v=0\r\n\u{0}".repeat(9_000).as_str()] {
            assert_eq!(session.pass(broken.as_bytes()), None);
        }
        assert_eq!(session.pass(b"v=0\r\n\xff"), None);
    }

    #[test]
    fn keys_are_offered_for_a_party_that_comes_later() {
        let mut session = Session::new("127.0.0.1:5060".parse().expect("an address"), 9, true);
        let offer = String::from_utf8(session.offer()).expect("text");
        assert!(offer.contains("m=audio 9 RTP/AVP 0 8 101\r\n"), "{offer}");
        assert!(offer.contains("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"));
    }
}
