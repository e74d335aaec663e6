//! Flags of the SIP provider, and of inbound calls.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use campaign_process::Secret;
use clap::Args;

use super::agent_flags::AgentConfig;
use super::identity::IdentityConfig;
use super::keys::Key;
use super::transport::Transport;
use super::trunk_address::TrunkAddress;
use crate::flags::within;

/// Flags of the SIP provider.
#[derive(Args, Clone, Debug)]
pub struct SipConfig {
    /// Trunk or PBX that places the calls; its name is resolved once, at the start. Without a port
    /// it is a domain, whose servers DNS names (SRV). Further addresses take the calls that one
    /// before fails, or has no line for: ";calls=20" is the most calls at a time
    #[arg(
        long,
        env = "DIALER_SIP_TRUNK",
        value_name = "HOST[:PORT][;calls=N]",
        value_delimiter = ','
    )]
    pub sip_trunk: Vec<TrunkAddress>,
    /// DNS server that knows the trunk's names [default: the system's]
    #[arg(long, env = "DIALER_SIP_NAME_SERVER", value_name = "ADDRESS:PORT")]
    pub sip_name_server: Option<SocketAddr>,
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
    /// User for digest authentication, if the trunk requires it
    #[arg(long, env = "DIALER_SIP_USER", requires = "sip_password")]
    pub sip_user: Option<String>,
    /// Password of that user; set it in the environment rather than on the command line
    #[arg(long, env = "DIALER_SIP_PASSWORD", hide_env_values = true)]
    pub sip_password: Option<Secret>,
    /// Register the user at the trunk, as trunks want that have no address of yours
    #[arg(long, env = "DIALER_SIP_REGISTER", requires = "sip_user")]
    pub sip_register: bool,
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
    /// Seconds after which a call ends on both sides unless one of them refreshes it, 90 to 86,400.
    /// A trunk that knows session timers then ends the calls of a worker that was killed
    #[arg(
        long,
        env = "DIALER_SIP_SESSION_EXPIRES_SECONDS",
        value_parser = within(90..=86_400),
        default_value_t = 600
    )]
    pub sip_session_expires_seconds: u32,
    /// Key that opts the contact out and hangs up: 0 to 9, * or #. The trunk must tell keys by INFO
    #[arg(long, env = "DIALER_SIP_OPT_OUT_KEY", value_name = "KEY")]
    pub sip_opt_out_key: Option<Key>,
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
    /// Certificates to trust in TLS connections, in PEM [default: the system's]
    #[arg(long, env = "DIALER_SIP_CA_FILE", value_name = "FILE")]
    pub sip_ca_file: Option<PathBuf>,
    /// Options of the caller's identity.
    #[command(flatten)]
    pub identity: IdentityConfig,
    /// Options of AI agents.
    #[command(flatten)]
    pub agent: AgentConfig,
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

/// Flags of inbound calls.
#[derive(Args, Clone, Debug)]
pub struct InboundConfig {
    /// Campaign of all callers, "campaigns/{id}", or of callers of one number,
    /// "NUMBER=campaigns/{id}"; repeatable. Without it no caller is answered
    #[arg(
        long,
        env = "DIALER_SIP_INBOUND_CAMPAIGN",
        value_name = "[NUMBER=]CAMPAIGN",
        value_delimiter = ','
    )]
    pub sip_inbound_campaign: Vec<InboundCampaign>,
    /// Country of callers' numbers without a country code, like US [default: such callers are
    /// rejected]
    #[arg(long, env = "DIALER_SIP_INBOUND_REGION", value_parser = region, value_name = "COUNTRY")]
    pub sip_inbound_region: Option<String>,
    /// Address that inbound calls may come from; repeatable [default: the trunk's]
    #[arg(long, env = "DIALER_SIP_INBOUND_ALLOW", value_name = "ADDRESS", value_delimiter = ',')]
    pub sip_inbound_allow: Vec<IpAddr>,
    /// Most inbound calls that are in progress or not yet recorded, 1 to 10,000
    #[arg(
        long,
        env = "DIALER_SIP_INBOUND_MAX_CALLS",
        value_parser = within(1..=10_000),
        default_value_t = 50
    )]
    pub sip_inbound_max_calls: u32,
    /// Prefer the caller's number in P-Asserted-Identity. Set it only if the trunk removes the
    /// callers' own header
    #[arg(long, env = "DIALER_SIP_TRUST_ASSERTED_IDENTITY")]
    pub sip_trust_asserted_identity: bool,
}

/// Campaign for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundCampaign {
    /// Called number, without a plus; `None` means any other.
    called: Option<String>,
    campaign: String,
}

impl FromStr for InboundCampaign {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (called, campaign) = match text.split_once('=') {
            Some((called, campaign)) => (Some(bare(called)), campaign),
            None => (None, text),
        };
        let id = campaign.strip_prefix("campaigns/").unwrap_or_default();
        if id.is_empty() || id.contains('/') || called == Some("") {
            return Err("write it like campaigns/{id} or +4930555000=campaigns/{id}");
        }
        Ok(Self { called: called.map(str::to_owned), campaign: campaign.to_owned() })
    }
}

/// Returns the campaign for callers of the number `called`.
pub(super) fn campaign<'a>(campaigns: &'a [InboundCampaign], called: &str) -> Option<&'a str> {
    let called = bare(called);
    let named = campaigns.iter().find(|entry| entry.called.as_deref() == Some(called));
    let entry = named.or_else(|| campaigns.iter().find(|entry| entry.called.is_none()))?;
    Some(&entry.campaign)
}

/// Strips the plus, because trunks write numbers with or without it.
fn bare(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}

fn region(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err("give two capital letters, like US".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_called_number_chooses_and_one_campaign_takes_the_rest() {
        let campaigns: Vec<InboundCampaign> =
            ["+4930555000=campaigns/a", "4930555001=campaigns/b", "campaigns/c"]
                .map(|text| text.parse().expect("right"))
                .to_vec();
        for (called, expected) in [
            ("4930555000", "campaigns/a"),
            ("+4930555000", "campaigns/a"),
            ("+4930555001", "campaigns/b"),
            ("+4930555002", "campaigns/c"),
        ] {
            assert_eq!(campaign(&campaigns, called), Some(expected), "{called}");
        }
        assert_eq!(campaign(&campaigns[..2], "+4930555002"), None);
    }

    #[test]
    fn what_names_no_campaign_is_refused() {
        for text in ["", "a", "campaigns/", "=campaigns/a", "1=a", "campaigns/a/contacts/1"] {
            assert!(text.parse::<InboundCampaign>().is_err(), "{text}");
        }
        assert!(region("US").is_ok() && region("us").is_err() && region("USA").is_err());
    }
}
