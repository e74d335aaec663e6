//! TCP proxy of ours, which breaks connections as networks do and stops at named points.

mod framing;
mod trap;

pub use framing::{Framing, Kind, Point};
pub use trap::{Trap, Verdict};

use crate::Result;
use bytes::BytesMut;
use framing::{Direction, Framer};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// State of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All bytes pass.
    Pass,
    /// All bytes come later by this long.
    Delay(Duration),
    /// Connections stay open and are accepted, and nothing gets through.
    HalfOpen,
    /// All sent bytes are lost. Existing and new connections stay silent for ever.
    Lost,
    /// Connections end, new ones too.
    Cut,
    /// Connections end with a reset, in the middle of a message.
    Reset,
}

/// Listening proxy; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Name as shown.
    pub name: String,
    /// Port on which the proxy listens.
    pub port: u16,
    mode: watch::Sender<Mode>,
    trap: Arc<Trap>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.mode.send_replace(Mode::Cut);
    }
}

/// Settings that a connection needs.
#[derive(Clone)]
struct Line {
    target: SocketAddr,
    framing: Framing,
    mode: watch::Receiver<Mode>,
    trap: Arc<Trap>,
}

impl Proxy {
    /// Starts a proxy in front of a port of this machine.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(name: &str, target_port: u16, framing: Framing) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (mode, receiver) = watch::channel(Mode::Pass);
        let trap = Arc::new(Trap::default());
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target_port));
        let line = Line { target, framing, mode: receiver, trap: Arc::clone(&trap) };
        let accepting = tokio::spawn(async move {
            loop {
                // Descriptors may have run out, or the peer is gone: the next connection may do
                // better.
                let Ok((downstream, _)) = listener.accept().await else { continue };
                tokio::spawn(carry(line.clone(), downstream));
            }
        });
        Ok(Self { name: name.to_owned(), port, mode, trap, accepting })
    }

    /// Changes the state of the network.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Restores the network; connections that stood still may be lost.
    pub async fn heal(&self, resets: bool) {
        if resets && *self.mode.borrow() != Mode::Pass {
            self.set(Mode::Reset);
            // Every connection sees the mode.
            tokio::task::yield_now().await;
            sleep(Duration::from_millis(20)).await;
        }
        self.set(Mode::Pass);
    }

    /// Returns the trap, by which the proxy stops at a named point.
    #[must_use]
    pub fn trap(&self) -> &Trap {
        &self.trap
    }
}

/// Carries one connection.
async fn carry(line: Line, mut downstream: TcpStream) {
    let _ = downstream.set_nodelay(true);
    let mut mode = line.mode.clone();
    let now = *mode.borrow_and_update();
    if matches!(now, Mode::Cut | Mode::Reset) {
        end(&downstream, now);
        return;
    }
    if pass(&mut mode).await.is_err() {
        end(&downstream, *line.mode.borrow());
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(line.target).await else { return };
    let _ = upstream.set_nodelay(true);
    let (from_client, to_client) = downstream.split();
    let (from_server, to_server) = upstream.split();
    let carried = tokio::select! {
        both = async {
            tokio::try_join!(
                pump(&line, Direction::Up, from_client, to_server),
                pump(&line, Direction::Down, from_server, to_client),
            )
        } => both.map(|_| ()),
        () = broken(line.mode.clone()) => Ok(()),
        () = lost(line.mode.clone()) => {
            broken(line.mode.clone()).await;
            return;
        }
    };
    if carried.is_ok() {
        let last = *line.mode.borrow();
        end(&downstream, last);
        end(&upstream, last);
    }
}

/// Ends a connection as the mode says: with a reset, if the network is that bad.
fn end(stream: &TcpStream, mode: Mode) {
    if mode == Mode::Reset {
        let _ = stream.set_zero_linger();
    }
}

/// Returns when connections are to end.
async fn broken(mut mode: watch::Receiver<Mode>) {
    let is_broken = |mode: &Mode| matches!(mode, Mode::Cut | Mode::Reset);
    // The proxy's end is the connection's end.
    let _ = mode.wait_for(is_broken).await;
}

/// Returns when sent bytes are lost.
async fn lost(mut mode: watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode == Mode::Lost).await.is_err() {
        std::future::pending().await
    }
}

/// Waits as the mode says.
async fn pass(mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
    let now = *mode.borrow_and_update();
    match now {
        Mode::Delay(time) => sleep(time).await,
        Mode::HalfOpen => {
            let ended = mode.wait_for(|mode| *mode != Mode::HalfOpen).await;
            let is_broken = ended.is_ok_and(|mode| matches!(*mode, Mode::Cut | Mode::Reset));
            if is_broken {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        Mode::Lost => {
            broken(mode.clone()).await;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Mode::Pass | Mode::Cut | Mode::Reset => {}
    }
    Ok(())
}

/// Carries one direction of a connection, unit by unit.
async fn pump(
    line: &Line,
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> io::Result<()> {
    let mut framer = Framer::new(line.framing, direction);
    let mut mode = line.mode.clone();
    let mut read = BytesMut::with_capacity(16 << 10);
    loop {
        if from.read_buf(&mut read).await? == 0 {
            let _ = to.write_all(&read).await;
            return to.shutdown().await;
        }
        pass(&mut mode).await?;
        let mut ready = BytesMut::new();
        while let Some(unit) = framer.next(&read) {
            let bytes = read.split_to(unit.length);
            let Some(kind) = unit.kind.filter(|_| line.trap.is_armed()) else {
                ready.extend_from_slice(&bytes);
                continue;
            };
            // Earlier bytes are not held back.
            to.write_all(&ready.split()).await?;
            stop_at(line, Point { kind, is_after: false }).await?;
            to.write_all(&bytes).await?;
            stop_at(line, Point { kind, is_after: true }).await?;
        }
        to.write_all(&ready).await?;
    }
}

async fn stop_at(line: &Line, point: Point) -> io::Result<()> {
    match line.trap.spring(point).await {
        Verdict::Pass => Ok(()),
        Verdict::Cut => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
