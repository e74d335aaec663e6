//! A request that makes the service panic harms nobody else.

use super::support::{PATIENCE, eventually};
use campaign_service::grpc::around::Around;
use campaign_service::grpc::panics::ContainPanics;
use std::pin::Pin;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Service that panics when asked to.
struct Fragile;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

#[tonic::async_trait]
impl Health for Fragile {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        assert_ne!(request.get_ref().service, "panic", "with a number, +14155550100");
        Ok(Response::new(serving()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let panics = request.get_ref().service == "panic";
        let stream = async_stream::stream! {
            yield Ok(serving());
            loop {
                // The stream is not ready at once, so that the message before is sent alone.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                assert!(!panics, "in the middle of a stream");
                yield Ok(serving());
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_request_and_no_other() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let server =
        Server::builder().layer(Around(ContainPanics)).add_service(HealthServer::new(Fragile));
    let serving = tokio::spawn(server.serve_with_incoming(incoming));
    let endpoint = Channel::from_shared(url).unwrap();
    let channel =
        eventually("the server answers", || async { endpoint.connect().await.ok() }).await;
    // All calls share one connection.
    let mut client = HealthClient::new(channel);
    let mut other = client.watch(asking("")).await.unwrap().into_inner();
    assert!(other.next().await.unwrap().is_ok());

    for _ in 0..20 {
        let failed = client.check(asking("panic")).await.unwrap_err();
        assert_eq!(failed.code(), Code::Internal, "{failed:?}");
        assert!(!failed.message().contains("415"), "{failed:?}");
        let mut stream = client.watch(asking("panic")).await.unwrap().into_inner();
        assert!(stream.next().await.unwrap().is_ok());
        let failed = timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(failed.code(), Code::Internal, "{failed:?}");
        assert!(client.check(asking("")).await.is_ok());
        assert!(timeout(PATIENCE, other.next()).await.unwrap().unwrap().is_ok());
    }
    assert!(!serving.is_finished());
    serving.abort();
}
