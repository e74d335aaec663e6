//! One call from INVITE to its end.

use std::time::Duration;

use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver};
use rsipstack::dialog::invitation::InviteAsyncResult;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::StatusCodeKind;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::codes;
use super::dialogs::answer_request;
use super::stack::Stack;
use crate::call::{Attempt, CallEnd, CallEvents, Fact, Fault, Outcome};

/// Result of an INVITE.
enum Setup {
    Answered,
    Refused(u16),
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
        events.provider_failed(fault).await;
        return CallEnd::unanswered(Outcome::Failed);
    }
    // The connection may have taken long.
    if hang_up.is_cancelled() || !attempt.leave.to_begin() {
        return CallEnd::unanswered(Outcome::Failed);
    }
    let invitation = match stack.invitation(attempt) {
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
    let mut call = Call { stack, dialog, states, events, hang_up, settled };
    let end = call.run(invite).await;
    stack.forget(&call.dialog);
    end
}

struct Call<'a> {
    stack: &'a Stack,
    dialog: InviteDialog,
    states: DialogStateReceiver,
    events: &'a CallEvents,
    hang_up: &'a CancellationToken,
    settled: CancellationToken,
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
                CallEnd { outcome: Outcome::Answered, duration }
            }
            Setup::Refused(code) => {
                match codes::fault(code) {
                    Some(fault) => self.events.provider_failed(fault).await,
                    None => self.events.provider_works().await,
                }
                CallEnd::unanswered(codes::outcome(code))
            }
            Setup::Silent => {
                self.events.provider_failed(Fault::Silent).await;
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
        let mut is_cancelled = false;
        loop {
            tokio::select! {
                result = &mut invite => return setup(result),
                Some(state) = self.states.recv() => {
                    let is_provisional =
                        matches!(state, DialogState::Trying(_) | DialogState::Early(..));
                    if is_provisional && !is_heard {
                        is_heard = true;
                        self.events.provider_works().await;
                        if !is_cancelled {
                            give_up_at = ring_until + limits.response;
                        }
                    }
                }
                () = self.hang_up.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    give_up_at = Instant::now() + limits.response;
                    self.cancel();
                }
                () = sleep_until(ring_until), if is_heard && !is_cancelled => {
                    is_cancelled = true;
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
        let transfer_at = answered + self.stack.transfer_after;
        let mut may_transfer = self.stack.transfer_to.is_some();
        while !self.is_over() {
            tokio::select! {
                state = self.states.recv() => match state {
                    Some(state) => answer_request(self.stack, state).await,
                    None => break,
                },
                () = self.hang_up.cancelled() => break,
                () = sleep_until(hang_up_at) => break,
                () = sleep_until(transfer_at), if may_transfer => {
                    may_transfer = false;
                    if self.transfer(answered).await {
                        break;
                    }
                }
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

    /// Transfers the call. Returns whether that worked.
    async fn transfer(&self, answered: Instant) -> bool {
        let Some(refer_to) = self.stack.transfer_to.clone() else { return false };
        let referred = self.dialog.refer(refer_to, None, None);
        let seconds = answered.elapsed().as_secs();
        match timeout(self.stack.limits.response, referred).await {
            Ok(Ok(Some(answer))) if answer.status_code.kind() == StatusCodeKind::Successful => {
                let seconds_before_transfer = i32::try_from(seconds).unwrap_or(i32::MAX);
                self.events.report(Fact::Transferred { seconds_before_transfer }).await;
                true
            }
            answer => {
                let code = answer.ok().and_then(Result::ok).flatten();
                let code = code.map(|answer| answer.status_code.code());
                info!(?code, "the trunk did not take over the call; the call continues");
                false
            }
        }
    }
}

fn setup(result: Result<InviteAsyncResult, tokio::task::JoinError>) -> Setup {
    match result {
        Ok(Ok((_, Some(response)))) => match response.status_code.code() {
            200 => Setup::Answered,
            code => Setup::Refused(code),
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
