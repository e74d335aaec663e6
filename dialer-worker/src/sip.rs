//! Provider that places calls over SIP, through a trunk or PBX.
//!
//! Signalling only: the offer names a port where nobody listens, so the trunk or PBX must supply
//! the voice. Without media, a machine that answers cannot be told from a person.
//!
//! ```text
//! INVITE ──► silence over the response limit ──► unknown; the INVITE is not repeated any more
//!   │
//!   ├─ ringing ──► ring limit or hang-up: CANCEL ──► 487
//!   │
//!   └─ 200 ──► BYE from there, or from us (hang-up, talk limit), or REFER then BYE
//! ```

mod agent;
mod agent_flags;
mod bridge;
mod call;
mod callers;
mod codes;
mod config;
mod conversation;
mod credentials;
mod digest;
mod early_agent;
mod headers;
mod identity;
mod inbound;
mod invitations;
mod keys;
mod leg;
mod network;
mod party;
mod refresh;
mod registrar;
mod requests;
mod sdp;
mod servers;
mod stack;
mod talk;
mod target;
mod transfer;
mod transport;
mod trunk_address;
mod trunks;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::call::{Attempt, CallEnd, CallEvents};
use crate::dialer::Dialer;
use crate::service::Replica;
pub use agent_flags::{AgentConfig, AgentOf};
pub use config::{InboundCampaign, InboundConfig, SipConfig};
pub use identity::{CallerId, HeaderOf, IdentityConfig, NumberFormat};
use inbound::Inbound;
use registrar::keep_registered;
use requests::take_requests;
use stack::Stack;
pub use transport::Transport;
pub use trunk_address::TrunkAddress;

/// SIP provider.
#[derive(Clone)]
pub struct SipDialer {
    stack: Arc<Stack>,
    inbound: Option<Arc<Inbound>>,
    registration: Option<Registered>,
}

/// Registration at the trunk, and what ends it.
#[derive(Clone)]
struct Registered {
    leaving: CancellationToken,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl SipDialer {
    /// Binds the socket and starts to listen. `services` answer questions about inbound callers.
    ///
    /// # Errors
    /// Returns a text that names the setting that does not work.
    pub async fn start(config: &SipConfig, services: &[Replica]) -> Result<Self, String> {
        let (stack, requests) = Stack::start(config).await?;
        let inbound = Inbound::new(&config.inbound, stack.trunks.hosts(), services).map(Arc::new);
        tokio::spawn(take_requests(Arc::clone(&stack), inbound.clone(), requests));
        let registration = config.sip_register.then(|| {
            let leaving = CancellationToken::new();
            let proxy = stack.proxy();
            let kept = keep_registered(Arc::clone(&stack), proxy, leaving.clone());
            Registered { leaving, task: Arc::new(Mutex::new(Some(tokio::spawn(kept)))) }
        });
        Ok(Self { stack, inbound, registration })
    }
}

impl fmt::Debug for SipDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipDialer").finish_non_exhaustive()
    }
}

impl Dialer for SipDialer {
    fn dial(
        &self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> BoxFuture<'static, CallEnd> {
        let stack = Arc::clone(&self.stack);
        async move { call::place(&stack, &attempt, &events, &hang_up).await }.boxed()
    }

    fn channels(&self) -> Vec<String> {
        vec!["call".to_owned()]
    }

    fn tells_health(&self) -> bool {
        true
    }

    fn has_agent(&self) -> bool {
        !self.stack.agents.is_empty()
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let stack = Arc::clone(&self.stack);
        async move { stack.works().await }.boxed()
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'static, usize> {
        let (inbound, registration) = (self.inbound.clone(), self.registration.clone());
        async move {
            // Nobody is to call in any more.
            if let Some(Registered { leaving, task }) = registration {
                leaving.cancel();
                let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(task) = task {
                    let _ = task.await;
                }
            }
            match inbound {
                Some(inbound) => inbound.stop(grace).await,
                None => 0,
            }
        }
        .boxed()
    }
}
