//! Requests of the trunk within a call.

use rsipstack::dialog::dialog::DialogState;
use rsipstack::sip::{Header, Method, StatusCode};
use tracing::debug;

use super::sdp::Session;
use super::stack::Stack;

/// Answers the trunk's requests within the call, and follows its offers.
pub(super) async fn answer_request(stack: &Stack, session: &mut Session, state: DialogState) {
    let answered = match state {
        // UPDATE without an offer only refreshes the session.
        DialogState::Updated(_, request, handle)
            if request.body.is_empty() && request.method == Method::Update =>
        {
            handle.reply(StatusCode::OK).await
        }
        DialogState::Updated(_, request, handle) => match session.answer(&request.body) {
            Some(description) => {
                let headers = vec![
                    Header::ContentType("application/sdp".into()),
                    Header::Contact(format!("<{}>", stack.contact()).into()),
                ];
                handle.respond(StatusCode::OK, Some(headers), Some(description)).await
            }
            None => handle.reply(StatusCode::NotAcceptableHere).await,
        },
        DialogState::Options(_, _, handle)
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
