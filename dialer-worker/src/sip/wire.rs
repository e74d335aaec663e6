//! Messages between the stack and the wire: place for what the stack does not do.

use std::sync::Arc;

use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Header, Method, Response, SipMessage, StatusCode, StatusCodeKind};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;

use super::credentials::Credentials;
use super::trunks::strip;

/// Mender of messages.
pub(super) struct Wire(pub Arc<Credentials>);

impl MessageInspector for Wire {
    fn before_send(&self, message: SipMessage, _: Option<&SipAddr>) -> SipMessage {
        match message {
            SipMessage::Request(mut request) => {
                strip(&mut request);
                self.0.sign(&mut request);
                SipMessage::Request(request)
            }
            message @ SipMessage::Response(_) => message,
        }
    }

    fn after_received(&self, message: SipMessage, from: Option<&SipAddr>) -> SipMessage {
        match message {
            // Without a sender, the stack made the response itself.
            SipMessage::Response(mut response) if from.is_some() => {
                mend_answer(&mut response);
                self.0.hear(&mut response);
                SipMessage::Response(response)
            }
            message => message,
        }
    }
}

/// Makes a call of each answer to an INVITE. The stack knows 200 only, and hangs up nobody whose
/// answer has no `Contact`, though it must have one (RFC 3261 §12.1.1): the called address serves
/// in its place.
fn mend_answer(response: &mut Response) {
    let is_of_invite =
        response.cseq_header().and_then(|header| header.method()) == Ok(Method::Invite);
    if !is_of_invite || response.status_code.kind() != StatusCodeKind::Successful {
        return;
    }
    response.status_code = StatusCode::OK;
    let is_reachable = response.typed_contact_headers().is_ok_and(|contacts| !contacts.is_empty());
    if is_reachable {
        return;
    }
    if let Ok(called) = response.to_header().and_then(|to| to.uri()) {
        response.headers.retain(|header| !matches!(header, Header::Contact(_)));
        response.headers.push(Header::Contact(format!("<{called}>").into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, method: &str, contact: &str) -> Response {
        let text = format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
             From: <sip:a@x>;tag=1\r\nTo: <sip:+49301@trunk>;tag=2\r\nCall-ID: c\r\n\
             CSeq: 1 {method}\r\n{contact}Content-Length: 0\r\n\r\n"
        );
        let mut response = Response::try_from(text.as_bytes()).expect("a response");
        mend_answer(&mut response);
        response
    }

    fn contact(response: &Response) -> Option<String> {
        response.contact_header().ok().map(|header| header.value().to_owned())
    }

    #[test]
    fn each_answer_makes_a_call_that_can_be_hung_up() {
        let plain = answer("202 Accepted", "INVITE", "Contact: <sip:b@10.0.0.1>\r\n");
        assert_eq!(plain.status_code, StatusCode::OK);
        assert_eq!(contact(&plain).as_deref(), Some("<sip:b@10.0.0.1>"));
        for broken in ["", "Contact: nonsense:\r\n", "Contact: \r\n"] {
            let mended = answer("200 OK", "INVITE", broken);
            assert_eq!(contact(&mended).as_deref(), Some("<sip:+49301@trunk>"), "{broken}");
        }
    }

    #[test]
    fn other_responses_stay_as_they_are() {
        for (status, method) in [("202 Accepted", "REFER"), ("180 Ringing", "INVITE")] {
            let response = answer(status, method, "");
            assert_ne!(response.status_code, StatusCode::OK);
            assert_eq!(contact(&response), None);
        }
    }
}
