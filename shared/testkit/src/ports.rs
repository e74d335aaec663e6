//! Ports for programs.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Ports below those that the kernel gives to outgoing connections, which could take one of ours while its owner is
/// dead.
const PORTS: Range<u16> = 10_000..30_000;

/// Returns a loopback port on which nobody listens, neither for connections nor for datagrams. No outgoing connection is
/// given it. Nobody in this process was given it before, since its owner may not be there yet, or be dead.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: LazyLock<Mutex<u16>> = LazyLock::new(|| Mutex::new(random_port()));
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = *next;
        *next = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

/// Returns the loopback address of a free port.
#[must_use]
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Returns where this process begins. Other processes begin elsewhere.
fn random_port() -> u16 {
    let ports = u64::from(PORTS.end - PORTS.start);
    let random = RandomState::new().hash_one(std::process::id()) % ports;
    PORTS.start + u16::try_from(random).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_or_while_somebody_has_it() {
        let first = free_port();
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, first + 1));
        let others: Vec<u16> = (0..100).map(|_| free_port()).collect();
        assert!(!others.contains(&first));
        assert!(taken.is_err() || !others.contains(&(first + 1)));
        assert!(others.iter().all(|port| PORTS.contains(port)));
    }
}
