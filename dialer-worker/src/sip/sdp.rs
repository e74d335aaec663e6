//! Session descriptions whose media go nowhere.

use std::fmt::Write;
use std::net::SocketAddr;

/// Returns an offer of audio that goes nowhere.
pub(super) fn offer(address: SocketAddr, media_port: u16) -> Vec<u8> {
    let ip = address.ip();
    let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {media_port} RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n"
    )
    .into_bytes()
}

/// Returns the answer to an offer: accepts the first audio and declines the rest. Without an offer,
/// returns `ours`.
pub(super) fn answer(ours: &[u8], offer: &[u8]) -> Vec<u8> {
    let ours = String::from_utf8_lossy(ours);
    let (session, audio) = ours.split_at(ours.find("m=").unwrap_or(ours.len()));
    let mut answer = session.to_owned();
    let mut is_audio_taken = false;
    for media in String::from_utf8_lossy(offer).lines().filter_map(|line| line.strip_prefix("m=")) {
        let mut words = media.split_whitespace();
        let kind = words.next().unwrap_or_default();
        if kind == "audio" && !is_audio_taken {
            is_audio_taken = true;
            answer.push_str(audio);
        } else {
            let formats: Vec<_> = words.skip(1).collect();
            let _ = write!(answer, "m={kind} 0 {}\r\n", formats.join(" "));
        }
    }
    if answer.len() == session.len() {
        answer.push_str(audio);
    }
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_media_of_the_offer_and_takes_the_first_audio() {
        let ours = offer("127.0.0.1:5060".parse().expect("an address"), 9);
        let theirs = "v=0\r\nm=video 4000 RTP/AVP 99\r\nm=audio 4002 RTP/AVP 0\r\na=x\r\nm=audio 4004 RTP/AVP 8\r\n";
        let text = String::from_utf8(answer(&ours, theirs.as_bytes())).expect("text");
        let media: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
        assert_eq!(media, ["m=video 0 RTP/AVP 99", "m=audio 9 RTP/AVP 0 8", "m=audio 0 RTP/AVP 8"]);
        assert_eq!(answer(&ours, b""), ours);
    }
}
