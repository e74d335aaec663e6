//! Session timer (RFC 4028): a call that nobody refreshes ends, on both sides. So the lines of a
//! worker that was killed do not stay up.

use std::time::Duration;

use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Headers, Response};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::headers;

/// Shortest interval that the standard allows.
const SHORTEST: Duration = Duration::from_secs(90);
/// Shortest interval that is believed; shorter ones are taken for this one.
const LEAST: Duration = Duration::from_secs(4);
/// Longest interval that is believed; longer ones are taken for this one.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Most that a side which does not refresh hangs up before the end.
const EARLY: Duration = Duration::from_secs(32);
/// Methods that the worker takes within a call.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, UPDATE, OPTIONS, INFO, NOTIFY, REFER, PRACK";

/// Side that refreshes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresher {
    Us,
    Them,
}

/// Session timer of one call.
#[derive(Debug)]
pub(super) struct Refresh {
    /// Interval and who refreshes; `None` if the session does not expire.
    agreed: Option<(Duration, Refresher)>,
    due: Instant,
    /// Whether the other side takes UPDATE.
    takes_update: bool,
    /// Our request that refreshes the session. Its answer is missing if none came in time.
    sent: Option<JoinHandle<Option<Response>>>,
}

/// Returns the headers of an INVITE that ask for a session timer.
pub(super) fn offer(interval: Duration) -> Vec<Header> {
    vec![
        Header::Supported("timer".into()),
        Header::SessionExpires(interval.as_secs().to_string().into()),
        Header::MinSE(SHORTEST.as_secs().to_string().into()),
        Header::Allow(ALLOW.into()),
    ]
}

/// Returns the interval that a 422 asks for.
pub(super) fn least(headers: &Headers) -> Option<Duration> {
    let seconds = headers::value(headers, "Min-SE")?.split(';').next()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

impl Refresh {
    /// Returns the timer that the answer to our INVITE agrees.
    pub fn by_answer(answer: &Headers, now: Instant) -> Self {
        Self::new(expires(answer, "uac"), answer, now)
    }

    /// Returns the timer that a caller's INVITE asks for.
    pub fn by_invite(invite: &Headers, now: Instant) -> Self {
        let knows = headers::has_token(invite, "Supported", "timer");
        Self::new(expires(invite, "uas").filter(|_| knows), invite, now)
    }

    fn new(agreed: Option<(Duration, Refresher)>, headers: &Headers, now: Instant) -> Self {
        let takes_update = headers::has_token(headers, "Allow", "UPDATE");
        let mut refresh = Self { agreed, due: now, takes_update, sent: None };
        refresh.begin_anew(now);
        refresh
    }

    /// Takes a request of the other side into account, which refreshes the session and may change
    /// the timer. Returns the headers of the positive answer.
    pub fn hear(&mut self, request: &Headers, now: Instant) -> Vec<Header> {
        let asked = expires(request, "uas");
        self.agreed = asked.or(self.agreed);
        self.begin_anew(now);
        if asked.is_some() { self.answer() } else { Vec::new() }
    }

    /// Returns the headers with which the worker agrees, as the server of a request.
    pub fn answer(&self) -> Vec<Header> {
        let Some((interval, refresher)) = self.agreed else { return Vec::new() };
        let name = if refresher == Refresher::Us { "uas" } else { "uac" };
        let value = format!("{};refresher={name}", interval.as_secs());
        let mut headers = vec![Header::SessionExpires(value.into())];
        if refresher == Refresher::Them {
            headers.push(Header::Require("timer".into()));
        }
        headers
    }

    /// Completes when the session has expired: nobody refreshed it, or the other side knows it no
    /// more. Refreshes it in time, if that is the worker's part; `description` is for a re-INVITE.
    pub async fn expired(
        &mut self,
        dialog: &InviteDialog,
        description: Option<Vec<u8>>,
        limit: Duration,
    ) {
        loop {
            if let Some(sent) = &mut self.sent {
                let answer = sent.await.ok().flatten();
                self.sent = None;
                if !self.goes_on(answer) {
                    return;
                }
            }
            match self.agreed {
                None => std::future::pending().await,
                Some((_, Refresher::Them)) => {
                    tokio::time::sleep_until(self.due).await;
                    return;
                }
                Some((interval, Refresher::Us)) => {
                    tokio::time::sleep_until(self.due).await;
                    let takes_update = self.takes_update;
                    let body = description.clone().filter(|_| !takes_update);
                    let sent = refresh(dialog.clone(), interval, body, limit);
                    self.sent = Some(tokio::spawn(sent));
                }
            }
        }
    }

    /// Takes the answer to our request into account. Returns whether the session goes on.
    fn goes_on(&mut self, answer: Option<Response>) -> bool {
        let code = answer.as_ref().map(|answer| answer.status_code.code());
        debug!(?code, "the session was refreshed");
        match (code, answer) {
            // The other side does not answer, or knows the call no more.
            (None | Some(408 | 481), _) | (_, None) => return false,
            (Some(200..=299), Some(answer)) => self.agreed = expires(&answer.headers, "uac"),
            // It may take the next one, for example when a request of its own crossed ours.
            _ => {}
        }
        self.begin_anew(Instant::now());
        true
    }

    fn begin_anew(&mut self, now: Instant) {
        if let Some((interval, refresher)) = self.agreed {
            self.due = now
                + match refresher {
                    Refresher::Us => interval / 2,
                    Refresher::Them => interval - (interval / 3).min(EARLY),
                };
        }
    }
}

/// Sends the request that refreshes the session: UPDATE, or a re-INVITE with a description.
async fn refresh(
    dialog: InviteDialog,
    interval: Duration,
    description: Option<Vec<u8>>,
    limit: Duration,
) -> Option<Response> {
    let expires = format!("{};refresher=uac", interval.as_secs());
    let mut headers =
        vec![Header::Supported("timer".into()), Header::SessionExpires(expires.into())];
    let sent = async {
        match description {
            None => dialog.update(Some(headers), None).await,
            Some(description) => {
                headers.push(Header::ContentType("application/sdp".into()));
                dialog.reinvite(Some(headers), Some(description)).await
            }
        }
    };
    timeout(limit, sent).await.ok().and_then(Result::ok).flatten()
}

/// Reads `Session-Expires`. `ours` is the worker's role in this exchange, "uac" or "uas". Without a
/// refresher, the client refreshes.
fn expires(headers: &Headers, ours: &str) -> Option<(Duration, Refresher)> {
    let value = headers::value(headers, "Session-Expires")?.to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let seconds: u64 = parts.next()?.parse().ok()?;
    let refresher = parts.find_map(|part| part.strip_prefix("refresher=")).unwrap_or("uac");
    let refresher = if refresher == ours { Refresher::Us } else { Refresher::Them };
    Some((Duration::from_secs(seconds).clamp(LEAST, LONGEST), refresher))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(expires: &str) -> Headers {
        Headers::from(vec![
            Header::Supported("100rel, timer".into()),
            Header::Allow("INVITE, UPDATE".into()),
            Header::SessionExpires(expires.into()),
        ])
    }

    fn due(refresh: &Refresh, now: Instant) -> u64 {
        refresh.due.duration_since(now).as_secs()
    }

    #[tokio::test]
    async fn the_agreed_side_refreshes() {
        let now = Instant::now();
        for (expires, by_answer, by_invite) in [
            ("600", (Refresher::Us, 300), (Refresher::Them, 568)),
            ("600;refresher=uac", (Refresher::Us, 300), (Refresher::Them, 568)),
            ("600; Refresher=UAS", (Refresher::Them, 568), (Refresher::Us, 300)),
            ("90;refresher=uas", (Refresher::Them, 60), (Refresher::Us, 45)),
            ("1", (Refresher::Us, 2), (Refresher::Them, 2)),
        ] {
            for (refresh, (refresher, seconds)) in [
                (Refresh::by_answer(&headers(expires), now), by_answer),
                (Refresh::by_invite(&headers(expires), now), by_invite),
            ] {
                let agreed = refresh.agreed.expect("a timer").1;
                assert_eq!((agreed, due(&refresh, now)), (refresher, seconds), "{expires}");
                assert!(refresh.takes_update);
            }
        }
    }

    #[tokio::test]
    async fn without_an_agreement_nothing_expires() {
        let now = Instant::now();
        let none = Headers::from(Vec::new());
        assert_eq!(Refresh::by_answer(&none, now).agreed, None);
        assert_eq!(Refresh::by_answer(&headers("soon"), now).agreed, None);
        let unknowing = Headers::from(vec![Header::SessionExpires("600".into())]);
        assert_eq!(Refresh::by_invite(&unknowing, now).agreed, None);
        assert!(Refresh::by_answer(&none, now).answer().is_empty());
    }

    #[tokio::test]
    async fn a_request_of_the_other_side_begins_the_time_anew() {
        let now = Instant::now();
        let mut refresh = Refresh::by_answer(&headers("600;refresher=uas"), now);
        let later = now + Duration::from_secs(300);
        assert_eq!(refresh.hear(&Headers::from(Vec::new()), later), []);
        assert_eq!(due(&refresh, later), 568);
        let agreed = refresh.hear(&headers("1800;refresher=uac"), later);
        assert_eq!(agreed[0].value(), "1800;refresher=uac");
        assert_eq!(agreed[1].value(), "timer");
        assert_eq!(due(&refresh, later), 1768);
        let agreed = refresh.hear(&headers("1800;refresher=uas"), later);
        assert_eq!((agreed.len(), agreed[0].value()), (1, "1800;refresher=uas"));
        assert_eq!(due(&refresh, later), 900);
    }

    #[test]
    fn a_trunk_may_ask_for_a_longer_interval() {
        let asking = |text: &str| least(&Headers::from(vec![Header::MinSE(text.into())]));
        assert_eq!(asking("1800"), Some(Duration::from_secs(1_800)));
        assert_eq!(asking("1"), Some(SHORTEST));
        assert_eq!(asking("99999999"), Some(LONGEST));
        assert_eq!(asking("soon"), None);
    }
}
