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
mod service;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use campaign_process::traces::{self, SpanKind, TraceContext};
use campaign_proto::v1::RouteInboundRequest;
use rsipstack::dialog::dialog::TerminatedReason;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, Host, Method, SipMessage, StatusCode};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::transaction::TransactionEvent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::config::{self, InboundConfig};
use super::leg::{Happening, Leg, key};
use super::refresh::Refresh;
use super::sdp::Session;
use super::stack::Stack;
use crate::service::Replica;
use answers::{Answer, retry_after};
use service::{AnsweredCall, Service};

/// Time for the last calls to be recorded, after the grace for calls is over.
const LAST_RECORDS_LIMIT: Duration = Duration::from_secs(10);

/// Handler of inbound calls.
pub(super) struct Inbound {
    config: InboundConfig,
    allowed: Vec<IpAddr>,
    service: Arc<Service>,
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
            service: Arc::new(Service::new(services)),
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
    pub async fn take(&self, stack: &Stack, mut invite: Transaction) {
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
        let asked = match self.admit(&invite) {
            Ok((place, question)) => {
                let _ = invite.send_trying().await;
                let campaign = question.parent.clone();
                let routing = self.ask(&invite, question, trace.context().clone());
                decided(&mut invite, routing).await.map(|answer| (place, campaign, answer))
            }
            Err((code, delay)) => {
                turn_away(invite, code, delay).await;
                return;
            }
        };
        match asked {
            Some((_place, campaign, Answer::Accept(contact))) => {
                let media = (session, description);
                if let Some(call) = self.answer(stack, invite, media, campaign, contact).await {
                    self.service.record(&call, trace.context()).await;
                }
            }
            Some((place, _, Answer::TurnAway(code, delay))) => {
                drop(place);
                turn_away(invite, code, delay).await;
            }
            None => debug!("a caller gave up before the answer"),
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

    /// Asks the service in the background. The answer wakes the transaction.
    fn ask(
        &self,
        invite: &Transaction,
        question: RouteInboundRequest,
        trace: TraceContext,
    ) -> JoinHandle<Answer> {
        let service = Arc::clone(&self.service);
        let (wake, key) = (invite.tu_sender.clone(), invite.key.clone());
        tokio::spawn(async move {
            let answer = Answer::of(service.route(question, &trace).await, SystemTime::now());
            // The send fails only when the caller has given up.
            let _ = wake.send(TransactionEvent::Terminate(key));
            answer
        })
    }

    /// Answers the caller and completes when the call is over. Returns `None` if no call came
    /// about.
    async fn answer(
        &self,
        stack: &Stack,
        invite: Transaction,
        (session, description): (Session, Vec<u8>),
        campaign: String,
        contact: String,
    ) -> Option<AnsweredCall> {
        let call_id = invite.original.call_id_header().ok()?.value().to_owned();
        let (sender, states) = stack.layer.new_dialog_state_channel();
        let contact_uri = Some(stack.contact());
        let dialog = stack.layer.get_or_create_server_invite(&invite, sender, None, contact_uri);
        let dialog = match dialog {
            Ok(dialog) => dialog,
            Err(error) => {
                info!(%error, "an INVITE cannot be answered");
                turn_away(invite, StatusCode::BadRequest, None).await;
                return None;
            }
        };
        let settled = CancellationToken::new();
        settled.cancel();
        let session = Arc::new(Mutex::new(session));
        stack.begin(&call_id, stack.login());
        stack.list(&dialog, &session, &settled);
        let answered = Instant::now();
        let refresh = Refresh::by_invite(&invite.original.headers, answered);
        let mut headers = refresh.answer();
        headers.push(Header::ContentType("application/sdp".into()));
        let accepted = dialog.accept(Some(headers), Some(description));
        debug!(is_sent = accepted.is_ok(), contact, "a caller is answered");
        tokio::spawn(handshake(dialog.clone(), invite));
        let (contact_uri, limit) = (stack.contact(), stack.limits.response);
        let leg = Leg { dialog, states, session, refresh, contact: contact_uri, limit };
        let dialog = leg.dialog.clone();
        let talked = self.talk(stack, leg, answered).await;
        stack.forget(&dialog);
        let opted_out = talked?;
        let duration = answered.elapsed();
        Some(AnsweredCall { campaign, contact, call_id, duration, opted_out })
    }

    /// Runs the call from answer to end. Returns whether the caller opted out, or `None` if no call
    /// came about.
    async fn talk(&self, stack: &Stack, mut caller: Leg, answered: Instant) -> Option<bool> {
        let (mut is_acknowledged, mut opted_out) = (false, false);
        loop {
            tokio::select! {
                happening = caller.next() => match happening {
                    Happening::Acknowledged => is_acknowledged = true,
                    // A BYE may overtake the ACK.
                    Happening::Over(reason) => {
                        let is_call = is_acknowledged
                            || matches!(reason, Some(TerminatedReason::UacBye));
                        return is_call.then_some(opted_out);
                    }
                    Happening::Asked(state) => {
                        let key = key(&state);
                        caller.answer(*state).await;
                        if key.is_some() && key == stack.opt_out_key {
                            opted_out = true;
                            caller.settle().await;
                            break;
                        }
                    }
                    Happening::Expired => break,
                },
                () = self.hang_up.cancelled() => break,
                () = sleep_until(answered + stack.limits.talk) => break,
            }
        }
        caller.hang_up().await;
        Some(opted_out)
    }
}

/// Waits for the service's answer. Returns `None` if the caller gives up before.
async fn decided(invite: &mut Transaction, routing: JoinHandle<Answer>) -> Option<Answer> {
    while let Some(message) = invite.receive().await {
        if matches!(&message, SipMessage::Request(request) if request.method == Method::Cancel) {
            routing.abort();
            let _ = invite.reply(StatusCode::RequestTerminated).await;
            return None;
        }
    }
    Some(routing.await.unwrap_or_else(|_| Answer::not_now()))
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
