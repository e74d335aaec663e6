//! Requests of the trunk within a call.

use rsipstack::dialog::dialog::DialogState;
use rsipstack::sip::{Header, StatusCode};
use tracing::debug;

use super::stack::Stack;

/// Answers the trunk's requests within the call.
pub(super) async fn answer_request(stack: &Stack, state: DialogState) {
    let answered = match state {
        // A session refresh changes nothing on this side.
        DialogState::Updated(_, request, handle) if !request.body.is_empty() => {
            let headers = vec![Header::ContentType("application/sdp".into())];
            handle.respond(StatusCode::OK, Some(headers), Some(stack.offer())).await
        }
        DialogState::Updated(_, _, handle)
        | DialogState::Options(_, _, handle)
        | DialogState::Notify(_, _, handle)
        | DialogState::Info(_, _, handle) => handle.reply(StatusCode::OK).await,
        DialogState::Refer(_, _, handle)
        | DialogState::Message(_, _, handle)
        | DialogState::Publish(_, _, handle) => handle.reply(StatusCode::NotImplemented).await,
        _ => Ok(()),
    };
    if answered.is_err() {
        debug!("a request within a call ended before it was answered");
    }
}
