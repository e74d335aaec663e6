//! Flags of inbound calls.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;

use crate::config::within;

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
