//! One call from INVITE to its end.

use std::time::Duration;

use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver};
use rsipstack::dialog::invitation::InviteAsyncResult;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Response as SipResponse};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::codes;
use super::dialogs::answer_request;
use super::sdp::Session;
use super::stack::Stack;
use super::transfer::Transfer;
use crate::call::{Attempt, CallEnd, CallEvents, Fact, Fault, Outcome};

/// Result of an INVITE.
enum Setup {
    Answered,
    /// Refused with a code. The trunk may ask for a delay.
    Refused(u16, Option<Duration>),
    /// No final answer came.
    Silent,
}

/// Dials and completes when the call is over.
pub(super) async fn place(
    stack: &Stack,
    attempt: &Attempt,
    events: &CallEvents,
    hang_up: &CancellationToken,
) -> CallEnd {
    if let Err(fault) = stack.connect().await {
        events.provider_failed(fault, None).await;
        return CallEnd::unanswered(Outcome::Failed);
    }
    // The connection may have taken long.
    if hang_up.is_cancelled() || !attempt.leave.to_begin() {
        return CallEnd::unanswered(Outcome::Failed);
    }
    let mut session = stack.session();
    let invitation = match stack.invitation(attempt, &mut session) {
        Ok(invitation) => invitation,
        Err(_) => {
            // The error would reveal the number.
            info!(attempt_id = attempt.attempt_id, "the number makes no SIP address");
            return CallEnd::unanswered(Outcome::Failed);
        }
    };
    let (sender, states) = stack.layer.new_dialog_state_channel();
    let (dialog, invite) = match stack.layer.do_invite_async(invitation, sender) {
        Ok(started) => started,
        Err(error) => {
            info!(attempt_id = attempt.attempt_id, %error, "the call cannot be placed");
            return CallEnd::unanswered(Outcome::Failed);
        }
    };
    let settled = CancellationToken::new();
    stack.list(&dialog, &settled);
    let (rang, is_cancelled) = (false, false);
    let mut call =
        Call { stack, dialog, states, session, events, hang_up, settled, rang, is_cancelled };
    let end = call.run(invite).await;
    stack.forget(&call.dialog);
    end
}

struct Call<'a> {
    stack: &'a Stack,
    dialog: InviteDialog,
    states: DialogStateReceiver,
    session: Session,
    events: &'a CallEvents,
    hang_up: &'a CancellationToken,
    settled: CancellationToken,
    /// Whether the phone rang.
    rang: bool,
    /// Whether the call was cancelled before its answer.
    is_cancelled: bool,
}

impl Call<'_> {
    async fn run(&mut self, invite: JoinHandle<InviteAsyncResult>) -> CallEnd {
        let setup = self.set_up(invite).await;
        self.settled.cancel();
        match setup {
            Setup::Answered => {
                self.events.provider_works().await;
                self.events.answered().await;
                let duration = self.talk(Instant::now()).await;
                CallEnd::new(Outcome::Answered, duration)
            }
            Setup::Refused(code, retry_after) => {
                match codes::fault(code) {
                    // The trunk did its part when the phone rang. A call cancelled here shows
                    // nothing of the trunk.
                    _ if self.rang || self.is_cancelled => {}
                    Some(fault) => self.events.provider_failed(fault, retry_after).await,
                    None => self.events.ended_unrung(code).await,
                }
                CallEnd::unanswered(codes::outcome(code, self.rang))
            }
            Setup::Silent => {
                self.events.provider_failed(Fault::Silent, None).await;
                CallEnd::unanswered(Outcome::Unknown)
            }
        }
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
                    return setup(result);
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

    /// Runs the call from answer to end. Returns its duration.
    async fn talk(&mut self, answered: Instant) -> Duration {
        let hang_up_at = answered + self.stack.limits.talk;
        let referred_by = self.stack.referred_by();
        let mut transfer = match self.stack.transfer_to.clone() {
            Some(target) => Transfer::Planned(target, answered + self.stack.transfer_after),
            None => Transfer::None,
        };
        while !self.is_over() {
            let limit = self.stack.limits.response;
            tokio::select! {
                state = self.states.recv() => match state {
                    Some(state) => {
                        let is_transferred = matches!(
                            &state,
                            DialogState::Notify(_, notify, _) if transfer.hear(notify)
                        );
                        answer_request(self.stack, &mut self.session, state).await;
                        if is_transferred {
                            self.transferred(answered).await;
                            // The stack returns to this state once the NOTIFY is answered, and the
                            // BYE must not overtake that.
                            let _ = timeout(limit, self.states.recv()).await;
                            break;
                        }
                    }
                    None => break,
                },
                () = self.hang_up.cancelled() => break,
                () = sleep_until(hang_up_at) => break,
                () = transfer.step(&self.dialog, &referred_by, limit) => {}
            }
        }
        let duration = answered.elapsed();
        if !self.is_over() {
            let bye = timeout(self.stack.limits.response, self.dialog.bye()).await;
            debug!(is_taken = bye.is_ok_and(|bye| bye.is_ok()), "hung up");
        }
        duration
    }

    fn is_over(&self) -> bool {
        matches!(self.dialog.state(), DialogState::Terminated(..))
    }

    /// Reports that the target of the transfer answered.
    async fn transferred(&self, answered: Instant) {
        let seconds_before_transfer =
            i32::try_from(answered.elapsed().as_secs()).unwrap_or(i32::MAX);
        self.events.report(Fact::Transferred { seconds_before_transfer }).await;
    }
}

/// Returns the delay that an answer asks for, as in `Retry-After: 20 (in maintenance)`.
fn retry_after(response: &SipResponse) -> Option<Duration> {
    let header = response.headers.iter().find_map(|header| match header {
        Header::RetryAfter(value) => Some(value.value().to_owned()),
        _ => None,
    })?;
    let digits: String = header.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_secs)
}

fn setup(result: Result<InviteAsyncResult, tokio::task::JoinError>) -> Setup {
    match result {
        Ok(Ok((_, Some(response)))) => match response.status_code.code() {
            200 => Setup::Answered,
            code => Setup::Refused(code, retry_after(&response)),
        },
        Ok(Ok((_, None))) => Setup::Silent,
        Ok(Err(error)) => {
            debug!(%error, "the INVITE broke off");
            Setup::Silent
        }
        Err(error) => {
            debug!(%error, "the INVITE was not completed");
            Setup::Silent
        }
    }
}
