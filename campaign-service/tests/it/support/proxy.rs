//! Network that drops packets: it swallows everything sent, and closes no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Message that ends a request of the extended protocol.
const SYNC: &[u8] = b"S\0\0\0\x04";

/// Proxy that passes connections on to a server.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub port: u16,
    /// Number below which connections are dead.
    dead_below: Arc<AtomicUsize>,
    /// Whether new connections are dead too.
    is_dark: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    /// Pieces that pass before all connections of that moment die.
    pieces_left: Arc<AtomicUsize>,
    /// Whether connections die in the middle of a request.
    breaks_off: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy before the server of a URL. Returns it with the URL through it.
    pub async fn before(url: &str) -> (Self, String) {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let server_port = config.get_ports()[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            dead_below: Arc::default(),
            is_dark: Arc::default(),
            count: Arc::default(),
            pieces_left: Arc::new(AtomicUsize::new(usize::MAX)),
            breaks_off: Arc::default(),
        };
        let through = url.replace(&format!(":{server_port}/"), &format!(":{}/", proxy.port));
        assert_ne!(through, url, "the URL names a port");
        tokio::spawn(proxy.clone().accept(listener, server_port));
        (proxy, through)
    }

    /// Lets all current connections die silently.
    pub fn silence(&self) {
        self.dead_below.store(self.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Lets all connections die silently once so many more pieces have passed, in either direction.
    pub fn silence_after(&self, pieces: usize) {
        self.pieces_left.store(pieces, Ordering::SeqCst);
    }

    /// Lets each connection die silently before the last message of its next request: Sync, without
    /// which the server neither answers nor counts itself as idle.
    pub fn break_off(&self) {
        self.breaks_off.store(true, Ordering::SeqCst);
    }

    /// Whether connections died.
    pub fn has_died(&self) -> bool {
        self.dead_below.load(Ordering::SeqCst) > 0
    }

    /// Lets current and new connections die silently, until the network works again.
    pub fn go_dark(&self) {
        self.is_dark.store(true, Ordering::SeqCst);
        self.silence();
    }

    pub fn come_back(&self) {
        // Connections made during the outage stay dead.
        self.silence();
        self.is_dark.store(false, Ordering::SeqCst);
    }

    async fn accept(self, listener: TcpListener, server_port: u16) {
        let mut kept = Vec::new();
        while let Ok((client, _)) = listener.accept().await {
            let number = self.count.fetch_add(1, Ordering::SeqCst);
            if self.is_dark.load(Ordering::SeqCst) {
                kept.push(client);
                continue;
            }
            let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else { continue };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(self.clone().pass(number, from_client, to_server, Some(SYNC)));
            tokio::spawn(self.clone().pass(number, from_server, to_client, None));
        }
    }

    async fn pass(
        self,
        number: usize,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        last: Option<&[u8]>,
    ) {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if self.pieces_left.fetch_sub(1, Ordering::SeqCst) == 0 {
                self.silence();
            }
            let piece = &buffer[..length];
            let last = last.filter(|_| self.breaks_off.load(Ordering::SeqCst));
            let cut = last.and_then(|last| piece.strip_suffix(last));
            if !self.is_dead(number) && to.write_all(cut.unwrap_or(piece)).await.is_err() {
                return;
            }
            if cut.is_some() {
                std::future::pending::<()>().await;
            }
        }
        if self.is_dead(number) {
            // Neither side may see the other end.
            std::future::pending::<()>().await;
        }
    }

    fn is_dead(&self, number: usize) -> bool {
        number < self.dead_below.load(Ordering::SeqCst)
    }
}
