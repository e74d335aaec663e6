//! INVITEs of the parties that join a person's call.

use std::time::Duration;

use super::agent::Caller;
use super::credentials::for_stack;
use super::party::Invitation;
use super::stack::Stack;
use super::target::Target;

/// Time until the target of a transfer must answer.
const TARGET_LIMIT: Duration = Duration::from_secs(60);

/// Returns the INVITE of the agent for a person. `call` tells its calls for one person apart.
pub(super) fn agent(stack: &Stack, caller: &Caller, call: &str) -> Option<Invitation> {
    let agents = &stack.agents;
    let address = agents.address(&caller.contact)?;
    let call_id = format!("{}.{call}", caller.key);
    let mut option = stack.to_address(address, &caller.phone_number, call_id).ok()?;
    option.headers.get_or_insert_default().extend(caller.headers());
    option.credential = agents.login.as_deref().map(for_stack);
    Some(Invitation { option, limit: agents.limit, login: agents.login.clone() })
}

/// Returns the INVITE of a transfer's target, if the agent may transfer there.
pub(super) fn target(stack: &Stack, caller: &Caller, target: &Target) -> Option<Invitation> {
    if !stack.agents.may_transfer_to(target) {
        return None;
    }
    let call_id = format!("{}.transfer", caller.key);
    let (option, login) = match target {
        Target::Number(number) => (
            stack.through_trunk(stack.trunks.first(), number, call_id).ok()?,
            stack.login().cloned(),
        ),
        Target::Address(address) => {
            let mut option = stack.to_address(address, &caller.phone_number, call_id).ok()?;
            option.headers.get_or_insert_default().extend(caller.names());
            (option, None)
        }
    };
    Some(Invitation { option, limit: TARGET_LIMIT, login })
}
