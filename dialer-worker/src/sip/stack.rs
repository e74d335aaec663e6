//! SIP stack that all calls share: socket, trunk, and the list of calls in progress.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsipstack::EndpointBuilder;
use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::ReferTo;
use rsipstack::sip::{HostWithPort, Method, SipMessage, Uri};
use rsipstack::transaction::endpoint::{EndpointInnerRef, TargetLocator};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::{Transaction, TransactionReceiver, make_tag};
use rsipstack::transport::tcp_listener::TcpListenerConnection;
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipAddr, SipConnection, TransportLayer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::config::{Limits, SipConfig, Transport};
use super::sdp::Session;
use crate::call::{Attempt, Fault};

/// State that all calls share.
pub(super) struct Stack {
    pub layer: Arc<DialogLayer>,
    pub limits: Limits,
    pub transfer_to: Option<ReferTo>,
    pub transfer_after: Duration,
    endpoint: EndpointInnerRef,
    trunk: SipAddr,
    domain: String,
    caller: Uri,
    contact: Uri,
    credential: Option<Credential>,
    session: Session,
    /// Lock that keeps calls from opening a connection each.
    connecting: tokio::sync::Mutex<()>,
    calls: Mutex<HashMap<String, Listed>>,
}

/// Call whose trunk may send requests.
#[derive(Clone)]
pub(super) struct Listed {
    pub dialog: InviteDialog,
    /// Cancelled when the answer to the worker's INVITE is processed.
    pub settled: CancellationToken,
}

impl Stack {
    /// Binds the socket and starts to listen. Returns the stack, and the trunk's requests with its
    /// address.
    pub async fn start(
        config: &SipConfig,
    ) -> Result<(Arc<Self>, TransactionReceiver, IpAddr), String> {
        let name = config.sip_trunk.as_deref();
        let name = name.ok_or("--provider sip needs --sip-trunk HOST:PORT")?;
        let address = resolve(name).await?;
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        let domain = config.sip_domain.clone().unwrap_or_else(|| host.to_owned());
        let (transport, listens) = listen(config, address).await?;
        let kind = match config.sip_transport {
            Transport::Udp => rsipstack::sip::Transport::Udp,
            Transport::Tcp => rsipstack::sip::Transport::Tcp,
        };
        let trunk = SipAddr::new(kind, HostWithPort::from(address));
        let endpoint = EndpointBuilder::new()
            .with_user_agent(concat!("dialer-worker/", env!("CARGO_PKG_VERSION")))
            .with_transport_layer(transport)
            .with_target_locator(Box::new(Locator {
                called: callee("nobody", &domain)?.host_with_port,
                trunk: trunk.clone(),
            }))
            .build();
        let requests = endpoint.incoming_transactions().map_err(|error| error.to_string())?;
        let inner = Arc::clone(&endpoint.inner);
        let uri = |text: &str, flag: &str| {
            Uri::try_from(text).map_err(|error| format!("{flag} makes no SIP address: {error}"))
        };
        let user = config.sip_user.as_deref().unwrap_or(&config.sip_caller);
        let stack = Arc::new(Self {
            layer: Arc::new(DialogLayer::new(Arc::clone(&inner))),
            limits: config.limits(),
            transfer_to: match &config.sip_transfer_to {
                Some(text) => Some(format!("<{}>", uri(text, "--sip-transfer-to")?).into()),
                None => None,
            },
            transfer_after: Duration::from_secs(config.sip_transfer_after_seconds.into()),
            endpoint: inner,
            trunk,
            caller: uri(&format!("sip:{}@{domain}", config.sip_caller), "--sip-caller")?,
            contact: uri(&format!("sip:{user}@{listens}"), "--sip-user")?,
            credential: credential(config),
            session: Session::new(listens, config.sip_media_port),
            domain,
            connecting: tokio::sync::Mutex::default(),
            calls: Mutex::default(),
        });
        tokio::spawn(async move { endpoint.serve().await });
        info!(trunk = %address, listens = %listens, transport = ?config.sip_transport, "SIP is ready");
        Ok((stack, requests, address.ip()))
    }

    /// Returns the INVITE of an attempt. Its Call-ID is the attempt's key, so the trunk's logs can
    /// be matched with the worker's.
    pub fn invitation(
        &self,
        attempt: &Attempt,
        session: &mut Session,
    ) -> Result<InviteOption, String> {
        Ok(InviteOption {
            caller: self.caller.clone(),
            callee: callee(&attempt.phone_number, &self.domain)?,
            destination: Some(self.trunk.clone()),
            offer: Some(session.offer()),
            contact: self.contact.clone(),
            credential: self.credential.clone(),
            call_id: Some(attempt.key()),
            ..InviteOption::default()
        })
    }

    /// Opens a connection to the trunk, if the transport needs one and none is open.
    pub async fn connect(&self) -> Result<(), Fault> {
        let _one_at_a_time = self.connecting.lock().await;
        let connected = self.endpoint.transport_layer.lookup(&self.trunk, None);
        match timeout(self.limits.response, connected).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                debug!(%error, "no connection to the trunk");
                Err(Fault::Unreachable)
            }
            Err(_) => Err(Fault::Unreachable),
        }
    }

    /// Lists a call, so that it receives the trunk's requests from the moment `settled` is
    /// cancelled.
    pub fn list(&self, dialog: &InviteDialog, settled: &CancellationToken) {
        let listed = Listed { dialog: dialog.clone(), settled: settled.clone() };
        self.listed().insert(dialog.id().call_id, listed);
    }

    /// Delists a call that is over.
    pub fn forget(&self, dialog: &InviteDialog) {
        let id = dialog.id();
        self.listed().remove(&id.call_id);
        self.layer.remove_dialog(&id);
    }

    /// Returns the listed call with this Call-ID.
    pub fn find(&self, call_id: &str) -> Option<Listed> {
        self.listed().get(call_id).cloned()
    }

    fn listed(&self) -> std::sync::MutexGuard<'_, HashMap<String, Listed>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the trunk answers OPTIONS at all. The content of the answer does not matter.
    pub async fn options(&self) -> bool {
        if self.connect().await.is_err() {
            return false;
        }
        let asked = async {
            let mut transaction = self.options_transaction()?;
            transaction.send().await.ok()?;
            while let Some(message) = transaction.receive().await {
                if let SipMessage::Response(response) = message {
                    return Some(response.status_code.code());
                }
            }
            None
        };
        let code = timeout(self.limits.response, asked).await.ok().flatten();
        debug!(?code, "the trunk's answer to OPTIONS");
        code.is_some()
    }

    fn options_transaction(&self) -> Option<Transaction> {
        let from = rsipstack::sip::typed::From {
            display_name: None,
            uri: self.caller.clone(),
            params: Vec::new(),
        };
        let to = rsipstack::sip::typed::To {
            display_name: None,
            uri: Uri::from(self.trunk.clone()),
            params: Vec::new(),
        };
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
        transaction.destination = Some(self.trunk.clone());
        Some(transaction)
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

/// Locator that sends requests for the called domain to the trunk. A CANCEL must follow its INVITE,
/// which the stack does not ensure by itself.
struct Locator {
    called: HostWithPort,
    trunk: SipAddr,
}

#[tonic::async_trait]
impl TargetLocator for Locator {
    async fn locate(&self, uri: &Uri) -> rsipstack::Result<SipAddr> {
        if uri.host_with_port == self.called { Ok(self.trunk.clone()) } else { uri.try_into() }
    }
}

fn callee(number: &str, domain: &str) -> Result<Uri, String> {
    Uri::try_from(format!("sip:{number}@{domain}").as_str()).map_err(|error| error.to_string())
}

async fn resolve(name: &str) -> Result<SocketAddr, String> {
    let mut addresses = tokio::net::lookup_host(name)
        .await
        .map_err(|error| format!("--sip-trunk {name} is not found: {error}"))?;
    addresses.next().ok_or_else(|| format!("--sip-trunk {name} has no address"))
}

/// Binds the socket. Returns it with the address at which the trunk reaches the worker.
async fn listen(
    config: &SipConfig,
    trunk: SocketAddr,
) -> Result<(TransportLayer, SocketAddr), String> {
    let local = local_address(config.sip_listen, trunk)
        .map_err(|error| format!("--sip-trunk {trunk} cannot be reached from here: {error}"))?;
    let stop = CancellationToken::new();
    let (connection, bound) = bind(config, local, stop.clone())
        .await
        .map_err(|error| format!("--sip-listen {} does not work: {error}", config.sip_listen))?;
    let layer = TransportLayer::new(stop);
    layer.add_transport(connection);
    Ok((layer, config.sip_public_address.unwrap_or(bound)))
}

/// Returns the listener at an address, and the address that it got.
async fn bind(
    config: &SipConfig,
    local: SocketAddr,
    stop: CancellationToken,
) -> rsipstack::Result<(SipConnection, SocketAddr)> {
    let public = config.sip_public_address;
    match config.sip_transport {
        Transport::Udp => {
            let udp = UdpConnection::create_connection(local, public, Some(stop)).await?;
            let bound = udp.get_addr().get_socketaddr()?;
            Ok((SipConnection::Udp(udp), bound))
        }
        Transport::Tcp => {
            // The stack binds later and ignores a failure. Binding here reports an address in use.
            let bound = std::net::TcpListener::bind(local)?.local_addr()?;
            let tcp = TcpListenerConnection::new(bound, public).await?;
            Ok((SipConnection::TcpListener(tcp), bound))
        }
    }
}

/// Replaces the unspecified address by the one that the trunk sees.
fn local_address(listen: SocketAddr, trunk: SocketAddr) -> std::io::Result<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    // `connect` sends nothing but selects the route. The port is free, because others may use
    // `listen`'s for UDP.
    let socket = std::net::UdpSocket::bind((listen.ip(), 0))?;
    socket.connect(trunk)?;
    Ok(SocketAddr::new(socket.local_addr()?.ip(), listen.port()))
}

fn credential(config: &SipConfig) -> Option<Credential> {
    let (Some(user), Some(password)) = (&config.sip_user, &config.sip_password) else {
        return None;
    };
    Some(Credential {
        username: user.clone(),
        password: password.reveal().to_owned(),
        realm: None,
        auth_username: None,
    })
}
