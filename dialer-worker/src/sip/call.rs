//! One call from INVITE to its end.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
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
use super::codes::{self, Farewell, Refusal};
use super::conversation::Conversation;
use super::early_agent::EarlyAgent;
use super::leg::{Leg, SharedSession};
use super::refresh::{self, Refresh};
use super::stack::Stack;
use super::talk::talk;
use super::trunks::Trunk;
use crate::call::{Attempt, CallEnd, CallEvents, Fault, Outcome, sip_codes};

/// Delay before another call is tried when all numbers had their calls of the day.
const NO_CALLER_DELAY: Duration = Duration::from_secs(600);

/// Reason of a call that was not placed.
const CAME_TOO_LATE: &str = "the call had to end before it was placed";

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
    let Some(shown) = stack.callers.take(&attempt.contact, Instant::now()) else {
        events.provider_failed(Fault::NoCaller, Some(NO_CALLER_DELAY)).await;
        return codes::not_sent(&Fault::NoCaller.to_string());
    };
    let call_id = attempt.key();
    let mut placing =
        Placing { stack, attempt, events, hang_up, shown, call_id, tried: Vec::new() };
    loop {
        if let Some(end) = placing.once().await {
            return end;
        }
    }
}

/// Attempt that is being placed, at one address of the trunk after the other.
struct Placing<'a> {
    stack: &'a Arc<Stack>,
    attempt: &'a Attempt,
    events: &'a CallEvents,
    hang_up: &'a CancellationToken,
    /// Number shown to the contact.
    shown: String,
    call_id: String,
    /// Addresses that failed the call before any phone rang.
    tried: Vec<Arc<Trunk>>,
}

impl<'a> Placing<'a> {
    /// Tries the next address. Returns the end of the call, or `None` to try once more.
    async fn once(&mut self) -> Option<CallEnd> {
        let stack = self.stack;
        let line = tokio::select! {
            line = stack.trunks.line(&self.tried) => line,
            () = self.hang_up.cancelled() => None,
        };
        let Some(line) = line else { return Some(codes::not_sent(CAME_TOO_LATE)) };
        let trunk = &line.trunk;
        if let Err(fault) = stack.connect(trunk).await {
            if self.fails(trunk) {
                return None;
            }
            self.events.provider_failed(fault, None).await;
            return Some(codes::not_sent(&fault.to_string()));
        }
        // Line and connection may have taken long.
        if self.hang_up.is_cancelled() || !self.attempt.leave.to_begin() {
            return Some(codes::not_sent(CAME_TOO_LATE));
        }
        let (mut call, invite) = match Call::begin(self, trunk) {
            Ok(begun) => begun,
            Err(error) => {
                info!(attempt_id = self.attempt.attempt_id, error, "the call cannot be placed");
                return Some(CallEnd::unanswered(Outcome::InvalidNumber));
            }
        };
        let setup = call.set_up(invite).await;
        call.settled.cancel();
        if self.is_to_repeat(&call, &setup, trunk) {
            stack.forget(&call.dialog);
            // Another call for the trunk, which may remember the first.
            self.call_id.push_str(".2");
            return None;
        }
        let is_answered = matches!(setup, Setup::Answered(_));
        if call.rang || is_answered {
            trunk.works();
            stack.callers.rang(&self.shown, is_answered, Instant::now());
        }
        Some(call.run(setup).await)
    }

    /// Whether the INVITE is to be sent again: with a longer session timer, or to another address
    /// because this one failed.
    fn is_to_repeat(&mut self, call: &Call<'_>, setup: &Setup, trunk: &Arc<Trunk>) -> bool {
        match setup {
            // Others may have learnt the same of the trunk meanwhile.
            Setup::TooBrief(least) => {
                self.stack.expire_later(*least);
                *least > call.session_expires
            }
            Setup::Refused(refusal) if call.rang || !codes::is_elsewhere(refusal.code) => false,
            Setup::Refused(_) => {
                self.fails(trunk) && !call.is_cancelled && self.attempt.leave.to_repeat()
            }
            Setup::Silent => {
                // The phone may ring, so nobody else is asked.
                trunk.fails(Instant::now());
                false
            }
            Setup::Answered(_) => false,
        }
    }

    /// Notes that an address failed. Returns whether another one is left.
    fn fails(&mut self, trunk: &Arc<Trunk>) -> bool {
        trunk.fails(Instant::now());
        self.tried.push(Arc::clone(trunk));
        self.stack.trunks.has_more(&self.tried)
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
    farewell: Arc<OnceLock<Farewell>>,
    /// Interval that the INVITE's session timer asks for, or a shorter one.
    session_expires: Duration,
    /// Whether the phone rang.
    rang: bool,
    /// Agent that is called while the phone rings.
    early_agent: Option<EarlyAgent>,
    /// Whether the call was cancelled before its answer.
    is_cancelled: bool,
}

impl<'a> Call<'a> {
    /// Sends the INVITE.
    fn begin(
        placing: &Placing<'a>,
        trunk: &Trunk,
    ) -> Result<(Self, JoinHandle<InviteAsyncResult>), String> {
        let &Placing { stack, attempt, events, hang_up, .. } = placing;
        let (shown, call_id) = (placing.shown.as_str(), placing.call_id.as_str());
        let mut session = stack.session();
        let session_expires = stack.session_expires();
        // The error would reveal the number.
        let invitation = stack
            .invitation(attempt, trunk, (shown, call_id), &mut session)
            .map_err(|_| "the number makes no SIP address".to_owned())?;
        let session = Arc::new(Mutex::new(session));
        stack.begin(call_id, stack.login());
        let (sender, states) = stack.layer.new_dialog_state_channel();
        let started = stack.layer.do_invite_async(invitation, sender);
        let (dialog, invite) = started.map_err(|error| error.to_string())?;
        let settled = CancellationToken::new();
        let farewell = stack.list(&dialog, &session, &settled);
        let call = Self {
            stack,
            attempt,
            dialog,
            states,
            session,
            events,
            hang_up,
            settled,
            farewell,
            session_expires,
            rang: false,
            early_agent: None,
            is_cancelled: false,
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
            is_acknowledged: true,
        };
        let conversation = Conversation {
            stack: self.stack,
            events: Some(self.events),
            hang_up: self.hang_up,
            caller: Caller::of(self.attempt),
            answered: now,
            opted_out: AtomicBool::new(false),
        };
        let farewell = self.farewell;
        let mut end = talk(&conversation, leg, answer.body.clone(), self.early_agent).await;
        if let Some((cause, reason)) = farewell.get().cloned() {
            (end.detail.cause, end.detail.reason) = (cause, reason);
        }
        end
    }

    async fn refused(&self, refusal: Refusal) -> CallEnd {
        match sip_codes::fault(refusal.code) {
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
                    let rang_before = self.rang;
                    self.hear(&state).await;
                    if self.rang && !rang_before && !self.is_cancelled {
                        self.early_agent =
                            EarlyAgent::call(self.stack, &Caller::of(self.attempt));
                    }
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
