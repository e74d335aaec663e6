//! A person and an AI agent on one line.
//!
//! ```text
//! person ◄── INVITE, 200 ──  worker                          (as for any call)
//!                            worker ── INVITE, 200 ──► agent  (with the person's description)
//! person ◄── re-INVITE ────  worker                          (with the agent's)
//! person ◄────────────────── audio ──────────────────► agent
//! person ── BYE ──► worker ── BYE ──► agent                   (or the other way round)
//!                            worker ◄── REFER ──────── agent  (the target takes the agent's place)
//! ```
//!
//! With `--sip-agent-warm`, the agent's INVITE goes out on hold when the phone rings, and a re-INVITE
//! with the person's description follows the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rsipstack::dialog::dialog::{DialogState, TransactionHandle};
use rsipstack::sip::{Header, Method, Request, StatusCode};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::conversation::Conversation;
use super::early_agent::EarlyAgent;
use super::invitations;
use super::leg::{self, EndedBy, Happening, Leg};
use super::party::{self, Invitation, Missed, Party};
use super::target;

/// Call to the target of a transfer.
type Calling = Pin<Box<dyn Future<Output = Result<(Party, Vec<u8>), Missed>> + Send>>;

/// Runs a call with an agent, from the person's answer to its end. `early` is the agent that was called
/// while the phone rang.
pub(super) async fn bridge(
    talk: &Conversation<'_>,
    person: &mut Leg,
    description: Vec<u8>,
    early: Option<EarlyAgent>,
) -> EndedBy {
    let met = tokio::select! {
        met = meet(talk, person, description.clone(), early) => met,
        () = talk.hang_up.cancelled() => Err(EndedBy::Worker),
    };
    let agent = match met {
        Ok(agent) => agent,
        Err(ended_by) => return ended_by,
    };
    if let Some(events) = talk.events {
        events.agent_works().await;
    }
    join(talk, person, description, agent).await
}

/// Runs a call with an agent who is on the line, to its end. `description` is the person's.
pub(super) async fn join(
    talk: &Conversation<'_>,
    person: &mut Leg,
    description: Vec<u8>,
    agent: Party,
) -> EndedBy {
    let mut line = Line { talk, person, description, agent: Some(agent), calling: None };
    // A hang-up waits for no offer that is under way.
    let ended_by = tokio::select! {
        ended_by = line.run() => ended_by,
        () = talk.hang_up.cancelled() => EndedBy::Worker,
    };
    if let Some(agent) = line.agent {
        agent.leg.hang_up().await;
    }
    ended_by
}

/// Brings the agent to the line.
async fn meet(
    talk: &Conversation<'_>,
    person: &mut Leg,
    description: Vec<u8>,
    early: Option<EarlyAgent>,
) -> Result<Party, EndedBy> {
    let calling = reach(talk, description, early);
    tokio::pin!(calling);
    let (agent, agents) = loop {
        tokio::select! {
            called = &mut calling => match called {
                Ok(party) => break party,
                Err(Missed(code)) => {
                    info!(?code, "the agent did not answer; the person is hung up");
                    return Err(EndedBy::NoAgent);
                }
            },
            happening = person.next() => match happening {
                Happening::Asked(state) => {
                    let state = talk.unless_opted_out(person, *state).await;
                    person.answer(state.ok_or(EndedBy::Worker)?).await;
                }
                Happening::Over(reason) => return Err(leg::ended_by(reason.as_ref())),
                Happening::Expired => return Err(EndedBy::Worker),
            },
        }
    };
    if let Err(Missed(code)) = party::offer(person, &agents).await {
        let is_over = person.is_over();
        debug!(?code, is_over, "the person's side did not take the agent's description");
        agent.leg.hang_up().await;
        return Err(if is_over { EndedBy::Person } else { EndedBy::NoAgent });
    }
    debug!(after = ?talk.answered.elapsed(), "person and agent are connected");
    Ok(agent)
}

/// Reaches the agent that was called while the phone rang. If there is none, or it left, calls it.
async fn reach(
    talk: &Conversation<'_>,
    description: Vec<u8>,
    early: Option<EarlyAgent>,
) -> Result<(Party, Vec<u8>), Missed> {
    let until = talk.answered + talk.stack.agents.limit;
    let mut call = "agent";
    if let Some(early) = early {
        match early.connect(&description, until).await {
            Ok(reached) => return Ok(reached),
            Err(Missed(code)) => debug!(?code, "the agent did not come while the phone rang"),
        }
        call = "agent.2";
    }
    let invitation = invitations::agent(talk.stack, &talk.caller, call).ok_or(Missed(None))?;
    let limit = until.saturating_duration_since(Instant::now());
    if limit.is_zero() {
        return Err(Missed(None));
    }
    party::call(Arc::clone(talk.stack), Invitation { limit, ..invitation }, description).await
}

/// Line between a person and an agent, or the target of a transfer.
struct Line<'a, 'b> {
    talk: &'a Conversation<'b>,
    person: &'a mut Leg,
    /// The person's latest description.
    description: Vec<u8>,
    /// Missing if the agent left while the target of its transfer is called.
    agent: Option<Party>,
    calling: Option<Calling>,
}

impl Line<'_, '_> {
    async fn run(&mut self) -> EndedBy {
        let hang_up_at = self.talk.answered + self.talk.stack.limits.talk;
        loop {
            tokio::select! {
                happening = self.person.next() => match happening {
                    Happening::Asked(state) => {
                        match self.talk.unless_opted_out(self.person, *state).await {
                            Some(state) => self.person_asks(state).await,
                            None => return EndedBy::Worker,
                        }
                    }
                    Happening::Over(reason) => return leg::ended_by(reason.as_ref()),
                    Happening::Expired => return EndedBy::Worker,
                },
                happening = next(&mut self.agent) => match happening {
                    Happening::Asked(state) => self.agent_asks(*state).await,
                    Happening::Over(_) | Happening::Expired if self.calling.is_none() => {
                        return EndedBy::Agent;
                    }
                    // The person waits for the target of the transfer.
                    Happening::Over(_) | Happening::Expired => self.agent = None,
                },
                called = called(&mut self.calling) => {
                    self.calling = None;
                    if !self.take_over(called).await {
                        return EndedBy::Agent;
                    }
                }
                () = sleep_until(hang_up_at) => return EndedBy::Worker,
            }
        }
    }

    /// Handles a request of the person's side: an offer or a key goes to the agent.
    async fn person_asks(&mut self, state: DialogState) {
        let Some(agent) = &mut self.agent else {
            return self.person.answer(state).await;
        };
        match state {
            DialogState::Updated(_, request, handle) if is_offer(&request) => {
                if !request.body.is_empty() {
                    self.description.clone_from(&request.body);
                }
                pass(self.person, &agent.leg, &request, &handle).await;
            }
            DialogState::Info(_, request, handle) => tell(&agent.leg, &request, &handle).await,
            state => self.person.answer(state).await,
        }
    }

    /// Handles a request of the agent: an offer or a key goes to the person's side, and a transfer
    /// is begun.
    async fn agent_asks(&mut self, state: DialogState) {
        let Some(agent) = &mut self.agent else { return };
        match state {
            DialogState::Updated(_, request, handle) if is_offer(&request) => {
                pass(&mut agent.leg, self.person, &request, &handle).await;
            }
            DialogState::Info(_, request, handle) => tell(self.person, &request, &handle).await,
            DialogState::Refer(_, request, handle) => {
                let Conversation { stack, caller, .. } = self.talk;
                let invitation = target::read(&request)
                    .and_then(|target| invitations::target(stack, caller, &target));
                let is_free = self.calling.is_none();
                let Some(invitation) = invitation.filter(|_| is_free) else {
                    info!("the agent's transfer is declined: its target is not allowed");
                    let _ = handle.reply(StatusCode::Decline).await;
                    return;
                };
                let _ = handle.reply(StatusCode::Accepted).await;
                agent.leg.settle().await;
                let dialog = agent.leg.dialog.clone();
                tokio::spawn(async move {
                    let _ = dialog.notify_refer(StatusCode::Trying, "active;expires=180").await;
                });
                let stack = Arc::clone(self.talk.stack);
                let calling = party::call(stack, invitation, self.description.clone());
                self.calling = Some(Box::pin(calling));
            }
            state => agent.leg.answer(state).await,
        }
    }

    /// Puts the target of a transfer in the agent's place, if it answered. Returns whether anybody
    /// talks to the person.
    async fn take_over(&mut self, called: Result<(Party, Vec<u8>), Missed>) -> bool {
        let connected = match called {
            Ok((target, description)) => match party::offer(self.person, &description).await {
                Ok(_) => Ok(target),
                Err(missed) => {
                    target.leg.hang_up().await;
                    Err(missed)
                }
            },
            Err(missed) => Err(missed),
        };
        let code = match &connected {
            Ok(_) => 200,
            Err(Missed(code)) => code.unwrap_or(408),
        };
        if let Some(agent) = &self.agent {
            let status = StatusCode::from(code);
            let told = agent.leg.dialog.notify_refer(status, "terminated;reason=noresource");
            let _ = tokio::time::timeout(agent.leg.limit, told).await;
        }
        match connected {
            Ok(target) => {
                self.talk.transferred().await;
                if let Some(agent) = self.agent.replace(target) {
                    agent.leg.hang_up().await;
                }
            }
            Err(missed) => info!(?missed, "the target of the agent's transfer did not answer"),
        }
        self.agent.is_some()
    }
}

/// Completes with the next happening at the agent. Never completes without an agent.
async fn next(agent: &mut Option<Party>) -> Happening {
    match agent {
        Some(agent) => agent.leg.next().await,
        None => std::future::pending().await,
    }
}

async fn called(calling: &mut Option<Calling>) -> Result<(Party, Vec<u8>), Missed> {
    match calling {
        Some(calling) => calling.await,
        None => std::future::pending().await,
    }
}

/// Whether a request changes the session: an UPDATE without a description only refreshes it.
fn is_offer(request: &Request) -> bool {
    request.method == Method::Invite || !request.body.is_empty()
}

/// Passes an offer to the other leg, and the answer back. An offer that is asked for is what this
/// side was last shown.
async fn pass(from: &mut Leg, to: &Leg, request: &Request, handle: &TransactionHandle) {
    let answer = if request.body.is_empty() {
        Ok(from.description())
    } else {
        party::offer(to, &request.body).await
    };
    let answer = answer.and_then(|answer| from.pass(&answer).ok_or(Missed(None)));
    let answered = match answer {
        Ok(answer) => {
            let headers = from.accepting(request);
            handle.respond(StatusCode::OK, Some(headers), Some(answer)).await
        }
        Err(missed) => {
            debug!(?missed, "the other side did not take the offer");
            handle.reply(StatusCode::NotAcceptableHere).await
        }
    };
    if answered.is_err() {
        debug!("an offer ended before it was answered");
    }
}

/// Passes a key on to the other leg.
async fn tell(to: &Leg, info: &Request, handle: &TransactionHandle) {
    let _ = handle.reply(StatusCode::OK).await;
    let kind = info.headers.iter().find(|header| matches!(header, Header::ContentType(_))).cloned();
    if leg::is_key(info) {
        let told = to.dialog.info(Some(kind.into_iter().collect()), Some(info.body.clone()));
        let _ = tokio::time::timeout(to.limit, told).await;
    }
}
