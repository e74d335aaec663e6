//! SIP stack that all calls share: socket, trunk, and the list of calls in progress.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all};
use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::ReferTo;
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Header, Method, Param, SipMessage, Uri};
use rsipstack::transaction::endpoint::EndpointInnerRef;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::{Transaction, TransactionReceiver, make_tag};
use rsipstack::transport::SipAddr;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::agent::Agents;
use super::callers::Callers;
use super::codes::Farewell;
use super::config::{Limits, SipConfig};
use super::credentials::{Credentials, for_stack};
use super::digest::Login;
use super::identity::IdentityConfig;
use super::keys::Key;
use super::leg::SharedSession;
use super::network::listen;
use super::refresh;
use super::sdp::Session;
use super::servers::Names;
use super::trunks::{Locator, Trunk, Trunks};
use super::wire::Wire;
use crate::call::{Attempt, Fault};

/// State that all calls share.
pub(super) struct Stack {
    pub layer: Arc<DialogLayer>,
    pub limits: Limits,
    pub transfer_to: Option<ReferTo>,
    pub transfer_after: Duration,
    pub opt_out_key: Option<Key>,
    pub agents: Agents,
    pub trunks: Arc<Trunks>,
    endpoint: EndpointInnerRef,
    domain: String,
    caller: Uri,
    contact: Uri,
    identity: IdentityConfig,
    pub callers: Callers,
    login: Option<Arc<Login>>,
    credentials: Arc<Credentials>,
    session: Session,
    /// Interval of session timers, in seconds; grows if the trunk wants longer ones.
    session_expires: AtomicU64,
    calls: Mutex<HashMap<String, Listed>>,
}

/// Call whose trunk may send requests.
#[derive(Clone)]
pub(super) struct Listed {
    pub dialog: InviteDialog,
    pub session: SharedSession,
    /// Cancelled when the answer to the worker's INVITE is processed.
    pub settled: CancellationToken,
    /// Reason of the BYE that ended the call.
    pub farewell: Arc<OnceLock<Farewell>>,
}

impl Listed {
    /// Whether the call is not answered yet.
    pub fn is_early(&self) -> bool {
        !self.settled.is_cancelled() && self.dialog.state().can_cancel()
    }
}

impl Stack {
    /// Binds the socket and starts to listen. Returns the stack, and the trunk's requests.
    pub async fn start(config: &SipConfig) -> Result<(Arc<Self>, TransactionReceiver), String> {
        let first = config.sip_trunk.first();
        let first = first.ok_or("--provider sip needs --sip-trunk HOST[:PORT]")?;
        let domain = config.sip_domain.clone().unwrap_or_else(|| first.host.clone());
        let called = callee("nobody", &domain)?.host_with_port;
        let names = Names::by(config.sip_name_server);
        let trunks = Trunks::find(&names, &config.sip_trunk, config.sip_transport, called).await?;
        let trunks = Arc::new(trunks);
        let reached = trunks.reached().await?;
        let (transport, listens) = listen(config, reached).await?;
        let credentials = Arc::new(Credentials::default());
        let endpoint = EndpointBuilder::new()
            .with_user_agent(concat!("dialer-worker/", env!("CARGO_PKG_VERSION")))
            .with_transport_layer(transport)
            .with_inspector(Box::new(Wire(Arc::clone(&credentials))))
            .with_target_locator(Box::new(Locator(Arc::clone(&trunks))))
            .build();
        let requests = endpoint.incoming_transactions().map_err(|error| error.to_string())?;
        let inner = Arc::clone(&endpoint.inner);
        let uri = |text: &str, flag: &str| {
            Uri::try_from(text).map_err(|error| format!("{flag} makes no SIP address: {error}"))
        };
        let callers = Callers::new(&config.identity);
        let agents = Agents::new(&config.agent);
        let user = config.sip_user.clone().unwrap_or_else(|| callers.first());
        let stack = Arc::new(Self {
            layer: Arc::new(DialogLayer::new(Arc::clone(&inner))),
            limits: config.limits(),
            transfer_to: match &config.sip_transfer_to {
                Some(text) => Some(format!("<{}>", uri(text, "--sip-transfer-to")?).into()),
                None => None,
            },
            transfer_after: Duration::from_secs(config.sip_transfer_after_seconds.into()),
            opt_out_key: config.sip_opt_out_key,
            endpoint: inner,
            trunks,
            caller: uri(&format!("sip:{}@{domain}", callers.first()), "--sip-caller")?,
            contact: uri(&format!("sip:{user}@{listens}"), "--sip-user")?,
            identity: config.identity.clone(),
            callers,
            login: Login::of(config.sip_user.as_deref(), config.sip_password.as_ref()),
            credentials,
            session: Session::new(listens, config.sip_media_port, !agents.is_empty()),
            agents,
            session_expires: AtomicU64::new(config.sip_session_expires_seconds.into()),
            domain,
            calls: Mutex::default(),
        });
        tokio::spawn(async move { endpoint.serve().await });
        info!(trunk = %reached, listens = %listens, transport = ?config.sip_transport, "SIP is ready");
        Ok((stack, requests))
    }

    /// Returns the INVITE of a person, from one of the worker's numbers. Its Call-ID is the attempt's
    /// key, so the trunk's logs can be matched with the worker's.
    pub fn invitation(
        &self,
        attempt: &Attempt,
        trunk: &Trunk,
        (shown, call_id): (&str, &str),
        session: &mut Session,
    ) -> Result<InviteOption, String> {
        let number = &attempt.phone_number;
        let mut invitation = self.through_trunk(trunk, number, call_id.to_owned())?;
        invitation.caller = callee(shown, &self.domain)?;
        invitation.caller_display_name.clone_from(&self.identity.sip_caller_name);
        invitation.offer = Some(session.offer());
        let headers = invitation.headers.get_or_insert_default();
        if self.identity.sip_assert_identity {
            headers.push(Header::PAssertedIdentity(format!("<{}>", invitation.caller).into()));
        }
        headers.extend(self.identity.sip_header.iter().map(|header| header.of(attempt)));
        Ok(invitation)
    }

    /// Opens a connection to a trunk, if the transport needs one and none is open.
    pub async fn connect(&self, trunk: &Trunk) -> Result<(), Fault> {
        let connecting = trunk.connect(&self.endpoint.transport_layer);
        match timeout(self.limits.response, connecting).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                debug!(%error, "no connection to the trunk");
                Err(Fault::Unreachable)
            }
            Err(_) => Err(Fault::Unreachable),
        }
    }

    /// Begins a call: what the trunk asks of it from now on is remembered.
    pub fn begin(&self, call_id: &str, login: Option<&Arc<Login>>) {
        if let Some(login) = login {
            self.credentials.begin(call_id, login);
        }
    }

    /// Returns the address to register at.
    pub fn registrar(&self) -> Uri {
        let mut registrar = self.caller.clone();
        registrar.auth = None;
        self.by_trunk_transport(registrar)
    }

    /// Returns the address at which the trunk reaches the worker for new calls.
    pub fn registered_contact(&self) -> Uri {
        self.by_trunk_transport(self.contact())
    }

    /// Adds the trunk's transport to an address. Without one, it is UDP.
    fn by_trunk_transport(&self, mut address: Uri) -> Uri {
        let kind = self.trunks.first().address.r#type;
        if kind != Some(rsipstack::sip::Transport::Udp) {
            address.params.extend(kind.map(Param::Transport));
        }
        address
    }

    /// Returns the trunk's address for requests that do not go by the called address; `None` if its
    /// name is looked up for each connection.
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.trunks.first().address.get_socketaddr().ok()
    }

    pub fn endpoint(&self) -> EndpointInnerRef {
        Arc::clone(&self.endpoint)
    }

    /// Returns user and password for the trunk.
    pub fn login(&self) -> Option<&Arc<Login>> {
        self.login.as_ref()
    }

    /// Returns the code of the challenge with which a call's INVITE ended, if it did.
    pub fn refused(&self, call_id: &str) -> Option<u16> {
        self.credentials.refused(call_id)
    }

    /// Returns the interval that the next call's session timer asks for.
    pub fn session_expires(&self) -> Duration {
        Duration::from_secs(self.session_expires.load(Ordering::Relaxed))
    }

    /// Notes the shortest session timer that the trunk accepts, for the calls that follow.
    pub fn expire_later(&self, least: Duration) {
        self.session_expires.fetch_max(least.as_secs(), Ordering::Relaxed);
    }

    /// Lists a call, so that it receives the trunk's requests from the moment `settled` is
    /// cancelled. Returns the place for the reason of the BYE.
    pub fn list(
        &self,
        dialog: &InviteDialog,
        session: &SharedSession,
        settled: &CancellationToken,
    ) -> Arc<OnceLock<Farewell>> {
        let farewell = Arc::default();
        let listed = Listed {
            dialog: dialog.clone(),
            session: Arc::clone(session),
            settled: settled.clone(),
            farewell: Arc::clone(&farewell),
        };
        self.listed().insert(dialog.id().call_id, listed);
        farewell
    }

    /// Delists a call that is over.
    pub fn forget(&self, dialog: &InviteDialog) {
        let id = dialog.id();
        self.listed().remove(&id.call_id);
        self.layer.remove_dialog(&id);
        self.credentials.forget(&id.call_id);
    }

    /// Returns the listed call with this Call-ID.
    pub fn find(&self, call_id: &str) -> Option<Listed> {
        self.listed().get(call_id).cloned()
    }

    fn listed(&self) -> std::sync::MutexGuard<'_, HashMap<String, Listed>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a trunk and all agents answer OPTIONS at all. The content does not matter.
    pub async fn works(&self) -> bool {
        let trunks = join_all(self.trunks.all().iter().map(|trunk| self.trunk_answers(trunk)));
        let agents = self.agents.addresses().map(|address| self.answers(address.clone(), None));
        let (trunks, agents) = join(trunks, join_all(agents)).await;
        trunks.contains(&true) && !agents.contains(&false)
    }

    async fn trunk_answers(&self, trunk: &Trunk) -> bool {
        let address = &trunk.address;
        let answers = self.connect(trunk).await.is_ok()
            && self.answers(Uri::from(address.clone()), Some(address.clone())).await;
        if answers {
            trunk.works();
        }
        answers
    }

    /// Whether a peer answers OPTIONS.
    async fn answers(&self, address: Uri, destination: Option<SipAddr>) -> bool {
        let asked = async {
            let mut transaction = self.options_transaction(address, destination)?;
            transaction.send().await.ok()?;
            while let Some(message) = transaction.receive().await {
                if let SipMessage::Response(response) = message {
                    return Some(response.status_code.code());
                }
            }
            None
        };
        let code = timeout(self.limits.response, asked).await.ok().flatten();
        debug!(?code, "a peer's answer to OPTIONS");
        code.is_some()
    }

    fn options_transaction(
        &self,
        address: Uri,
        destination: Option<SipAddr>,
    ) -> Option<Transaction> {
        let from = rsipstack::sip::typed::From {
            display_name: None,
            uri: self.caller.clone(),
            params: Vec::new(),
        };
        let to = rsipstack::sip::typed::To { display_name: None, uri: address, params: Vec::new() };
        let request = self.endpoint.make_request(
            Method::Options,
            to.uri.clone(),
            self.endpoint.get_via(None, None).ok()?,
            from.with_tag(make_tag()),
            to,
            self.layer.increment_last_seq(),
            None,
        );
        let key = TransactionKey::from_request(&request, TransactionRole::Client).ok()?;
        let mut transaction =
            Transaction::new_client(key, request, Arc::clone(&self.endpoint), None);
        transaction.destination = destination;
        Some(transaction)
    }

    /// Returns the INVITE of a number through the trunk, without an offer.
    pub fn through_trunk(
        &self,
        trunk: &Trunk,
        number: &str,
        call_id: String,
    ) -> Result<InviteOption, String> {
        let mut called = callee(&self.identity.sip_number_format.of(number), &self.domain)?;
        if self.identity.sip_user_phone {
            called.params.push(Param::Other("user".into(), Some("phone".into())));
        }
        trunk.mark(&mut called);
        Ok(InviteOption {
            caller: self.caller.clone(),
            callee: called,
            destination: Some(trunk.address.clone()),
            contact: self.contact.clone(),
            headers: Some(refresh::offer(self.session_expires())),
            credential: self.login.as_deref().map(for_stack),
            call_id: Some(call_id),
            ..InviteOption::default()
        })
    }

    /// Returns the INVITE of an address, which a person's number calls.
    pub fn to_address(
        &self,
        address: &Uri,
        number: &str,
        call_id: String,
    ) -> Result<InviteOption, String> {
        let mut contact = self.contact.clone();
        if let Some(transport) = address.transport() {
            contact.params.push(Param::Transport(*transport));
        }
        Ok(InviteOption {
            caller: callee(number, &self.domain)?,
            callee: address.clone(),
            contact,
            headers: Some(refresh::offer(self.session_expires())),
            call_id: Some(call_id),
            ..InviteOption::default()
        })
    }

    /// Returns the session of a new call.
    pub fn session(&self) -> Session {
        self.session.clone()
    }

    /// Returns who refers a call to another target, as the trunk knows the worker.
    pub fn referred_by(&self) -> String {
        format!("<{}>", self.caller)
    }

    /// Returns the address at which the trunk reaches the worker.
    pub fn contact(&self) -> Uri {
        self.contact.clone()
    }
}

fn callee(number: &str, domain: &str) -> Result<Uri, String> {
    Uri::try_from(format!("sip:{number}@{domain}").as_str()).map_err(|error| error.to_string())
}
