//! Flags of the SIP provider.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::inbound::InboundConfig;
use crate::config::{Secret, within};

/// Transport of SIP messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Datagrams; lost ones are sent again.
    #[default]
    Udp,
    /// One connection to the trunk.
    Tcp,
}

/// Flags of the SIP provider.
#[derive(Args, Clone, Debug)]
pub struct SipConfig {
    /// Trunk or PBX that places the calls; its name is resolved once, at the start
    #[arg(long, env = "DIALER_SIP_TRUNK", value_name = "HOST:PORT")]
    pub sip_trunk: Option<String>,
    /// Transport of SIP messages
    #[arg(long, env = "DIALER_SIP_TRANSPORT", value_enum, default_value_t)]
    pub sip_transport: Transport,
    /// Address and port for the trunk's messages; 0.0.0.0 selects the local address towards the
    /// trunk, port 0 a free port
    #[arg(
        long,
        env = "DIALER_SIP_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:0"
    )]
    pub sip_listen: SocketAddr,
    /// Address at which the trunk reaches this worker, if it differs from the address to listen on
    #[arg(long, env = "DIALER_SIP_PUBLIC_ADDRESS", value_name = "ADDRESS:PORT")]
    pub sip_public_address: Option<SocketAddr>,
    /// Domain of the caller's and the called numbers [default: the trunk's host]
    #[arg(long, env = "DIALER_SIP_DOMAIN")]
    pub sip_domain: Option<String>,
    /// Number or name shown to the contact
    #[arg(long, env = "DIALER_SIP_CALLER", default_value = "campaign")]
    pub sip_caller: String,
    /// User for digest authentication, if the trunk requires it
    #[arg(long, env = "DIALER_SIP_USER", requires = "sip_password")]
    pub sip_user: Option<String>,
    /// Password of that user; set it in the environment rather than on the command line
    #[arg(long, env = "DIALER_SIP_PASSWORD", hide_env_values = true)]
    pub sip_password: Option<Secret>,
    /// Port named in the worker's audio offer (PCMU, PCMA). The worker has no media: audio sent
    /// there is lost, unless another program on this host receives it [default: the discard port]
    #[arg(long, env = "DIALER_SIP_MEDIA_PORT", default_value_t = 9)]
    pub sip_media_port: u16,
    /// Seconds in which the trunk must react to a request. If it does not, the call's end is
    /// unknown and the trunk counts as failing, 1 to 30
    #[arg(
        long,
        env = "DIALER_SIP_RESPONSE_LIMIT_SECONDS",
        value_parser = within(1..=30),
        default_value_t = 5
    )]
    pub sip_response_limit_seconds: u32,
    /// Seconds of ringing after which the call is cancelled, 1 to 170
    #[arg(
        long,
        env = "DIALER_SIP_RING_LIMIT_SECONDS",
        value_parser = within(1..=170),
        default_value_t = 45
    )]
    pub sip_ring_limit_seconds: u32,
    /// Seconds on the call after which the worker hangs up, 1 to 86,400
    #[arg(
        long,
        env = "DIALER_SIP_TALK_LIMIT_SECONDS",
        value_parser = within(1..=86_400),
        default_value_t = 3_600
    )]
    pub sip_talk_limit_seconds: u32,
    /// Address to transfer answered calls to by REFER, like sip:agents@pbx.example
    #[arg(long, env = "DIALER_SIP_TRANSFER_TO", value_name = "URI")]
    pub sip_transfer_to: Option<String>,
    /// Seconds from answer to transfer, 0 to 86,400
    #[arg(
        long,
        env = "DIALER_SIP_TRANSFER_AFTER_SECONDS",
        value_parser = within(0..=86_400),
        default_value_t = 0
    )]
    pub sip_transfer_after_seconds: u32,
    /// Options of inbound calls.
    #[command(flatten)]
    pub inbound: InboundConfig,
}

/// Limits of a call's phases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub response: Duration,
    pub ring: Duration,
    pub talk: Duration,
}

impl SipConfig {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            response: Duration::from_secs(self.sip_response_limit_seconds.into()),
            ring: Duration::from_secs(self.sip_ring_limit_seconds.into()),
            talk: Duration::from_secs(self.sip_talk_limit_seconds.into()),
        }
    }
}
