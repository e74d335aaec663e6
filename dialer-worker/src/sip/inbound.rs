//! Inbound calls: the service decides which callers are answered.
//!
//! ```text
//! INVITE ──► may it come? ──► asking the service ──► 200 ──► BYE from there or us ──► recorded
//!                │                   │ │
//!                └── rejected ◄──────┘ └──► CANCEL: 487
//! ```
//!
//! A call holds its place from the routing request until it is recorded. This bounds the calls that
//! the worker remembers.

mod answers;
mod caller;
mod record;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use campaign_process::traces::{self, SpanKind, TraceContext};
use campaign_proto::v1::RouteInboundRequest;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, Host, Method, SipMessage, StatusCode};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::transaction::TransactionEvent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};

use super::agent::Caller;
use super::bridge::join;
use super::config::{self, InboundConfig};
use super::conversation::Conversation;
use super::invitations;
use super::leg::Leg;
use super::party::{self, Missed, Party};
use super::refresh::Refresh;
use super::sdp::Session;
use super::stack::Stack;
use super::talk::alone;
use crate::recorder::Recorder;
use crate::service::Replica;
use answers::{Answer, retry_after};
use record::AnsweredCall;

/// Time for the last calls to be recorded, after the grace for calls is over.
const LAST_RECORDS_LIMIT: Duration = Duration::from_secs(10);

/// Handler of inbound calls.
pub(super) struct Inbound {
    config: InboundConfig,
    allowed: Vec<IpAddr>,
    service: Arc<Recorder>,
    places: Arc<Semaphore>,
    /// Cancelled when no new caller is answered.
    draining: CancellationToken,
    /// Cancelled when calls in progress must end.
    hang_up: CancellationToken,
}

impl Inbound {
    /// Returns `None` if no campaign takes callers.
    pub fn new(config: &InboundConfig, trunks: Vec<IpAddr>, services: &[Replica]) -> Option<Self> {
        if config.sip_inbound_campaign.is_empty() {
            return None;
        }
        let allowed = match config.sip_inbound_allow.as_slice() {
            [] => trunks,
            allowed => allowed.to_vec(),
        };
        Some(Self {
            config: config.clone(),
            allowed,
            service: Arc::new(Recorder::new(services)),
            places: Arc::new(Semaphore::new(config.sip_inbound_max_calls as usize)),
            draining: CancellationToken::new(),
            hang_up: CancellationToken::new(),
        })
    }

    /// Rejects new callers and waits until calls are over and recorded, or soon after `grace`.
    /// Returns how many are not recorded.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.draining.cancel();
        let all = self.config.sip_inbound_max_calls;
        if timeout(grace, self.places.acquire_many(all)).await.is_ok() {
            return 0;
        }
        self.hang_up.cancel();
        let _ = timeout(LAST_RECORDS_LIMIT, self.places.acquire_many(all)).await;
        (all as usize).saturating_sub(self.places.available_permits())
    }

    /// Handles an INVITE that begins a call. Completes when the call is over and recorded.
    pub async fn take(&self, stack: &Arc<Stack>, mut invite: Transaction) {
        if !source(&invite).is_some_and(|address| self.allowed.contains(&address)) {
            // Answered once, and nothing is remembered: anyone can send such an INVITE at any rate.
            let _ = invite.reply(StatusCode::Forbidden).await;
            return;
        }
        // The span lasts until the call is recorded or rejected.
        let trace = traces::begin("incoming call", SpanKind::Server, &TraceContext::default());
        let mut session = stack.session();
        let Some(description) = session.answer(&invite.original.body) else {
            turn_away(invite, StatusCode::NotAcceptableHere, None).await;
            return;
        };
        let (place, question) = match self.admit(&invite) {
            Ok(admitted) => admitted,
            Err((code, delay)) => {
                turn_away(invite, code, delay).await;
                return;
            }
        };
        let _ = invite.send_trying().await;
        let (campaign, number) = (question.parent.clone(), question.phone_number.clone());
        let routing = self.route(question, trace.context().clone());
        let contact = match decided(&mut invite, routing).await {
            Some(Answer::Accept(contact)) => contact,
            Some(Answer::TurnAway(code, delay)) => {
                drop(place);
                turn_away(invite, code, delay).await;
                return;
            }
            None => {
                debug!("a caller gave up before the answer");
                return;
            }
        };
        let caller = Caller::calling_in(contact.clone(), number);
        let company = match company(stack, &mut invite, &caller).await {
            Some(Ok(company)) => company,
            Some(Err(Missed(code))) => {
                info!(?code, "the agent did not answer a caller, who is rejected");
                drop(place);
                let busy = StatusCode::TemporarilyUnavailable;
                turn_away(invite, busy, Some(answers::BACK_SOON)).await;
                return;
            }
            None => {
                debug!("a caller gave up before the agent came");
                return;
            }
        };
        let media = (session, description);
        let call_id = invite.original.call_id_header().map(|id| id.value().to_owned());
        let Ok(call_id) = call_id else { return };
        if let Some((duration, opted_out)) =
            self.answer(stack, invite, media, caller, company).await
        {
            let call = AnsweredCall { campaign, contact, call_id, duration, opted_out };
            self.service.record("a caller's call", record::request(&call), trace.context()).await;
        }
    }

    /// Returns the request for the service, or the rejection if the service need not be asked.
    fn admit(
        &self,
        invite: &Transaction,
    ) -> Result<(OwnedSemaphorePermit, RouteInboundRequest), (StatusCode, Option<Duration>)> {
        if self.draining.is_cancelled() {
            return Err((StatusCode::ServiceUnavailable, Some(answers::BACK_SOON)));
        }
        let called = invite.original.uri.user().unwrap_or_default();
        let campaign = config::campaign(&self.config.sip_inbound_campaign, called)
            .ok_or((StatusCode::NotFound, None))?;
        let number = caller::number(&invite.original, self.config.sip_trust_asserted_identity)
            .ok_or((StatusCode::AnonymityDisallowed, None))?;
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| (StatusCode::BusyHere, None))?;
        let question = RouteInboundRequest {
            parent: campaign.to_owned(),
            phone_number: number,
            default_region: self.config.sip_inbound_region.clone().unwrap_or_default(),
        };
        Ok((place, question))
    }

    /// Asks the service what to do with a caller.
    fn route(
        &self,
        question: RouteInboundRequest,
        trace: TraceContext,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let service = Arc::clone(&self.service);
        async move { Answer::of(service.route(question, &trace).await, SystemTime::now()) }
    }

    /// Answers the caller and completes when the call is over. Returns its duration and whether the
    /// caller opted out, or `None` if no call came about.
    async fn answer(
        &self,
        stack: &Arc<Stack>,
        invite: Transaction,
        (mut session, mut description): (Session, Vec<u8>),
        caller: Caller,
        company: Option<(Party, Vec<u8>)>,
    ) -> Option<(Duration, bool)> {
        if let Some((_, agents)) = &company {
            description = session.pass(agents)?;
        }
        let (sender, states) = stack.layer.new_dialog_state_channel();
        let contact = stack.contact();
        let created =
            stack.layer.get_or_create_server_invite(&invite, sender, None, Some(contact.clone()));
        let dialog = match created {
            Ok(dialog) => dialog,
            Err(error) => {
                info!(%error, "an INVITE cannot be answered");
                turn_away(invite, StatusCode::BadRequest, None).await;
                if let Some((agent, _)) = company {
                    agent.leg.hang_up().await;
                }
                return None;
            }
        };
        let settled = CancellationToken::new();
        settled.cancel();
        let session = Arc::new(Mutex::new(session));
        stack.begin(&dialog.id().call_id, stack.login());
        stack.list(&dialog, &session, &settled);
        let answered = Instant::now();
        let refresh = Refresh::by_invite(&invite.original.headers, answered);
        let mut headers = refresh.answer();
        headers.push(Header::ContentType("application/sdp".into()));
        let accepted = dialog.accept(Some(headers), Some(description));
        debug!(is_sent = accepted.is_ok(), contact = caller.contact, "a caller is answered");
        let offer = invite.original.body.clone();
        tokio::spawn(handshake(dialog.clone(), invite));
        let limit = stack.limits.response;
        let mut leg = Leg {
            dialog: dialog.clone(),
            states,
            session,
            refresh,
            contact,
            limit,
            is_acknowledged: false,
        };
        let hang_up = &self.hang_up;
        let opted_out = AtomicBool::new(false);
        let talk = Conversation { stack, events: None, hang_up, caller, answered, opted_out };
        match company {
            Some((agent, _)) => join(&talk, &mut leg, offer, agent).await,
            None => alone(&talk, &mut leg).await,
        };
        let came_about = leg.came_about();
        leg.hang_up().await;
        stack.forget(&dialog);
        came_about.then(|| (answered.elapsed(), talk.opted_out.load(Ordering::Relaxed)))
    }
}

/// Brings the agent for a caller, if the campaign has one. Returns it with its description; `None`
/// if the caller gives up before.
async fn company(
    stack: &Arc<Stack>,
    invite: &mut Transaction,
    caller: &Caller,
) -> Option<Result<Option<(Party, Vec<u8>)>, Missed>> {
    let Some(invitation) = invitations::agent(stack, caller, "agent") else {
        return Some(Ok(None));
    };
    // A caller without an offer would tell its own too late for the agent.
    let offer = invite.original.body.clone();
    let called = decided(invite, party::call(Arc::clone(stack), invitation, offer)).await?;
    Some(called.map(Some))
}

/// Waits for what decides on a caller. Returns `None` if the caller gives up before.
async fn decided<T: Send + 'static>(
    invite: &mut Transaction,
    deciding: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (wake, key) = (invite.tu_sender.clone(), invite.key.clone());
    let decision = AbortOnDropHandle::new(tokio::spawn(async move {
        let decision = deciding.await;
        // The send fails only when the caller has given up.
        let _ = wake.send(TransactionEvent::Terminate(key));
        decision
    }));
    while let Some(message) = invite.receive().await {
        if matches!(&message, SipMessage::Request(request) if request.method == Method::Cancel) {
            let _ = invite.reply(StatusCode::RequestTerminated).await;
            return None;
        }
    }
    match decision.await {
        Ok(decision) => Some(decision),
        Err(error) => {
            error!(%error, "nothing was decided on a caller");
            let _ = invite.reply(StatusCode::ServiceUnavailable).await;
            None
        }
    }
}

/// Runs the INVITE until the answer is acknowledged.
async fn handshake(mut dialog: InviteDialog, mut invite: Transaction) {
    if let Err(error) = dialog.handle(&mut invite).await {
        debug!(%error, "the answer to a caller was not completed");
    }
}

async fn turn_away(mut invite: Transaction, code: StatusCode, delay: Option<Duration>) {
    debug!(code = code.code(), "a caller is rejected");
    if invite.reply_with(code, retry_after(delay), None).await.is_ok() {
        // The stack repeats the answer until it is acknowledged or times out.
        let _ = invite.receive().await;
    }
}

/// Returns the network address that a request came from.
fn source(request: &Transaction) -> Option<IpAddr> {
    match &request.connection.as_ref()?.get_remote_addr()?.addr.host {
        Host::IpAddr(address) => Some(*address),
        Host::Domain(_) => None,
    }
}
