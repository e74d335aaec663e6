//! Call to another party, whose audio goes to the person on the line: an AI agent, or the target of a
//! transfer. The worker passes descriptions on; the audio goes between the two (RFC 3725, by early
//! offers only).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rsipstack::dialog::invitation::{InviteAsyncResult, InviteOption};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Response, StatusCodeKind};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::digest::Login;
use super::leg::Leg;
use super::refresh::Refresh;
use super::stack::Stack;

/// Most repeats of an offer that crosses one of the other side.
const CROSSED_OFFERS: usize = 3;

/// Party to call.
pub(super) struct Invitation {
    pub option: InviteOption,
    /// Longest time until it answers.
    pub limit: Duration,
    /// User and password for its challenges, if it has any.
    pub login: Option<Arc<Login>>,
}

/// Party that did not answer, with its code if it sent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed(pub Option<u16>);

/// Connected party.
pub(super) struct Party {
    pub leg: Leg,
    _listed: Listing,
}

/// Entry of a call in the stack's list. When dropped it is removed, and a call that still goes on is
/// hung up.
struct Listing {
    stack: Arc<Stack>,
    dialog: InviteDialog,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.stack.forget(&self.dialog);
        let state = self.dialog.state();
        if !state.can_cancel() && !state.is_terminated() {
            let (dialog, limit) = (self.dialog.clone(), self.stack.limits.response);
            tokio::spawn(async move {
                let _ = timeout(limit, dialog.bye()).await;
            });
        }
    }
}

/// Calls a party with the description of another one. Returns it with its own description. The call
/// is given up if this is dropped before.
pub(super) async fn call(
    stack: Arc<Stack>,
    invitation: Invitation,
    description: Vec<u8>,
) -> Result<(Party, Vec<u8>), Missed> {
    let Invitation { mut option, limit, login } = invitation;
    let call_id = option.call_id.clone().unwrap_or_default();
    let mut session = stack.session();
    option.offer = Some(session.pass(&description).ok_or(Missed(Some(488)))?);
    let session = Arc::new(Mutex::new(session));
    let contact = option.contact.clone();
    stack.begin(&call_id, login.as_ref());
    let (sender, states) = stack.layer.new_dialog_state_channel();
    let started = stack.layer.do_invite_async(option, sender);
    let (dialog, invite) = started.map_err(|error| {
        debug!(%error, "a party cannot be called");
        Missed(None)
    })?;
    let settled = CancellationToken::new();
    stack.list(&dialog, &session, &settled);
    let listed = Listing { stack: Arc::clone(&stack), dialog: dialog.clone() };
    // An INVITE that is dropped is cancelled, or hung up if it is answered at the same time.
    let result = timeout(limit, AbortOnDropHandle::new(invite)).await;
    settled.cancel();
    let answer = answer(result.ok().and_then(Result::ok))?;
    let refresh = Refresh::by_answer(&answer.headers, Instant::now());
    let limit = stack.limits.response;
    let is_acknowledged = true;
    let leg = Leg { dialog, states, session, refresh, contact, limit, is_acknowledged };
    Ok((Party { leg, _listed: listed }, answer.body))
}

fn answer(result: Option<InviteAsyncResult>) -> Result<Response, Missed> {
    match result {
        Some(Ok((_, Some(answer)))) => match answer.status_code.code() {
            200..=299 => Ok(answer),
            code => Err(Missed(Some(code))),
        },
        Some(Ok((_, None))) | None => Err(Missed(None)),
        Some(Err(error)) => {
            debug!(%error, "the call of a party broke off");
            Err(Missed(None))
        }
    }
}

/// Offers a party the description of another one. Returns its answer, or the code with which it
/// rejects the offer.
pub(super) async fn offer(leg: &Leg, description: &[u8]) -> Result<Vec<u8>, Missed> {
    let description = leg.pass(description).ok_or(Missed(Some(488)))?;
    let headers = vec![Header::ContentType("application/sdp".into())];
    let sent =
        leg.dialog.reinvite_with_glare_retry(Some(headers), Some(description), CROSSED_OFFERS);
    match timeout(leg.limit, sent).await {
        Ok(Ok(Some(answer))) if answer.status_code.kind() == StatusCodeKind::Successful => {
            Ok(answer.body)
        }
        Ok(Ok(Some(answer))) => Err(Missed(Some(answer.status_code.code()))),
        Ok(Ok(None) | Err(_)) | Err(_) => Err(Missed(None)),
    }
}
