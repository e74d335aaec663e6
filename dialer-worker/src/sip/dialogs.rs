//! Requests of the trunk within a call.

use rsipstack::dialog::dialog::DialogState;
use rsipstack::sip::{Header, Method, StatusCode};
use tracing::debug;

use super::sdp::Session;
use super::stack::Stack;

/// Answers the trunk's requests within the call, and follows its offers.
pub(super) async fn answer_request(stack: &Stack, session: &mut Session, state: DialogState) {
    let answered = match state {
        DialogState::Updated(_, request, handle) => {
            // INVITE without an offer asks for one (RFC 3261 §14.2); UPDATE refreshes the session.
            let description = match (request.body.is_empty(), request.method) {
                (true, Method::Update) => {
                    let _ = handle.reply(StatusCode::OK).await;
                    return;
                }
                (true, _) => Some(session.offer()),
                (false, _) => session.answer(&request.body),
            };
            match description {
                Some(description) => {
                    let headers = vec![
                        Header::ContentType("application/sdp".into()),
                        Header::Contact(format!("<{}>", stack.contact()).into()),
                    ];
                    handle.respond(StatusCode::OK, Some(headers), Some(description)).await
                }
                None => handle.reply(StatusCode::NotAcceptableHere).await,
            }
        }
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
