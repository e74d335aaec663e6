//! Requests of the trunk: within a call, a new call, or OPTIONS.

use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::DialogId;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::sip::{Header, Method, StatusCode};
use rsipstack::transaction::{Transaction, TransactionReceiver};
use tokio::time::timeout;
use tracing::{debug, error};

use super::codes;
use super::inbound::Inbound;
use super::leg::answer_offer;
use super::stack::{Listed, Stack};

/// Time that a trunk's request waits for its preceding answer to be processed.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// Handles the trunk's requests until the socket closes.
pub(super) async fn take_requests(
    stack: Arc<Stack>,
    inbound: Option<Arc<Inbound>>,
    mut requests: TransactionReceiver,
) {
    while let Some(request) = requests.recv().await {
        tokio::spawn(take_request(Arc::clone(&stack), inbound.clone(), request));
    }
    error!("SIP has stopped listening, so no call works; restart the worker");
}

/// Handles one request of the trunk: within a call, a new call, or OPTIONS.
async fn take_request(stack: Arc<Stack>, inbound: Option<Arc<Inbound>>, mut request: Transaction) {
    let id = DialogId::try_from(&request).ok();
    let listed = id.as_ref().and_then(|id| stack.find(&id.call_id));
    let done = match (listed, &request.original.method) {
        (_, Method::Ack) => Ok(()),
        (Some(call), method) if call.is_early() && *method != Method::Bye => {
            answer_early(&stack, &call, &mut request).await
        }
        (Some(mut call), _) => {
            let _ = timeout(SETTLE_LIMIT, call.settled.cancelled()).await;
            if id == Some(call.dialog.id()) {
                if request.original.method == Method::Bye {
                    let _ = call.farewell.set(codes::cause(&request.original.headers));
                }
                call.dialog.handle(&mut request).await
            } else {
                request.reply(StatusCode::CallTransactionDoesNotExist).await
            }
        }
        (None, Method::Options) => request.reply(StatusCode::OK).await,
        // The request belongs to a call that is over, or to another worker.
        (None, Method::Invite) if id.is_some_and(|id| !id.local_tag.is_empty()) => {
            request.reply(StatusCode::CallTransactionDoesNotExist).await
        }
        (None, Method::Invite) => match &inbound {
            Some(inbound) => {
                inbound.take(&stack, request).await;
                return;
            }
            None => request.reply(StatusCode::TemporarilyUnavailable).await,
        },
        (None, _) => request.reply(StatusCode::CallTransactionDoesNotExist).await,
    };
    if let Err(error) = done {
        debug!(%error, "a request of the trunk was not handled");
    }
}

/// Answers a request within a call that is not answered yet.
async fn answer_early(
    stack: &Stack,
    call: &Listed,
    request: &mut Transaction,
) -> rsipstack::Result<()> {
    match (request.original.method, call.dialog.state()) {
        (Method::Update, _) if request.original.body.is_empty() => {
            request.reply(StatusCode::OK).await
        }
        // The trunk may offer again once it has answered the INVITE's offer (RFC 3311 §5.1).
        (Method::Update, DialogState::Early(_, answer)) if !answer.body.is_empty() => {
            match answer_offer(&call.session, &request.original.body) {
                Some(description) => {
                    let headers = vec![
                        Header::ContentType("application/sdp".into()),
                        Header::Contact(format!("<{}>", stack.contact()).into()),
                    ];
                    request.reply_with(StatusCode::OK, headers, Some(description)).await
                }
                None => request.reply(StatusCode::NotAcceptableHere).await,
            }
        }
        (Method::Update | Method::Invite, _) => request.reply(StatusCode::RequestPending).await,
        (Method::Options | Method::Info | Method::Notify, _) => request.reply(StatusCode::OK).await,
        _ => request.reply(StatusCode::MethodNotAllowed).await,
    }
}
