//! Socket of the worker, and the connection to the trunk.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsipstack::transport::tcp::TcpConnection;
use rsipstack::transport::tcp_listener::TcpListenerConnection;
use rsipstack::transport::tls::TlsConfig;
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipAddr, SipConnection, TransportLayer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::config::SipConfig;
use super::transport::Transport;

/// Binds the socket. Returns it with the address at which the trunk reaches the worker.
pub(super) async fn listen(
    config: &SipConfig,
    trunk: SocketAddr,
) -> Result<(TransportLayer, SocketAddr), String> {
    let local = local_address(config.sip_listen, trunk)
        .map_err(|error| format!("--sip-trunk {trunk} cannot be reached from here: {error}"))?;
    let stop = CancellationToken::new();
    let public = config.sip_public_address;
    let (connection, bound) = bind(config.sip_transport, local, public, stop.clone())
        .await
        .map_err(|error| format!("--sip-listen {} does not work: {error}", config.sip_listen))?;
    let layer = TransportLayer::new(stop.clone());
    layer.add_transport(connection);
    for transport in further(config) {
        let (connection, _) = bind(transport, bound, public, stop.clone())
            .await
            .map_err(|error| format!("--sip-listen {bound} does not work: {error}"))?;
        layer.add_transport(connection);
    }
    if config.sip_transport == Transport::Tls || config.agent.uses(Transport::Tls) {
        layer.set_tls_config(trust(config)?);
    }
    Ok((layer, public.unwrap_or(bound)))
}

/// Returns the transports that agents use and the trunk does not.
fn further(config: &SipConfig) -> Vec<Transport> {
    let mut transports = vec![Transport::Udp, Transport::Tcp];
    transports.retain(|transport| {
        config.agent.uses(*transport) && *transport != anchor(config.sip_transport)
    });
    transports
}

/// Returns the transport to listen on. Peers over TLS use the connection that the worker opens.
fn anchor(transport: Transport) -> Transport {
    match transport {
        Transport::Udp | Transport::Tls => Transport::Udp,
        Transport::Tcp => Transport::Tcp,
    }
}

/// Returns the certificates to trust.
fn trust(config: &SipConfig) -> Result<TlsConfig, String> {
    let certificates = match &config.sip_ca_file {
        Some(path) => std::fs::read(path)
            .map_err(|error| format!("--sip-ca-file {}: {error}", path.display()))?,
        None => system_certificates(),
    };
    Ok(TlsConfig { ca_certs: Some(certificates), ..TlsConfig::default() })
}

/// Returns the system's certificates as PEM, the form that the stack takes.
fn system_certificates() -> Vec<u8> {
    let found = rustls_native_certs::load_native_certs().certs;
    let pem = found.iter().map(|certificate| {
        let text = BASE64_STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    });
    pem.collect::<String>().into_bytes()
}

/// Returns the listener at an address, and the address that it got.
async fn bind(
    transport: Transport,
    local: SocketAddr,
    public: Option<SocketAddr>,
    stop: CancellationToken,
) -> rsipstack::Result<(SipConnection, SocketAddr)> {
    match anchor(transport) {
        Transport::Udp | Transport::Tls => {
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

/// Connection to the trunk over TCP. The worker opens it, because the stack would let small requests
/// wait for others (Nagle's algorithm): 40 ms for the INVITE behind an ACK.
#[derive(Default)]
pub(super) struct TrunkConnection(tokio::sync::Mutex<Option<SipConnection>>);

impl TrunkConnection {
    /// Opens a connection, unless one is open.
    pub async fn open(&self, layer: &TransportLayer, trunk: &SipAddr) -> rsipstack::Result<()> {
        // The lock keeps calls from opening a connection each.
        let mut open = self.0.lock().await;
        let is_alive = |connection: &SipConnection| {
            connection.cancel_token().is_some_and(|token| !token.is_cancelled())
        };
        if open.as_ref().is_some_and(is_alive) {
            return Ok(());
        }
        let stream = TcpStream::connect(trunk.get_socketaddr()?).await?;
        stream.set_nodelay(true)?;
        let local = SipAddr { r#type: trunk.r#type, addr: stream.local_addr()?.into() };
        let closed = CancellationToken::new();
        let connection =
            SipConnection::Tcp(TcpConnection::from_stream(stream, local, Some(closed))?);
        layer.add_connection(connection.clone());
        *open = Some(connection);
        Ok(())
    }

    /// Opens an encrypted connection, unless one is open.
    pub async fn open_secure(
        &self,
        layer: &TransportLayer,
        trunk: &SipAddr,
    ) -> rsipstack::Result<()> {
        let _one_at_a_time = self.0.lock().await;
        layer.lookup(trunk, None).await.map(|_| ())
    }
}
