//! Transfer of a call by REFER. The trunk accepts the order, calls the target, and tells by NOTIFY
//! how that went (RFC 3515). The call goes on here until then (RFC 5589, basic transfer).

use std::time::Duration;

use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::ReferTo;
use rsipstack::sip::{Header, Request, StatusCodeKind};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::headers;

/// Longest time for the target to answer, once the trunk accepted the order.
const TARGET_LIMIT: Duration = Duration::from_secs(180);

/// State of the transfer of a call.
pub(super) enum Transfer {
    /// No transfer, or none any more.
    None,
    /// Order planned for this time.
    Planned(ReferTo, Instant),
    /// Ordered. The task tells whether the trunk accepted the order.
    Ordered(JoinHandle<bool>),
    /// Accepted by the trunk, which calls the target until this time.
    Calling(Instant),
}

/// Report on a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    UnderWay,
    /// The target answered.
    Done,
    /// The target did not answer. The code is missing if the trunk ended the reports without one.
    Failed(Option<u16>),
}

impl Transfer {
    /// Completes when the next step is due, and takes it. Never completes while none is.
    pub async fn step(&mut self, dialog: &InviteDialog, referred_by: &str, limit: Duration) {
        match self {
            Self::None => std::future::pending().await,
            Self::Planned(target, at) => {
                tokio::time::sleep_until(*at).await;
                let order = order(dialog.clone(), target.clone(), referred_by.to_owned(), limit);
                *self = Self::Ordered(tokio::spawn(order));
            }
            Self::Ordered(order) => {
                let is_accepted = order.await.unwrap_or(false);
                *self = if is_accepted {
                    Self::Calling(Instant::now() + TARGET_LIMIT)
                } else {
                    Self::None
                };
            }
            Self::Calling(until) => {
                tokio::time::sleep_until(*until).await;
                info!("the trunk did not tell how the transfer went; the call continues");
                *self = Self::None;
            }
        }
    }

    /// Takes a NOTIFY into account. Returns whether the call is transferred. The trunk may send the
    /// first reports before it accepts the order.
    pub fn hear(&mut self, notify: &Request) -> bool {
        if !matches!(self, Self::Ordered(_) | Self::Calling(_)) {
            return false;
        }
        match report(notify) {
            Some(Report::Done) => {
                *self = Self::None;
                return true;
            }
            Some(Report::Failed(code)) => {
                info!(?code, "the target of the transfer did not answer; the call continues");
                *self = Self::None;
            }
            Some(Report::UnderWay) | None => {}
        }
        false
    }
}

/// Orders the transfer. Returns whether the trunk accepted the order.
async fn order(
    dialog: InviteDialog,
    target: ReferTo,
    referred_by: String,
    limit: Duration,
) -> bool {
    let headers = vec![Header::ReferredBy(referred_by.into())];
    let answer = timeout(limit, dialog.refer(target, Some(headers), None)).await;
    let code = answer.ok().and_then(Result::ok).flatten().map(|answer| answer.status_code);
    let is_accepted = code.as_ref().is_some_and(|code| code.kind() == StatusCodeKind::Successful);
    if !is_accepted {
        let code = code.map(|code| code.code());
        info!(?code, "the trunk did not accept the transfer; the call continues");
    }
    is_accepted
}

/// Reads a NOTIFY of the event `refer`: its body is the beginning of an answer, `SIP/2.0 200 OK`.
fn report(notify: &Request) -> Option<Report> {
    let header = |name: &str| headers::value(&notify.headers, name).map(str::to_ascii_lowercase);
    let event = header("Event").or_else(|| header("o"))?;
    if event.split(';').next().map(str::trim) != Some("refer") {
        return None;
    }
    let body = String::from_utf8_lossy(&notify.body);
    let status = body.lines().find_map(|line| line.trim().strip_prefix("SIP/2.0 "));
    let code: Option<u16> = status.and_then(|status| status.split(' ').next()?.parse().ok());
    let is_last = header("Subscription-State").is_some_and(|state| state.starts_with("terminated"));
    Some(match code {
        Some(200..=299) => Report::Done,
        Some(code @ 300..) => Report::Failed(Some(code)),
        _ if is_last => Report::Failed(None),
        _ => Report::UnderWay,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(event: &str, state: &str, body: &str) -> Request {
        let text = format!(
            "NOTIFY sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
             From: <sip:b@x>;tag=1\r\nTo: <sip:a@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 NOTIFY\r\n\
             {event}\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Request::try_from(text.as_bytes()).expect("a request")
    }

    #[test]
    fn reports_are_told_apart() {
        for (state, body, expected) in [
            ("active;expires=60", "SIP/2.0 100 Trying\r\n", Report::UnderWay),
            ("active", "SIP/2.0 180 Ringing\r\n", Report::UnderWay),
            ("terminated;reason=noresource", "SIP/2.0 200 OK\r\n", Report::Done),
            ("active", "SIP/2.0 202 Accepted", Report::Done),
            (
                "terminated;reason=noresource",
                "SIP/2.0 486 Busy Here\r\n",
                Report::Failed(Some(486)),
            ),
            ("active", "SIP/2.0 503", Report::Failed(Some(503))),
            ("terminated;reason=timeout", "SIP/2.0 180 Ringing\r\n", Report::Failed(None)),
            ("terminated", "", Report::Failed(None)),
            ("active", "nonsense", Report::UnderWay),
        ] {
            assert_eq!(report(&notify("Event: refer", state, body)), Some(expected), "{body}");
        }
        let of_id = notify("Event: refer;id=93809824", "active", "SIP/2.0 200 OK");
        assert_eq!(report(&of_id), Some(Report::Done));
        assert_eq!(report(&notify("Event: dialog", "active", "SIP/2.0 200 OK")), None);
    }
}
