//! Established call with one party: its dialog, its session and the requests of the other side.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Method, Request, StatusCode, Uri};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::keys::{self, Key};
use super::refresh::Refresh;
use super::sdp::Session;

/// Session of a call. Requests may change it before the call is answered.
pub(super) type SharedSession = Arc<Mutex<Session>>;

/// Returns the session's answer to an offer; `None` if the offer must be rejected.
pub(super) fn answer_offer(session: &SharedSession, offer: &[u8]) -> Option<Vec<u8>> {
    session.lock().unwrap_or_else(PoisonError::into_inner).answer(offer)
}

/// Established call with one party.
pub(super) struct Leg {
    pub dialog: InviteDialog,
    pub states: DialogStateReceiver,
    pub session: SharedSession,
    pub refresh: Refresh,
    /// Address at which the other side reaches the worker.
    pub contact: Uri,
    /// Longest wait for an answer of the other side.
    pub limit: Duration,
    /// Whether the other side has acknowledged the worker's answer.
    pub is_acknowledged: bool,
}

/// Event on a leg.
pub(super) enum Happening {
    /// The other side asks for something.
    Asked(Box<DialogState>),
    /// The call is over, by the other side if there is a reason.
    Over(Option<TerminatedReason>),
    /// Nobody refreshed the session.
    Expired,
}

impl Leg {
    /// Completes with the next happening.
    pub async fn next(&mut self) -> Happening {
        loop {
            // The call may have ended before anybody listened.
            if let DialogState::Terminated(_, reason) = self.dialog.state() {
                return Happening::Over(Some(reason));
            }
            let description = self.description();
            tokio::select! {
                state = self.states.recv() => match state {
                    None => return Happening::Over(None),
                    Some(DialogState::Terminated(_, reason)) => {
                        return Happening::Over(Some(reason));
                    }
                    Some(DialogState::Confirmed(..)) => self.is_acknowledged = true,
                    Some(state) if asks(&state) => return Happening::Asked(Box::new(state)),
                    Some(_) => {}
                },
                () = self.refresh.expired(&self.dialog, Some(description), self.limit) => {
                    return Happening::Expired;
                }
            }
        }
    }

    /// Answers a request of the other side, and follows its offers.
    pub async fn answer(&mut self, state: DialogState) {
        let answered = match state {
            DialogState::Updated(_, request, handle) => {
                // UPDATE without an offer only refreshes the session.
                let is_offer = request.method != Method::Update || !request.body.is_empty();
                let answer = is_offer.then(|| answer_offer(&self.session, &request.body));
                match answer {
                    Some(None) => handle.reply(StatusCode::NotAcceptableHere).await,
                    answer => {
                        let headers = self.accepting(&request);
                        handle.respond(StatusCode::OK, Some(headers), answer.flatten()).await
                    }
                }
            }
            DialogState::Options(_, _, handle)
            | DialogState::Notify(_, _, handle)
            | DialogState::Info(_, _, handle) => handle.reply(StatusCode::OK).await,
            DialogState::Refer(_, _, handle)
            | DialogState::Message(_, _, handle)
            | DialogState::Publish(_, _, handle) => handle.reply(StatusCode::NotImplemented).await,
            _ => Ok(()),
        };
        if answered.is_err() {
            debug!("a request within a call ended before it was answered");
        }
    }

    /// Returns the headers of the positive answer to a re-INVITE or UPDATE. The session begins
    /// anew.
    pub fn accepting(&mut self, request: &Request) -> Vec<Header> {
        let mut headers = self.refresh.hear(&request.headers, Instant::now());
        headers.push(Header::Contact(format!("<{}>", self.contact).into()));
        if request.method == Method::Invite || !request.body.is_empty() {
            headers.push(Header::ContentType("application/sdp".into()));
        }
        headers
    }

    /// Waits until the stack has sent the answer to a request: a BYE must not overtake it.
    pub async fn settle(&mut self) {
        let _ = timeout(self.limit, self.states.recv()).await;
    }

    /// Whether a caller's call came about: the caller has the worker's answer, or hung up first, since
    /// a BYE may overtake the ACK.
    pub fn came_about(&self) -> bool {
        match self.dialog.state() {
            DialogState::Terminated(_, TerminatedReason::UacBye) => true,
            DialogState::Terminated(..) => self.is_acknowledged,
            _ => true,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.dialog.state(), DialogState::Terminated(..))
    }

    /// Hangs up, if the call still goes on.
    pub async fn hang_up(&self) {
        if self.is_over() {
            return;
        }
        let bye = timeout(self.limit, self.dialog.bye()).await;
        debug!(is_taken = bye.is_ok_and(|bye| bye.is_ok()), "hung up");
    }

    /// Returns another party's description as the worker's own; `None` if it is none.
    pub fn pass(&self, description: &[u8]) -> Option<Vec<u8>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).pass(description)
    }

    /// Returns the session as the worker last described it.
    pub fn description(&self) -> Vec<u8> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).description()
    }
}

fn asks(state: &DialogState) -> bool {
    matches!(
        state,
        DialogState::Updated(..)
            | DialogState::Options(..)
            | DialogState::Notify(..)
            | DialogState::Info(..)
            | DialogState::Refer(..)
            | DialogState::Message(..)
            | DialogState::Publish(..)
    )
}

/// Returns the party that ended an outbound call, if it is over for this reason.
pub(super) fn ended_by(reason: Option<&TerminatedReason>) -> EndedBy {
    match reason {
        // Cancelled here while the answer was under way.
        Some(TerminatedReason::UacCancel | TerminatedReason::UacBye) => EndedBy::Worker,
        _ => EndedBy::Person,
    }
}

/// Party that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    Person,
    Agent,
    Worker,
    /// Ended by the worker, because the agent did not come.
    NoAgent,
}

/// Whether an INFO tells a key.
pub(super) fn is_key(info: &Request) -> bool {
    keys::pressed(info).is_some()
}

/// Returns the key that a request tells, if it tells one.
pub(super) fn key(state: &DialogState) -> Option<Key> {
    match state {
        DialogState::Info(_, info, _) => keys::pressed(info),
        _ => None,
    }
}
