//! Flags of the SIP provider.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::inbound::InboundConfig;
use crate::config::{Secret, within};

/// How messages travel.
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
    /// Trunk or PBX that takes the calls; its name is looked up once, at the start
    #[arg(long, env = "DIALER_SIP_TRUNK", value_name = "HOST:PORT")]
    pub sip_trunk: Option<String>,
    /// How messages travel
    #[arg(long, env = "DIALER_SIP_TRANSPORT", value_enum, default_value_t)]
    pub sip_transport: Transport,
    /// Where to listen for the trunk's messages; 0.0.0.0 takes the address on the way to the trunk,
    /// port 0 a free one
    #[arg(
        long,
        env = "DIALER_SIP_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:0"
    )]
    pub sip_listen: SocketAddr,
    /// How the trunk reaches us, when that differs from where we listen
    #[arg(long, env = "DIALER_SIP_PUBLIC_ADDRESS", value_name = "ADDRESS:PORT")]
    pub sip_public_address: Option<SocketAddr>,
    /// Domain of our and the called numbers [default: the trunk's host]
    #[arg(long, env = "DIALER_SIP_DOMAIN")]
    pub sip_domain: Option<String>,
    /// Number or name shown to whom we call
    #[arg(long, env = "DIALER_SIP_CALLER", default_value = "campaign")]
    pub sip_caller: String,
    /// User for digest authentication, if the trunk asks for it
    #[arg(long, env = "DIALER_SIP_USER", requires = "sip_password")]
    pub sip_user: Option<String>,
    /// Its password; better in the environment than on the command line
    #[arg(long, env = "DIALER_SIP_PASSWORD", hide_env_values = true)]
    pub sip_password: Option<Secret>,
    /// Port named in our offer of audio (PCMU, PCMA). There is no media here: what is sent to it is
    /// lost, unless something else on this host takes it [default: the discard port]
    #[arg(long, env = "DIALER_SIP_MEDIA_PORT", default_value_t = 9)]
    pub sip_media_port: u16,
    /// The trunk has to react to a request in this time, 1 to 30; if not, the call's end is unknown
    /// and the trunk counts as failing
    #[arg(
        long,
        env = "DIALER_SIP_RESPONSE_LIMIT_SECONDS",
        value_parser = within(1..=30),
        default_value_t = 5
    )]
    pub sip_response_limit_seconds: u32,
    /// After this time without an answer the call is cancelled, 1 to 170
    #[arg(
        long,
        env = "DIALER_SIP_RING_LIMIT_SECONDS",
        value_parser = within(1..=170),
        default_value_t = 45
    )]
    pub sip_ring_limit_seconds: u32,
    /// After this time on the call we hang up, 1 to 86,400
    #[arg(
        long,
        env = "DIALER_SIP_TALK_LIMIT_SECONDS",
        value_parser = within(1..=86_400),
        default_value_t = 3_600
    )]
    pub sip_talk_limit_seconds: u32,
    /// Hand answered calls over to this address by REFER, like sip:agents@pbx.example
    #[arg(long, env = "DIALER_SIP_TRANSFER_TO", value_name = "URI")]
    pub sip_transfer_to: Option<String>,
    /// When after the answer to hand over, 0 to 86,400
    #[arg(
        long,
        env = "DIALER_SIP_TRANSFER_AFTER_SECONDS",
        value_parser = within(0..=86_400),
        default_value_t = 0
    )]
    pub sip_transfer_after_seconds: u32,
    /// Calls that come in.
    #[command(flatten)]
    pub inbound: InboundConfig,
}

/// How long what may take.
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
