//! Connection to the service: TLS, a token on each request, and a time limit for each answer.

use crate::failure::{Exit, Failure};
use crate::profile::Setup;
use campaign_process::client::{self, bearer, client_tls, is_https, read_token};
use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use std::path::PathBuf;
use std::time::Duration;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Longest wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of HTTP/2 pings, which detect dead connections on streams too.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Largest answer: a page of 1,000 contacts with all the attributes they may have.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Channel that adds a token and a time limit to each request.
pub type Calls = InterceptedService<Channel, Way>;

/// Open connection to the service.
#[derive(Clone, Debug)]
pub struct Connection {
    pub channel: Channel,
    pub actor: String,
    token_file: Option<PathBuf>,
    timeout: Duration,
}

impl Connection {
    /// Connects to the service.
    pub async fn open(setup: &Setup) -> Result<Self, Failure> {
        let connecting = endpoint(setup)?.connect().await;
        let channel = connecting.map_err(|error| {
            let message = format!("{} does not answer: {}", setup.url, causes(&error));
            let next = "check that the service runs there; campaignctl doctor finds the cause";
            Failure::new(Exit::Unavailable, message).next(next)
        })?;
        Ok(Self {
            channel,
            actor: setup.actor.clone(),
            token_file: setup.token_file.clone(),
            timeout: setup.timeout,
        })
    }

    pub fn campaigns(&self) -> CampaignServiceClient<Calls> {
        CampaignServiceClient::new(self.calls()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn contacts(&self) -> ContactServiceClient<Calls> {
        ContactServiceClient::new(self.calls()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn interactions(&self) -> InteractionServiceClient<Calls> {
        InteractionServiceClient::new(self.calls())
    }

    /// Returns a client without a time limit, since a watch may last.
    pub fn watching(&self) -> CampaignServiceClient<Calls> {
        CampaignServiceClient::new(self.streams())
    }

    /// Returns a client without a time limit, since an import may last.
    pub fn importing(&self) -> ContactServiceClient<Calls> {
        ContactServiceClient::new(self.streams()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn calls(&self) -> Calls {
        let way = Way { token_file: self.token_file.clone(), timeout: Some(self.timeout) };
        InterceptedService::new(self.channel.clone(), way)
    }

    fn streams(&self) -> Calls {
        let way = Way { token_file: self.token_file.clone(), timeout: None };
        InterceptedService::new(self.channel.clone(), way)
    }
}

/// Interceptor that adds the token and the time limit to each request. Each request reads the token file anew.
#[derive(Clone, Debug)]
pub struct Way {
    token_file: Option<PathBuf>,
    timeout: Option<Duration>,
}

impl Interceptor for Way {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(path) = &self.token_file {
            let token = read_token(path)
                .map_err(|error| Status::unauthenticated(format!("the token file {error}")))?;
            let value = bearer(&token).ok_or_else(|| {
                Status::unauthenticated(format!("{} holds no token", path.display()))
            })?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Returns the endpoint to connect to. Reads the certificate files as they are now.
pub fn endpoint(setup: &Setup) -> Result<Endpoint, Failure> {
    let endpoint = client::endpoint(&setup.url).map_err(|_| {
        Failure::usage(format!(
            "service_url {:?} is not valid; write it as in https://campaigns.example.com:50051",
            setup.url
        ))
    })?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .user_agent(concat!("campaignctl/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| Failure::new(Exit::Failed, causes(&error)))?;
    if !is_https(&endpoint) {
        return Ok(endpoint);
    }
    let identity = setup.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
    let tls = client_tls(setup.ca_file.as_deref(), identity)
        .map_err(|error| Failure::usage(error.to_string()))?;
    endpoint.tls_config(tls).map_err(|error| {
        Failure::usage(format!("TLS cannot be set up: {}", causes(&error)))
            .next("check ca_file, client_cert_file and client_key_file")
    })
}

/// Returns an error's message with its causes.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
