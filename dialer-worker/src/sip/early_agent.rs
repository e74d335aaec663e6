//! Agent that is called on hold while the person's phone rings, so that nobody waits for it.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::agent::Caller;
use super::invitations;
use super::leg::Happening;
use super::party::{self, Invitation, Missed, Party};
use super::stack::Stack;

/// Agent under way to the line, or on hold. Its call is given up or hung up if this is dropped.
pub(super) struct EarlyAgent {
    holding: AbortOnDropHandle<Result<Party, Missed>>,
    /// Cancelled when the person has answered.
    is_awaited: CancellationToken,
}

impl EarlyAgent {
    /// Calls the agent for a person whose phone rings, if agents are to be called so early.
    pub fn call(stack: &Arc<Stack>, caller: &Caller) -> Option<Self> {
        if !stack.agents.is_warm {
            return None;
        }
        let invitation = invitations::agent(stack, caller, "agent")?;
        // It waits until the person answers.
        let limit = stack.limits.ring + stack.agents.limit;
        let invitation = Invitation { limit, ..invitation };
        let is_awaited = CancellationToken::new();
        let holding = hold(Arc::clone(stack), invitation, is_awaited.clone());
        Some(Self { holding: AbortOnDropHandle::new(tokio::spawn(holding)), is_awaited })
    }

    /// Offers the agent the person's description. Returns the agent with its own.
    pub async fn connect(
        self,
        description: &[u8],
        until: Instant,
    ) -> Result<(Party, Vec<u8>), Missed> {
        self.is_awaited.cancel();
        let held = timeout_at(until, self.holding).await;
        let agent = held.ok().and_then(Result::ok).unwrap_or(Err(Missed(None)))?;
        let offered = timeout_at(until, party::offer(&agent.leg, description)).await;
        let answer = offered.unwrap_or(Err(Missed(None)))?;
        Ok((agent, answer))
    }
}

/// Calls the agent, and answers its requests until somebody awaits it.
async fn hold(
    stack: Arc<Stack>,
    invitation: Invitation,
    is_awaited: CancellationToken,
) -> Result<Party, Missed> {
    let silence = stack.session().hold();
    let (mut agent, _) = party::call(stack, invitation, silence).await?;
    loop {
        tokio::select! {
            () = is_awaited.cancelled() => return Ok(agent),
            happening = agent.leg.next() => match happening {
                Happening::Asked(state) => agent.leg.answer(*state).await,
                Happening::Over(_) | Happening::Expired => return Err(Missed(None)),
            },
        }
    }
}
