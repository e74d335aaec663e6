//! Call from answer to end.

use rsipstack::dialog::dialog::DialogState;
use tokio::time::sleep_until;
use tracing::info;

use super::bridge::bridge;
use super::conversation::Conversation;
use super::early_agent::EarlyAgent;
use super::leg::{EndedBy, Happening, Leg, ended_by};
use super::transfer::Transfer;
use crate::call::{CallEnd, EndDetail, Fault, Outcome, Party};

/// Runs the call from answer to end. `description` is the person's, and `early` the
/// agent that was called while the phone rang.
pub(super) async fn talk(
    talk: &Conversation<'_>,
    mut person: Leg,
    description: Vec<u8>,
    early: Option<EarlyAgent>,
) -> CallEnd {
    let has_agent = talk.stack.agents.address(&talk.caller.contact).is_some();
    let ended_by = if has_agent {
        bridge(talk, &mut person, description, early).await
    } else {
        alone(talk, &mut person).await
    };
    let duration = talk.answered.elapsed();
    person.hang_up().await;
    let (outcome, hung_up_by) = match ended_by {
        EndedBy::Person => (Outcome::Answered, Party::Contact),
        EndedBy::Agent => (Outcome::Answered, Party::Agent),
        EndedBy::Worker => (Outcome::Answered, Party::Caller),
        EndedBy::NoAgent => {
            if let Some(events) = talk.events {
                events.provider_failed(Fault::NoAgent, None).await;
            }
            (Outcome::Abandoned, Party::Caller)
        }
    };
    let hung_up_by = Some(hung_up_by);
    CallEnd::new(outcome, duration).with(EndDetail { hung_up_by, ..EndDetail::default() })
}

/// Runs a call whose audio the trunk cares for. Who calls in is not transferred.
pub(super) async fn alone(talk: &Conversation<'_>, person: &mut Leg) -> EndedBy {
    let (stack, answered) = (talk.stack, talk.answered);
    let hang_up_at = answered + stack.limits.talk;
    let referred_by = stack.referred_by();
    let mut transfer = match stack.transfer_to.clone().filter(|_| talk.events.is_some()) {
        Some(target) => Transfer::Planned(target, answered + stack.transfer_after),
        None => Transfer::None,
    };
    loop {
        let dialog = person.dialog.clone();
        tokio::select! {
            happening = person.next() => match happening {
                Happening::Asked(state) => {
                    let Some(state) = talk.unless_opted_out(person, *state).await else {
                        return EndedBy::Worker;
                    };
                    let is_transferred = matches!(
                        &state,
                        DialogState::Notify(_, notify, _) if transfer.hear(notify)
                    );
                    person.answer(state).await;
                    if is_transferred {
                        talk.transferred().await;
                        person.settle().await;
                        return EndedBy::Worker;
                    }
                }
                Happening::Over(reason) => return ended_by(reason.as_ref()),
                Happening::Expired => {
                    info!("nobody refreshed a call in time; it is hung up");
                    return EndedBy::Worker;
                }
            },
            () = talk.hang_up.cancelled() => return EndedBy::Worker,
            () = sleep_until(hang_up_at) => return EndedBy::Worker,
            () = transfer.step(&dialog, &referred_by, stack.limits.response) => {}
        }
    }
}
