//! Connections of a listener. A stranger is a connection without an admitted request so far.
//! Strangers have few places. For a newer stranger, the one with the most waiting requests gives
//! way, or else the oldest. A flood of strangers therefore costs a fixed amount of memory and shuts
//! out no other caller.

use crate::metrics::Counter;
use crate::seldom::Seldom;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Pause after a connection could not be accepted, for example for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests that a stranger may break off before one is answered. More of them count as a flood.
const MAX_BROKEN_OFF: usize = 100;
/// Simultaneous requests and streams of a stranger. Further ones wait until these end, or until the
/// stranger is known.
const MAX_TURNS: usize = 8;

/// Limits of the connections of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Simultaneous connections, not counting strangers.
    pub max_connections: usize,
    /// Simultaneous connections from one address, not counting strangers.
    pub max_connections_per_address: usize,
    /// Simultaneous strangers.
    pub max_strangers: usize,
    /// Simultaneous streams on one connection.
    pub max_streams_per_connection: usize,
    /// Simultaneous streams from one address.
    pub max_streams_per_address: usize,
    /// Longest wait for the first answered request of a connection, including its TLS handshake.
    pub first_request: Duration,
    /// Longest time without an open request.
    pub idle: Duration,
}

/// Connections of one listener.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    table: Mutex<Table>,
    /// Places for strangers, and for ended connections that are not closed yet.
    places: Arc<Semaphore>,
    turned_away: Counter,
    failing: Seldom,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Strangers in order of arrival.
    strangers: BTreeMap<u64, Arc<Peer>>,
    known: usize,
    addresses: HashMap<IpAddr, Usage>,
}

/// Usage of one address.
#[derive(Debug, Default)]
struct Usage {
    connections: usize,
    streams: usize,
}

impl Connections {
    /// Returns a set of connections that keeps to `limits`. Connections that gave way are counted
    /// in `turned_away`.
    #[must_use]
    pub fn new(limits: ConnectionLimits, turned_away: Counter) -> Arc<Self> {
        let (table, failing) = (Mutex::default(), Seldom::default());
        let places = Arc::new(Semaphore::new(2 * limits.max_strangers));
        Arc::new(Self { limits, table, places, turned_away, failing })
    }

    /// Waits for the next connection. When descriptors run out, the oldest stranger gives way.
    pub async fn accept(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, Guest) {
        // Waits while connections that gave way are still closing.
        let mut place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    // Disables Nagle's algorithm: an answer must not wait for the acknowledgement
                    // of the previous one.
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(%error, "a connection ended at once");
                    }
                    return (stream, self.admit(address.ip(), place.take()));
                }
                Err(error) => {
                    if let Some(left_out) = self.failing.may_say() {
                        warn!(%error, left_out, "a connection could not be accepted");
                    }
                    self.make_room(&mut self.table(), 0);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, address: IpAddr, place: Option<OwnedSemaphorePermit>) -> Guest {
        let mut table = self.table();
        self.make_room(&mut table, self.limits.max_strangers.saturating_sub(1));
        table.next += 1;
        let peer = Arc::new(Peer {
            id: table.next,
            address,
            connections: Arc::clone(self),
            is_known: AtomicBool::new(false),
            was_answered: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            broken_off: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            turns: Arc::new(Semaphore::new(MAX_TURNS)),
            known: CancellationToken::new(),
            end: CancellationToken::new(),
            place: Mutex::new(place),
        });
        table.strangers.insert(peer.id, Arc::clone(&peer));
        Guest(peer)
    }

    /// Ends one stranger if there are more than `left`: the one with the most waiting requests. If
    /// several are equal, the oldest ends.
    fn make_room(&self, table: &mut Table, left: usize) {
        if table.strangers.len() <= left {
            return;
        }
        let waiting = |peer: &Peer| peer.open.load(Ordering::Relaxed).saturating_sub(MAX_TURNS);
        // `max_by_key` returns the last of equal elements.
        let costly =
            table.strangers.values().rev().max_by_key(|peer| waiting(peer)).map(|peer| peer.id);
        if let Some(stranger) = costly.and_then(|id| table.strangers.remove(&id)) {
            self.turned_away.inc();
            stranger.end.cancel();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Place of a connection. Dropping it frees the place.
#[derive(Debug)]
pub struct Guest(Arc<Peer>);

impl Guest {
    /// Returns the peer that holds the place.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut table = self.0.connections.table();
        table.strangers.remove(&self.0.id);
        if self.0.is_known.load(Ordering::Relaxed) {
            table.known -= 1;
            table.release(self.0.address, |usage| &mut usage.connections);
        }
    }
}

impl Table {
    fn release(&mut self, address: IpAddr, what: impl Fn(&mut Usage) -> &mut usize) {
        let Some(usage) = self.addresses.get_mut(&address) else { return };
        *what(usage) -= 1;
        if usage.connections == 0 && usage.streams == 0 {
            self.addresses.remove(&address);
        }
    }
}

/// Peer at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    id: u64,
    address: IpAddr,
    connections: Arc<Connections>,
    /// Whether a request was admitted.
    is_known: AtomicBool,
    was_answered: AtomicBool,
    /// Requests and streams that are open.
    open: AtomicUsize,
    /// Requests given up before they were answered.
    broken_off: AtomicUsize,
    streams: AtomicUsize,
    idle_since: Mutex<Instant>,
    turns: Arc<Semaphore>,
    /// Cancelled once the peer is known. Requests then no longer wait for a turn.
    known: CancellationToken,
    end: CancellationToken,
    /// Permit of a stranger.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Peer {
    /// Records that a request was admitted: the peer is no longer a stranger. If a connection limit
    /// is reached, the connection ends.
    pub fn note_known(&self) {
        if self.is_known.load(Ordering::Relaxed) {
            return;
        }
        let mut table = self.connections.table();
        // Two simultaneous requests count once.
        if table.strangers.remove(&self.id).is_none() {
            return;
        }
        let limits = &self.connections.limits;
        let is_full = table.known >= limits.max_connections;
        let usage = table.addresses.entry(self.address).or_default();
        usage.connections += 1;
        let is_full = is_full || usage.connections > limits.max_connections_per_address;
        table.known += 1;
        self.is_known.store(true, Ordering::Relaxed);
        self.known.cancel();
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
        if is_full {
            self.connections.turned_away.inc();
            self.end.cancel();
        }
    }

    /// Whether no request was admitted so far.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        !self.is_known.load(Ordering::Relaxed)
    }

    /// Waits until the peer must give way to others.
    pub(crate) async fn gives_way(&self) {
        self.end.cancelled().await;
    }

    /// Waits until the peer has had no request for too long.
    pub(crate) async fn is_overdue(&self) {
        let limits = &self.connections.limits;
        sleep(limits.first_request).await;
        while self.was_answered.load(Ordering::Relaxed) {
            let idle = if self.open.load(Ordering::Relaxed) > 0 {
                Duration::ZERO
            } else {
                self.idle_since().elapsed()
            };
            match limits.idle.checked_sub(idle) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    }

    /// Begins a request.
    #[must_use]
    pub(crate) fn begin(self: &Arc<Self>) -> Request {
        self.open.fetch_add(1, Ordering::Relaxed);
        Request { peer: Arc::clone(self), is_answered: false, turn: None }
    }

    /// Takes a place for a stream that may last.
    ///
    /// # Errors
    /// Returns a text that names the limit that the connection or its address has reached.
    pub fn open_stream(self: &Arc<Self>) -> Result<StreamPlace, &'static str> {
        let limits = &self.connections.limits;
        let mut table = self.connections.table();
        if self.streams.load(Ordering::Relaxed) >= limits.max_streams_per_connection {
            return Err(
                "the connection has reached its limit of streams; open another, or end some streams",
            );
        }
        let usage = table.addresses.entry(self.address).or_default();
        if usage.streams >= limits.max_streams_per_address {
            return Err("the address has reached its limit of streams; end some of them");
        }
        usage.streams += 1;
        self.streams.fetch_add(1, Ordering::Relaxed);
        Ok(StreamPlace(Arc::clone(self)))
    }

    fn idle_since(&self) -> MutexGuard<'_, Instant> {
        self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Place of one stream.
#[derive(Debug)]
pub struct StreamPlace(Arc<Peer>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut table = self.0.connections.table();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        table.release(self.0.address, |usage| &mut usage.streams);
    }
}

/// Request under way, until the last of its answer was sent.
#[derive(Debug)]
pub(crate) struct Request {
    peer: Arc<Peer>,
    is_answered: bool,
    /// Turn of a stranger.
    turn: Option<OwnedSemaphorePermit>,
}

impl Request {
    /// Waits for a turn. A stranger has few turns; a known peer does not wait.
    pub async fn turn(&mut self) {
        if self.peer.is_stranger() {
            let turn = Arc::clone(&self.peer.turns).acquire_owned();
            self.turn = self.peer.known.run_until_cancelled(turn).await.and_then(Result::ok);
        }
    }

    /// Records that the request has an answer.
    pub fn answered(&mut self) {
        self.is_answered = true;
        self.peer.was_answered.store(true, Ordering::Relaxed);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let peer = &self.peer;
        if !self.is_answered
            && peer.broken_off.fetch_add(1, Ordering::Relaxed) >= MAX_BROKEN_OFF
            && peer.is_stranger()
        {
            peer.end.cancel();
        }
        if peer.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            *peer.idle_since() = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests;
