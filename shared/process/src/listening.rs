use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Listens.
///
/// # Errors
/// When the address cannot be had; the text says which.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}
