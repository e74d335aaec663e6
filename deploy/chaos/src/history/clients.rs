//! Clients of the replicas.

use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);
/// Longest wait for an erasure, which searches all campaigns of a round.
const ERASURE_LIMIT: Duration = Duration::from_secs(6);
/// Time after which a silent connection is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Clients of one replica.
#[derive(Clone, Debug)]
pub struct Client {
    /// Client of the lifecycle.
    pub campaigns: CampaignServiceClient<Channel>,
    /// Client of contacts.
    pub contacts: ContactServiceClient<Channel>,
    /// Client of contacts, for requests that take long.
    pub erasing: ContactServiceClient<Channel>,
    /// Client of facts.
    pub interactions: InteractionServiceClient<Channel>,
}

/// Clients of all replicas.
pub type Clients = Vec<Client>;

/// Returns clients that connect when first used, and again.
///
/// # Errors
/// Never for a port.
pub fn connect(ports: &[u16]) -> crate::Result<Clients> {
    let client = |port: &u16| {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?
            .connect_timeout(ANSWER_LIMIT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = endpoint.clone().timeout(ANSWER_LIMIT).connect_lazy();
        let patient = endpoint.timeout(ERASURE_LIMIT).connect_lazy();
        Ok(Client {
            campaigns: CampaignServiceClient::new(channel.clone()),
            contacts: ContactServiceClient::new(channel.clone()),
            erasing: ContactServiceClient::new(patient),
            interactions: InteractionServiceClient::new(channel),
        })
    };
    ports.iter().map(client).collect()
}
