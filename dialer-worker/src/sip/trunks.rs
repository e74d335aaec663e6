//! Addresses of the trunk. Each call goes to the first that works and has a free line.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{HostWithPort, Param, Request, Uri};
use rsipstack::transaction::endpoint::TargetLocator;
use rsipstack::transport::{SipAddr, TransportLayer};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::headers;
use super::network::TrunkConnection;
use super::servers::Names;
use super::transport::Transport;
use super::trunk_address::TrunkAddress;

/// Time for which an address that failed is not used, while another one works.
const REST: Duration = Duration::from_secs(30);
/// Parameter that tells the address of a call's requests. It never leaves the worker.
const MARK: &str = "x-trunk";

/// One address of the trunk.
pub(super) struct Trunk {
    pub address: SipAddr,
    index: usize,
    max_calls: usize,
    state: Mutex<State>,
    connection: TrunkConnection,
}

#[derive(Default)]
struct State {
    calls: usize,
    rests_until: Option<Instant>,
}

/// All addresses of the trunk, the preferred first.
pub(super) struct Trunks {
    all: Vec<Arc<Trunk>>,
    freed: Notify,
    /// Domain of called numbers. What is sent there goes to the trunk.
    domain: HostWithPort,
}

/// Line of a trunk that a call holds.
pub(super) struct Line {
    pub trunk: Arc<Trunk>,
    trunks: Arc<Trunks>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.trunk.state().calls -= 1;
        self.trunks.freed.notify_waiters();
    }
}

impl Trunk {
    fn new(index: usize, address: SipAddr, max_calls: usize) -> Self {
        let (state, connection) = (Mutex::default(), TrunkConnection::default());
        Self { address, index, max_calls, state, connection }
    }

    /// Opens a connection, if the transport needs one and none is open.
    pub async fn connect(&self, layer: &TransportLayer) -> rsipstack::Result<()> {
        match self.address.r#type {
            Some(rsipstack::sip::Transport::Tcp) => {
                self.connection.open(layer, &self.address).await
            }
            Some(rsipstack::sip::Transport::Tls) => {
                self.connection.open_secure(layer, &self.address).await
            }
            _ => Ok(()),
        }
    }

    /// Notes that the address failed a call.
    pub fn fails(&self, now: Instant) {
        self.state().rests_until = Some(now + REST);
    }

    pub fn works(&self) {
        self.state().rests_until = None;
    }

    /// Marks the address of a called number, so that all requests of the call go to this trunk.
    pub fn mark(&self, called: &mut Uri) {
        if self.index > 0 {
            called
                .params
                .push(Param::Other(MARK.into(), Some(self.index.to_string().as_str().into())));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, if one is free.
    fn take(&self) -> bool {
        let mut state = self.state();
        let is_free = state.calls < self.max_calls;
        state.calls += usize::from(is_free);
        is_free
    }

    fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.state().rests_until.filter(|until| now < *until)
    }
}

impl Trunks {
    /// Finds the addresses. A name may have several.
    pub async fn find(
        names: &Names,
        configured: &[TrunkAddress],
        transport: Transport,
        domain: HostWithPort,
    ) -> Result<Self, String> {
        let kind = match transport {
            Transport::Udp => rsipstack::sip::Transport::Udp,
            Transport::Tcp => rsipstack::sip::Transport::Tcp,
            Transport::Tls => rsipstack::sip::Transport::Tls,
        };
        let mut found: Vec<(HostWithPort, usize)> = Vec::new();
        for trunk in configured {
            let addresses = names.servers(trunk, transport).await?;
            found.extend(addresses.into_iter().map(|address| (address, trunk.max_calls)));
        }
        if found.is_empty() {
            return Err("--provider sip needs --sip-trunk HOST[:PORT]".to_owned());
        }
        let all = found.into_iter().enumerate().map(|(index, (address, max_calls))| {
            Arc::new(Trunk::new(index, SipAddr::new(kind, address), max_calls))
        });
        Ok(Self { all: all.collect(), freed: Notify::new(), domain })
    }

    pub fn all(&self) -> &[Arc<Trunk>] {
        &self.all
    }

    /// Returns the preferred address.
    pub fn first(&self) -> &Trunk {
        &self.all[0]
    }

    /// Returns the network address of the preferred one.
    pub async fn reached(&self) -> Result<SocketAddr, String> {
        look_up(&self.first().address.addr.to_string()).await
    }

    /// Returns the network addresses that are known.
    pub fn hosts(&self) -> Vec<IpAddr> {
        let known = self.all.iter().filter_map(|trunk| trunk.address.get_socketaddr().ok());
        known.map(|address| address.ip()).collect()
    }

    /// Returns a line of the first address that works and was not tried, or of one that rests if
    /// none works. Waits while all lines are taken. Returns `None` if all were tried.
    pub async fn line(self: &Arc<Self>, tried: &[Arc<Trunk>]) -> Option<Line> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let now = Instant::now();
            let mut left: Vec<&Arc<Trunk>> = self
                .all
                .iter()
                .filter(|trunk| !tried.iter().any(|tried| tried.index == trunk.index))
                .collect();
            if left.is_empty() {
                return None;
            }
            left.sort_by_key(|trunk| (trunk.rests_until(now), trunk.index));
            if let Some(trunk) = left.into_iter().find(|trunk| trunk.take()) {
                return Some(Line { trunk: Arc::clone(trunk), trunks: Arc::clone(self) });
            }
            freed.await;
        }
    }

    /// Whether an address is left that was not tried.
    pub fn has_more(&self, tried: &[Arc<Trunk>]) -> bool {
        tried.len() < self.all.len()
    }

    /// Returns the address for a request.
    fn of(&self, uri: &Uri) -> Option<&Trunk> {
        if uri.host_with_port != self.domain {
            return None;
        }
        let index = uri.other_param(MARK).and_then(|index| index.parse().ok()).unwrap_or(0_usize);
        self.all.get(index).map(|trunk| &**trunk)
    }
}

/// Removes the mark from a request that leaves.
pub(super) fn strip(request: &mut Request) {
    if request.uri.other_param(MARK).is_some() {
        request.uri.remove_param(MARK);
    }
    headers::remove_parameter_of_to(&mut request.headers, MARK);
}

/// Locator that sends requests for called numbers to their trunk. A CANCEL must follow its INVITE,
/// which the stack does not ensure by itself.
pub(super) struct Locator(pub Arc<Trunks>);

#[tonic::async_trait]
impl TargetLocator for Locator {
    async fn locate(&self, uri: &Uri) -> rsipstack::Result<SipAddr> {
        match self.0.of(uri) {
            Some(trunk) => Ok(trunk.address.clone()),
            None => uri.try_into(),
        }
    }
}

/// Looks a name up.
async fn look_up(name: &str) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host(name).await;
    let found = found.map_err(|error| format!("--sip-trunk {name} is not found: {error}"))?.next();
    found.ok_or_else(|| format!("--sip-trunk {name} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn trunks(texts: &[&str]) -> Arc<Trunks> {
        let configured: Vec<TrunkAddress> =
            texts.iter().map(|text| text.parse().expect("right")).collect();
        let domain = HostWithPort::try_from("trunk.example").expect("right");
        let names = Names::by(None);
        let found = Trunks::find(&names, &configured, Transport::Udp, domain).await;
        Arc::new(found.expect("found"))
    }

    fn port(line: Option<&Line>) -> Option<u16> {
        let address = line?.trunk.address.get_socketaddr().expect("an address");
        Some(address.port())
    }

    #[tokio::test]
    async fn a_call_goes_to_the_first_address_that_works_and_has_a_line() {
        let trunks = trunks(&["127.0.0.1:1;calls=1", "127.0.0.1:2"]).await;
        let first = trunks.line(&[]).await;
        assert_eq!(port(first.as_ref()), Some(1));
        let second = trunks.line(&[]).await;
        assert_eq!(port(second.as_ref()), Some(2), "no line is free at the first");
        drop(first);
        assert_eq!(port(trunks.line(&[]).await.as_ref()), Some(1));
        trunks.first().fails(Instant::now());
        assert_eq!(port(trunks.line(&[]).await.as_ref()), Some(2));
        trunks.all()[1].fails(Instant::now());
        assert_eq!(port(trunks.line(&[]).await.as_ref()), Some(1), "its rest ends sooner");
        trunks.first().works();
        let tried = [Arc::clone(&trunks.all()[0])];
        assert_eq!(port(trunks.line(&tried).await.as_ref()), Some(2));
        assert!(trunks.line(trunks.all()).await.is_none());
    }

    #[tokio::test]
    async fn a_call_waits_for_a_line() {
        let trunks = trunks(&["127.0.0.1:1;calls=1"]).await;
        let first = trunks.line(&[]).await;
        let waiting = tokio::spawn({
            let trunks = Arc::clone(&trunks);
            async move { port(trunks.line(&[]).await.as_ref()) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.await.expect("no panic"), Some(1));
    }

    #[tokio::test]
    async fn requests_of_a_call_go_to_its_trunk_and_show_nothing_of_it() {
        let trunks = trunks(&["127.0.0.1:1", "127.0.0.1:2"]).await;
        let mut called = Uri::try_from("sip:+4930@trunk.example").expect("right");
        assert_eq!(trunks.of(&called).map(|trunk| trunk.index), Some(0));
        trunks.all()[1].mark(&mut called);
        assert_eq!(trunks.of(&called).map(|trunk| trunk.index), Some(1));
        assert!(trunks.of(&Uri::try_from("sip:a@elsewhere").expect("right")).is_none());
        let text = format!(
            "CANCEL {called} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
             From: <sip:b@x>;tag=1\r\nTo: <{called}>\r\nCall-ID: c\r\nCSeq: 1 CANCEL\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut request = Request::try_from(text.as_bytes()).expect("a request");
        strip(&mut request);
        assert!(!request.to_string().contains(MARK), "{request}");
        assert!(request.to_string().contains("To: <sip:+4930@trunk.example>"), "{request}");
    }
}
