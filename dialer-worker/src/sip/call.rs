//! One call from INVITE to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver};
use rsipstack::dialog::invitation::InviteAsyncResult;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::Response;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::agent::Caller;
use super::codes::{self, Refusal};
use super::conversation::Conversation;
use super::leg::{Leg, SharedSession};
use super::refresh::{self, Refresh};
use super::stack::Stack;
use super::talk::talk;
use crate::call::{Attempt, CallEnd, CallEvents, Fault, Outcome};

/// Delay before another call is tried when all numbers had their calls of the day.
const NO_CALLER_DELAY: Duration = Duration::from_secs(600);

/// Result of an INVITE.
enum Setup {
    Answered(Box<Response>),
    Refused(Refusal),
    /// Refused because the session timer is too short.
    TooBrief(Duration),
    /// No final answer came.
    Silent,
}

/// Dials and completes when the call is over.
pub(super) async fn place(
    stack: &Arc<Stack>,
    attempt: &Attempt,
    events: &CallEvents,
    hang_up: &CancellationToken,
) -> CallEnd {
    if let Err(fault) = stack.connect().await {
        events.provider_failed(fault, None).await;
        return codes::not_sent(&fault.to_string());
    }
    let Some(shown) = stack.callers.take(&attempt.contact, Instant::now()) else {
        events.provider_failed(Fault::NoCaller, Some(NO_CALLER_DELAY)).await;
        return codes::not_sent(&Fault::NoCaller.to_string());
    };
    let mut call_id = attempt.key();
    loop {
        // The connection may have taken long.
        if hang_up.is_cancelled() || !attempt.leave.to_begin() {
            return codes::not_sent("the call had to end before it was placed");
        }
        let (mut call, invite) =
            match Call::begin(stack, attempt, (&shown, &call_id), events, hang_up) {
                Ok(begun) => begun,
                Err(error) => {
                    info!(attempt_id = attempt.attempt_id, error, "the call cannot be placed");
                    return CallEnd::unanswered(Outcome::InvalidNumber);
                }
            };
        let setup = call.set_up(invite).await;
        call.settled.cancel();
        if let Setup::TooBrief(least) = setup
            && stack.expire_later(least)
        {
            stack.forget(&call.dialog);
            call_id.push_str(".2");
            continue;
        }
        let is_answered = matches!(setup, Setup::Answered(_));
        if call.rang || is_answered {
            stack.callers.rang(&shown, is_answered, Instant::now());
        }
        return call.run(setup).await;
    }
}

struct Call<'a> {
    stack: &'a Arc<Stack>,
    attempt: &'a Attempt,
    dialog: InviteDialog,
    states: DialogStateReceiver,
    session: SharedSession,
    events: &'a CallEvents,
    hang_up: &'a CancellationToken,
    /// Cancelled when the final answer is processed.
    settled: CancellationToken,
    /// Whether the phone rang.
    rang: bool,
    /// Whether the call was cancelled before its answer.
    is_cancelled: bool,
}

impl<'a> Call<'a> {
    /// Sends the INVITE.
    fn begin(
        stack: &'a Arc<Stack>,
        attempt: &'a Attempt,
        (shown, call_id): (&str, &str),
        events: &'a CallEvents,
        hang_up: &'a CancellationToken,
    ) -> Result<(Self, JoinHandle<InviteAsyncResult>), String> {
        let mut session = stack.session();
        // The error would reveal the number.
        let invitation = stack
            .invitation(attempt, shown, call_id, &mut session)
            .map_err(|_| "the number makes no SIP address".to_owned())?;
        let session = Arc::new(Mutex::new(session));
        stack.begin(call_id, stack.login());
        let (sender, states) = stack.layer.new_dialog_state_channel();
        let started = stack.layer.do_invite_async(invitation, sender);
        let (dialog, invite) = started.map_err(|error| error.to_string())?;
        let settled = CancellationToken::new();
        stack.list(&dialog, &session, &settled);
        let (rang, is_cancelled) = (false, false);
        let call = Self {
            stack,
            attempt,
            dialog,
            states,
            session,
            events,
            hang_up,
            settled,
            rang,
            is_cancelled,
        };
        Ok((call, invite))
    }

    /// Runs the call from the final answer to its end.
    async fn run(self, setup: Setup) -> CallEnd {
        let dialog = self.dialog.clone();
        let stack = self.stack;
        let end = match setup {
            Setup::Answered(answer) => self.answered(&answer).await,
            Setup::Refused(refusal) => self.refused(refusal).await,
            Setup::TooBrief(_) => self.refused(Refusal::of_code(422)).await,
            Setup::Silent => {
                self.events.provider_failed(Fault::Silent, None).await;
                CallEnd::unanswered(Outcome::Unknown)
            }
        };
        stack.forget(&dialog);
        end
    }

    async fn answered(self, answer: &Response) -> CallEnd {
        let now = Instant::now();
        self.events.provider_works().await;
        self.events.answered().await;
        let leg = Leg {
            refresh: Refresh::by_answer(&answer.headers, now),
            dialog: self.dialog,
            states: self.states,
            session: self.session,
            contact: self.stack.contact(),
            limit: self.stack.limits.response,
        };
        let conversation = Conversation {
            stack: self.stack,
            events: self.events,
            hang_up: self.hang_up,
            caller: Caller::of(self.attempt),
            answered: now,
        };
        talk(&conversation, leg, answer.body.clone()).await
    }

    async fn refused(&self, refusal: Refusal) -> CallEnd {
        match codes::fault(refusal.code) {
            // The trunk did its part when the phone rang. A call cancelled here shows nothing of
            // the trunk.
            _ if self.rang || self.is_cancelled => {}
            Some(fault) => self.events.provider_failed(fault, refusal.retry_after).await,
            None => self.events.ended_unrung(refusal.code).await,
        }
        let by_order = self.hang_up.is_cancelled();
        refusal.end(self.rang, by_order)
    }

    /// Waits for the final answer. The response limit bounds the trunk's first reaction, and the
    /// ring limit bounds the answer. A cancelled call has one more response limit to end.
    async fn set_up(&mut self, mut invite: JoinHandle<InviteAsyncResult>) -> Setup {
        let started = Instant::now();
        let limits = self.stack.limits;
        let ring_until = started + limits.ring;
        let mut give_up_at = started + limits.response;
        let mut is_heard = false;
        loop {
            tokio::select! {
                result = &mut invite => {
                    self.hear_the_rest().await;
                    return self.setup(result);
                }
                Some(state) = self.states.recv() => {
                    let is_provisional =
                        matches!(state, DialogState::Trying(_) | DialogState::Early(..));
                    self.hear(&state).await;
                    if is_provisional && !is_heard {
                        is_heard = true;
                        if !self.is_cancelled {
                            give_up_at = ring_until + limits.response;
                        }
                    }
                }
                () = self.hang_up.cancelled(), if !self.is_cancelled => {
                    self.is_cancelled = true;
                    give_up_at = Instant::now() + limits.response;
                    self.cancel();
                }
                () = sleep_until(ring_until), if is_heard && !self.is_cancelled => {
                    self.is_cancelled = true;
                    give_up_at = Instant::now() + limits.response;
                    self.cancel();
                }
                () = sleep_until(give_up_at) => {
                    // The INVITE is not repeated from here on. If the trunk still answers it, the
                    // call is cancelled or hung up in the background.
                    invite.abort();
                    return Setup::Silent;
                }
            }
        }
    }

    /// Notes that the phone rings. 100 is of the next hop only, and shows nothing of the trunk.
    async fn hear(&mut self, state: &DialogState) {
        if matches!(state, DialogState::Early(..)) && !self.rang {
            self.rang = true;
            self.events.provider_works().await;
        }
    }

    /// Hears what came right before the final answer.
    async fn hear_the_rest(&mut self) {
        while let Ok(state) = self.states.try_recv() {
            self.hear(&state).await;
        }
    }

    /// Cancels at once, or as soon as the trunk has reacted.
    fn cancel(&self) {
        let dialog = self.dialog.clone();
        tokio::spawn(async move {
            if let Err(error) = dialog.cancel().await {
                debug!(%error, "CANCEL was not accepted");
            }
        });
    }

    fn setup(&self, result: Result<InviteAsyncResult, tokio::task::JoinError>) -> Setup {
        match result {
            Ok(Ok((_, Some(answer)))) => match answer.status_code.code() {
                200..=299 => Setup::Answered(Box::new(answer)),
                422 => match refresh::least(&answer.headers) {
                    Some(least) => Setup::TooBrief(least),
                    None => Setup::Refused(Refusal::of(&answer)),
                },
                _ => Setup::Refused(Refusal::of(&answer)),
            },
            Ok(Ok((_, None))) => Setup::Silent,
            Ok(Err(error)) => self.broken_off(&error.to_string()),
            Err(error) => self.broken_off(&error.to_string()),
        }
    }

    /// Returns the result of an INVITE that the stack gave up. After a challenge that has no
    /// answer, nothing can have rung.
    fn broken_off(&self, error: &str) -> Setup {
        match self.stack.refused(&self.dialog.id().call_id) {
            Some(code) => {
                info!(code, "the trunk wants credentials of a kind that the worker has not");
                Setup::Refused(Refusal::of_code(code))
            }
            None => {
                debug!(error, "the INVITE broke off");
                Setup::Silent
            }
        }
    }
}
