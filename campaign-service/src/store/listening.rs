//! Connection that receives the notices between replicas.

use super::db::Db;
use super::error::{StoreError, StoreResult};
use super::notify;
use super::outages::Outages;
use super::session::CONNECT_LIMIT;
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Most notifications that may wait to be passed on.
const LISTEN_BUFFER: usize = 1_024;
/// Interval at which an idle connection is polled.
const PULSE_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for the answer to a poll. With the interval and the time to reconnect, the total is
/// at most 10 seconds.
const PULSE_LIMIT: Duration = Duration::from_secs(3);

/// Connection that listens, as long as it lives.
#[derive(Debug)]
pub struct Listener {
    client: Client,
    payloads: mpsc::Receiver<String>,
    outages: Outages,
}

impl Listener {
    /// Returns the next payload, or `None` when the connection is gone or silent.
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

/// Sends empty statements until one gets no answer.
async fn until_silent(client: &Client) {
    loop {
        sleep(PULSE_INTERVAL).await;
        match timeout(PULSE_LIMIT, client.batch_execute("")).await {
            Ok(Ok(())) => {}
            // The connection is gone, and its payloads end by themselves.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

impl Db {
    /// Opens a dedicated connection that receives the notices between replicas.
    pub async fn listen(&self) -> StoreResult<Listener> {
        let (client, payloads) = self.open().await?;
        let listening = client.batch_execute(notify::LISTEN);
        timeout(CONNECT_LIMIT, listening).await.map_err(|_| StoreError::Silent)??;
        Ok(Listener { client, payloads, outages: self.shared.outages.clone() })
    }

    /// Opens a connection outside the pool. Returns the client, and the payloads that the
    /// connection receives.
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

/// Passes on the notifications that a connection receives, until it is gone or nobody listens.
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
