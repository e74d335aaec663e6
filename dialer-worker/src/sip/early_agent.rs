//! Agent that is called on hold while the person's phone rings, so that nobody waits for it.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::agent::Caller;
use super::invitations;
use super::party::{self, Invitation, Missed, Party};
use super::stack::Stack;

/// Agent under way to the line. Its call is given up or hung up if this is dropped.
pub(super) struct EarlyAgent(AbortOnDropHandle<Result<(Party, Vec<u8>), Missed>>);

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
        let calling = party::call(Arc::clone(stack), invitation, stack.session().hold());
        Some(Self(AbortOnDropHandle::new(tokio::spawn(calling))))
    }

    /// Offers the agent the person's description. Returns the agent with its own.
    pub async fn connect(
        self,
        description: &[u8],
        until: Instant,
    ) -> Result<(Party, Vec<u8>), Missed> {
        let called = timeout_at(until, self.0).await;
        let (agent, _) = called.ok().and_then(Result::ok).unwrap_or(Err(Missed(None)))?;
        let offered = timeout_at(until, party::offer(&agent.leg, description)).await;
        let answer = offered.unwrap_or(Err(Missed(None)))?;
        Ok((agent, answer))
    }
}
