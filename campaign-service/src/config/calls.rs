//! Command line of the limits of callers.

use crate::grpc::limits::CallLimits;
use crate::grpc::reading::ReadingLimits;
use campaign_process::connections::ConnectionLimits;
use clap::Args;
use std::num::NonZeroU32;
use std::time::Duration;

/// Longest wait of a request for a place among the concurrent requests.
const PLACE_TIMEOUT: Duration = Duration::from_millis(500);

/// Limits of callers. A request beyond a limit waits half a second for a place. Without a place the request is
/// rejected with RESOURCE_EXHAUSTED and a retry delay
#[derive(Args, Clone, Debug)]
pub struct CallArgs {
    /// Most concurrent requests, not counting streams, 1 to 100,000
    #[arg(long, env = "CAMPAIGN_MAX_REQUESTS", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_requests: u32,
    /// Most concurrent streams of workers, watchers and imports, 1 to 1,000,000
    #[arg(long, env = "CAMPAIGN_MAX_STREAMS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_streams: u32,
    /// Most requests that one caller (tenant and subject of its token) begins in a second, 0 to 1,000,000;
    /// 0: any number
    #[arg(long, env = "CAMPAIGN_MAX_REQUESTS_PER_SECOND", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_requests_per_second: u32,
    /// Longest time of a request, 1 to 3,600. The database gives up on the request too. Streams have no such limit
    #[arg(long, env = "CAMPAIGN_REQUEST_TIMEOUT_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub request_timeout_seconds: u16,
    /// Most concurrent connections of callers, 1 to 1,000,000
    #[arg(long, env = "CAMPAIGN_MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Most concurrent connections from one address, 1 to 1,000,000. Callers behind a proxy share its address
    #[arg(long, env = "CAMPAIGN_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections_per_address: u32,
    /// Most additional connections without an admitted request so far, 8 to 100,000. Beyond the limit the
    /// connection with the most waiting requests is closed; among equals, the oldest
    #[arg(long, env = "CAMPAIGN_MAX_STRANGERS", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(8..=100_000))]
    pub max_strangers: u32,
    /// Most streams on one connection, 1 to 120. A connection takes 128 concurrent requests and streams; the rest
    /// is for requests
    #[arg(long, env = "CAMPAIGN_MAX_STREAMS_PER_CONNECTION", default_value_t = 96,
          value_parser = clap::value_parser!(u16).range(1..=120))]
    pub max_streams_per_connection: u16,
    /// Most concurrent streams from one address, 1 to 1,000,000
    #[arg(long, env = "CAMPAIGN_MAX_STREAMS_PER_ADDRESS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_streams_per_address: u32,
    /// Longest wait for the first complete request of a new connection, 1 to 300
    #[arg(long, env = "CAMPAIGN_FIRST_REQUEST_SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub first_request_seconds: u16,
    /// Time after which a connection without requests is closed, 10 to 86,400
    #[arg(long, env = "CAMPAIGN_IDLE_CONNECTION_SECONDS", default_value_t = 900,
          value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub idle_connection_seconds: u32,
    /// Longest time for a request message to arrive, 1 to 300
    #[arg(long, env = "CAMPAIGN_MESSAGE_TIMEOUT_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub message_timeout_seconds: u16,
    /// Most memory for all arriving messages above 4 KiB together, in MiB, 16 to 65,536
    #[arg(long, env = "CAMPAIGN_MAX_MESSAGE_MEMORY_MEBIBYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub max_message_memory_mebibytes: u32,
}

impl CallArgs {
    /// Returns the limits of connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionLimits {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        ConnectionLimits {
            max_connections: count(self.max_connections),
            max_connections_per_address: count(self.max_connections_per_address),
            max_strangers: count(self.max_strangers),
            max_streams_per_connection: self.max_streams_per_connection.into(),
            max_streams_per_address: count(self.max_streams_per_address),
            first_request: Duration::from_secs(self.first_request_seconds.into()),
            idle: Duration::from_secs(self.idle_connection_seconds.into()),
        }
    }

    /// Returns the limits of messages.
    #[must_use]
    pub fn reading(&self) -> ReadingLimits {
        let mebibytes = usize::try_from(self.max_message_memory_mebibytes).unwrap_or(usize::MAX);
        ReadingLimits {
            message_timeout: Duration::from_secs(self.message_timeout_seconds.into()),
            max_memory_bytes: mebibytes.saturating_mul(1024 * 1024),
        }
    }

    /// Returns the limits of calls.
    #[must_use]
    pub fn limits(&self) -> CallLimits {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        CallLimits {
            max_requests: count(self.max_requests),
            max_streams: count(self.max_streams),
            place_timeout: PLACE_TIMEOUT,
            max_requests_per_second: NonZeroU32::new(self.max_requests_per_second),
            request_timeout: Duration::from_secs(self.request_timeout_seconds.into()),
        }
    }
}
