//! Flags of AI agents.

use std::str::FromStr;

use campaign_process::Secret;
use clap::Args;
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Scheme, Uri};

use super::transport::Transport;
use crate::flags::{of_campaign, within};

/// Flags of AI agents.
#[derive(Args, Clone, Debug)]
pub struct AgentConfig {
    /// SIP address of the AI agent that talks to the persons called, for all campaigns, or for one:
    /// "campaigns/{id}=URI"; repeatable
    #[arg(
        long,
        env = "DIALER_SIP_AGENT",
        value_name = "[CAMPAIGN=]URI",
        value_delimiter = ',',
        conflicts_with = "sip_transfer_to"
    )]
    pub sip_agent: Vec<AgentOf>,
    /// Seconds from the person's answer in which the agent must answer; else the call is hung up and
    /// counts as abandoned, 1 to 30
    #[arg(
        long,
        env = "DIALER_SIP_AGENT_LIMIT_SECONDS",
        value_parser = within(1..=30),
        default_value_t = 2
    )]
    pub sip_agent_limit_seconds: u32,
    /// Call the agent, on hold, when the person's phone rings; it then waits for persons who do not
    /// answer, too
    #[arg(long, env = "DIALER_SIP_AGENT_WARM", requires = "sip_agent")]
    pub sip_agent_warm: bool,
    /// User for digest authentication at the agent, if it requires it
    #[arg(long, env = "DIALER_SIP_AGENT_USER", requires = "sip_agent_password")]
    pub sip_agent_user: Option<String>,
    /// Password of that user; set it in the environment rather than on the command line
    #[arg(long, env = "DIALER_SIP_AGENT_PASSWORD", hide_env_values = true)]
    pub sip_agent_password: Option<Secret>,
    /// Target that the agent may transfer persons to: the beginning of a number, like +1415, or a
    /// host; repeatable. Without it, no transfer is carried out
    #[arg(
        long,
        env = "DIALER_SIP_AGENT_TRANSFER_ALLOW",
        value_name = "NUMBER|HOST",
        value_delimiter = ','
    )]
    pub sip_agent_transfer_allow: Vec<String>,
}

impl AgentConfig {
    /// Whether an agent is reached by this transport.
    pub(super) fn uses(&self, transport: Transport) -> bool {
        self.sip_agent.iter().any(|agent| agent.transport() == transport)
    }
}

/// Agent of a campaign, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOf {
    /// Resource name; `None` means all other campaigns.
    pub(super) campaign: Option<String>,
    pub(super) address: Uri,
}

impl FromStr for AgentOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (campaign, address) = of_campaign(text);
        let address = Uri::try_from(address).ok().filter(|uri| uri.scheme == Some(Scheme::Sip));
        let address = address
            .ok_or("write it like sip:agent@host;transport=tls or campaigns/{id}=sip:agent@host")?;
        Ok(Self { campaign, address })
    }
}

impl AgentOf {
    fn transport(&self) -> Transport {
        match self.address.transport() {
            Some(rsipstack::sip::Transport::Tcp) => Transport::Tcp,
            Some(rsipstack::sip::Transport::Tls) => Transport::Tls,
            _ => Transport::Udp,
        }
    }
}
