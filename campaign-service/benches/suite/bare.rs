//! Least program that can notify workers: a process that listens to PostgreSQL and passes each
//! notification on to every open gRPC stream. The service's time to notify workers stands beside
//! it.

use crate::scratch::Scratch;
use crate::service::{connect, start};
use crate::stats::milliseconds;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message;
use campaign_proto::v1::dispatch_service_client::DispatchServiceClient;
use campaign_proto::v1::dispatch_service_server::{DispatchService, DispatchServiceServer};
use campaign_testkit::{Program, free_address};
use futures_util::StreamExt;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;
use tokio::sync::{broadcast, mpsc};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const CHANNEL: &str = "bare";
/// Messages that may wait for a stream.
const WAITING_MESSAGES: usize = 64;

/// Serves until killed.
pub async fn serve(address: SocketAddr, database_url: &str) {
    let (client, mut connection) = tokio_postgres::connect(database_url, NoTls).await.unwrap();
    let (sender, _) = broadcast::channel(WAITING_MESSAGES);
    let heard = sender.clone();
    tokio::spawn(async move {
        let mut messages =
            futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            if let AsyncMessage::Notification(_) = message.unwrap() {
                // An error only says that no stream is open.
                let _ = heard.send(());
            }
        }
    });
    client.batch_execute(&format!("LISTEN {CHANNEL}")).await.unwrap();
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(DispatchServiceServer::new(BareApi { sender }))
        .serve(address)
        .await
        .unwrap();
}

struct BareApi {
    sender: broadcast::Sender<()>,
}

#[tonic::async_trait]
impl DispatchService for BareApi {
    type DispatchStream = ReceiverStream<Result<v1::DispatchResponse, Status>>;

    async fn dispatch(
        &self,
        _: Request<Streaming<v1::DispatchRequest>>,
    ) -> Result<Response<Self::DispatchStream>, Status> {
        let mut heard = self.sender.subscribe();
        let (outgoing, responses) = mpsc::channel(WAITING_MESSAGES);
        tokio::spawn(async move {
            // The message is as long as one of ours.
            let revoke = v1::Revoke {
                campaign: "campaigns/00000000-0000-0000-0000-000000000000".to_owned(),
                ..Default::default()
            };
            while heard.recv().await.is_ok() {
                let message = Some(Message::Revoke(revoke.clone()));
                if outgoing.send(Ok(v1::DispatchResponse { message })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Bare server in a process of its own, with streams open.
pub struct Bare {
    _program: Program,
    client: Client,
    streams: usize,
    received: mpsc::UnboundedReceiver<Instant>,
}

impl Bare {
    pub async fn start(scratch: &Scratch, streams: usize) -> Self {
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--bare-server", &address.to_string()])
            .env("DATABASE_URL", &scratch.url)
            .env_remove("BENCH_ONLY");
        let program = start(&mut command);
        let channel = connect(address).await;
        let (sender, received) = mpsc::unbounded_channel();
        for _ in 0..streams {
            let mut client = DispatchServiceClient::new(channel.clone());
            let nothing = tokio_stream::pending::<v1::DispatchRequest>();
            let mut responses = client.dispatch(nothing).await.unwrap().into_inner();
            let sender = sender.clone();
            tokio::spawn(async move {
                // The loop ends when the server is killed.
                while let Ok(Some(_)) = responses.message().await {
                    let _ = sender.send(Instant::now());
                }
            });
        }
        let client = scratch.client().await;
        client.batch_execute("CREATE TABLE bare (n int)").await.unwrap();
        Self { _program: program, client, streams, received }
    }

    /// Returns the milliseconds from the sending of a NOTIFY until the last stream has it.
    pub async fn round_trip(&mut self) -> f64 {
        self.round_trip_of(&format!("NOTIFY {CHANNEL}")).await
    }

    /// Returns the same for a NOTIFY after a row that is durable first.
    pub async fn durable_round_trip(&mut self) -> f64 {
        self.round_trip_of(&format!("INSERT INTO bare VALUES (1); NOTIFY {CHANNEL}")).await
    }

    async fn round_trip_of(&mut self, sql: &str) -> f64 {
        let started = Instant::now();
        self.client.batch_execute(sql).await.unwrap();
        let mut last = started;
        for _ in 0..self.streams {
            last = last.max(self.received.recv().await.unwrap());
        }
        milliseconds(last - started)
    }
}
