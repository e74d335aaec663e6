use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Returns a listener at an address.
///
/// # Errors
/// Returns an error if the address is not available.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}
