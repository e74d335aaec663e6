//! A connection that hears what replicas tell each other.

use super::outages::Outages;
use super::{Db, StoreError, StoreResult, notify};
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Notifications that may wait to be passed on.
const LISTEN_BUFFER: usize = 1_024;
/// How often a connection that says nothing is asked whether it is there.
const PULSE_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for its answer. With the interval, and the time to connect again, less than 10 seconds.
const PULSE_LIMIT: Duration = Duration::from_secs(4);
/// Longest wait for a connection with all that it needs.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A connection that listens, as long as it lives.
#[derive(Debug)]
pub struct Listener {
    client: Client,
    payloads: mpsc::Receiver<String>,
    outages: Outages,
}

impl Listener {
    /// The next payload; `None` when the connection is gone, or silent.
    pub async fn next(&mut self) -> Option<String> {
        tokio::select! {
            biased;
            payload = self.payloads.recv() => payload,
            () = until_silent(&self.client) => {
                self.outages.note();
                None
            }
        }
    }
}

/// Asks for nothing, again and again, until there is no answer.
async fn until_silent(client: &Client) {
    loop {
        sleep(PULSE_INTERVAL).await;
        match timeout(PULSE_LIMIT, client.batch_execute("")).await {
            Ok(Ok(())) => {}
            // It is gone, which the connection says itself.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

impl Db {
    /// Opens a connection of its own that hears what replicas tell each other.
    pub async fn listen(&self) -> StoreResult<Listener> {
        let (client, payloads) = self.open().await?;
        let listening = client.batch_execute(notify::LISTEN);
        timeout(CONNECT_LIMIT, listening).await.map_err(|_| StoreError::Silent)??;
        Ok(Listener { client, payloads, outages: self.shared.outages.clone() })
    }

    /// Opens a connection outside the pool; returns what it hears too.
    pub(super) async fn open(&self) -> StoreResult<(Client, mpsc::Receiver<String>)> {
        let opening = async {
            let (sender, payloads) = mpsc::channel(LISTEN_BUFFER);
            let client = match &self.tls {
                Some(tls) => {
                    let tls = MakeRustlsConnect::new(tls.config.clone());
                    let (client, connection) = self.config.connect(tls).await?;
                    tokio::spawn(pass_on(connection, sender));
                    client
                }
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    tokio::spawn(pass_on(connection, sender));
                    client
                }
            };
            self.session.prepare(&client).await?;
            Ok((client, payloads))
        };
        timeout(CONNECT_LIMIT, opening).await.map_err(|_| StoreError::Silent)?
    }
}

/// Passes on what a connection hears, until it is gone or nobody listens.
async fn pass_on<S>(mut connection: Connection<Socket, S>, payloads: mpsc::Sender<String>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    while let Some(Ok(message)) = messages.next().await {
        if let AsyncMessage::Notification(notification) = message
            && payloads.send(notification.payload().to_owned()).await.is_err()
        {
            return;
        }
    }
}
