//! The command line of what callers get.

use crate::grpc::limits::CallLimits;
use crate::grpc::reading::ReadingLimits;
use campaign_process::connections::ConnectionLimits;
use clap::Args;
use std::num::NonZeroU32;
use std::time::Duration;

/// Longest wait of a request for a place among those at the same time.
const PLACE_TIMEOUT: Duration = Duration::from_millis(500);

/// What callers get. More waits half a second for a place, and is then refused with RESOURCE_EXHAUSTED and the
/// time to try again
#[derive(Args, Clone, Debug)]
pub struct CallArgs {
    /// Most requests at the same time, streams left out (1 to 100000)
    #[arg(long, env = "CAMPAIGN_MAX_REQUESTS", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_requests: u32,
    /// Most streams at the same time: workers, watchers, imports (1 to 1000000)
    #[arg(long, env = "CAMPAIGN_MAX_STREAMS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_streams: u32,
    /// Most requests that one caller (tenant and subject of its token) begins in a second (0 to 1000000; 0:
    /// any number)
    #[arg(long, env = "CAMPAIGN_MAX_REQUESTS_PER_SECOND", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_requests_per_second: u32,
    /// Longest request, streams left out; the database gives up on it too (1 to 3600)
    #[arg(long, env = "CAMPAIGN_REQUEST_TIMEOUT_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub request_timeout_seconds: u16,
    /// Most connections of callers at the same time (1 to 1000000)
    #[arg(long, env = "CAMPAIGN_MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Of these, from one address; callers behind a proxy share its address (1 to 1000000)
    #[arg(long, env = "CAMPAIGN_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections_per_address: u32,
    /// Besides, most connections that have not made a whole request yet that was let in; with more, the oldest of
    /// them gives way (8 to 100000)
    #[arg(long, env = "CAMPAIGN_MAX_STRANGERS", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(8..=100_000))]
    pub max_strangers: u32,
    /// Most streams on one connection, which takes 128 requests and streams at the same time: the rest is for
    /// requests (1 to 120)
    #[arg(long, env = "CAMPAIGN_MAX_STREAMS_PER_CONNECTION", default_value_t = 96,
          value_parser = clap::value_parser!(u16).range(1..=120))]
    pub max_streams_per_connection: u16,
    /// Most streams from one address (1 to 1000000)
    #[arg(long, env = "CAMPAIGN_MAX_STREAMS_PER_ADDRESS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_streams_per_address: u32,
    /// Longest wait for the first whole request of a new connection (1 to 300)
    #[arg(long, env = "CAMPAIGN_FIRST_REQUEST_SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub first_request_seconds: u16,
    /// A connection without requests ends after this time (10 to 86400)
    #[arg(long, env = "CAMPAIGN_IDLE_CONNECTION_SECONDS", default_value_t = 900,
          value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub idle_connection_seconds: u32,
    /// Longest time for the message of a request to arrive (1 to 300)
    #[arg(long, env = "CAMPAIGN_MESSAGE_TIMEOUT_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub message_timeout_seconds: u16,
    /// Memory for messages that arrive, in MiB: those above 4 KiB, all together (16 to 65536)
    #[arg(long, env = "CAMPAIGN_MAX_MESSAGE_MEMORY_MEBIBYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub max_message_memory_mebibytes: u32,
}

impl CallArgs {
    /// Limits of connections.
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

    /// Limits of messages.
    #[must_use]
    pub fn reading(&self) -> ReadingLimits {
        let mebibytes = usize::try_from(self.max_message_memory_mebibytes).unwrap_or(usize::MAX);
        ReadingLimits {
            message_timeout: Duration::from_secs(self.message_timeout_seconds.into()),
            max_memory_bytes: mebibytes.saturating_mul(1024 * 1024),
        }
    }

    /// As limits.
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
