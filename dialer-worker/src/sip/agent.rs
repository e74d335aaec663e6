//! AI agents that talk to the persons called: their addresses, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rsipstack::sip::{Header, Host, Uri};
use uuid::Uuid;

use super::agent_flags::{AgentConfig, AgentOf};
use super::digest::Login;
use super::target::Target;
use crate::call::Attempt;

/// Most bytes of attributes that an agent is told: a request must fit into one datagram.
const ATTRIBUTE_BYTES: usize = 2_048;

/// Agents of the campaigns.
pub(super) struct Agents {
    all: Vec<AgentOf>,
    /// Time from the person's answer in which the agent must answer.
    pub limit: Duration,
    /// Whether the agent is called when the person's phone rings, not when the person answers.
    pub is_warm: bool,
    pub login: Option<Arc<Login>>,
    hosts: Vec<Host>,
    prefixes: Vec<String>,
}

/// Person on the line, as the agent is told.
pub(super) struct Caller {
    /// Key of the attempt, or of the inbound call.
    pub key: String,
    /// Resource name of the contact.
    pub contact: String,
    pub phone_number: String,
    pub attributes: BTreeMap<String, String>,
}

impl Caller {
    /// Returns the contact of an attempt.
    pub fn of(attempt: &Attempt) -> Self {
        Self {
            key: attempt.key(),
            contact: attempt.contact.clone(),
            phone_number: attempt.phone_number.clone(),
            attributes: attempt.attributes.clone().into_iter().collect(),
        }
    }

    /// Returns a contact who calls in.
    pub fn calling_in(contact: String, phone_number: String) -> Self {
        let key = format!("in.{}", Uuid::new_v4());
        Self { key, contact, phone_number, attributes: BTreeMap::new() }
    }

    /// Returns the headers that name attempt and contact.
    pub fn names(&self) -> Vec<Header> {
        vec![
            Header::Other("X-Attempt".to_owned(), self.key.clone()),
            Header::Other("X-Contact".to_owned(), self.contact.clone()),
        ]
    }

    /// Returns what the agent is told of the person, one header each.
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = self.names();
        let mut bytes = 0;
        for (name, value) in &self.attributes {
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            bytes += name.len() + value.len();
            if bytes > ATTRIBUTE_BYTES {
                break;
            }
            headers.push(Header::Other(format!("X-Attribute-{name}"), value));
        }
        headers
    }
}

impl Agents {
    pub fn new(config: &AgentConfig) -> Self {
        let is_number = |text: &&String| text.starts_with('+');
        let allowed = &config.sip_agent_transfer_allow;
        Self {
            all: config.sip_agent.clone(),
            limit: Duration::from_secs(config.sip_agent_limit_seconds.into()),
            is_warm: config.sip_agent_warm,
            login: Login::of(config.sip_agent_user.as_deref(), config.sip_agent_password.as_ref()),
            hosts: allowed
                .iter()
                .filter(|text| !is_number(text))
                .filter_map(|text| text.parse().ok())
                .collect(),
            prefixes: allowed.iter().filter(is_number).cloned().collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the addresses of all agents.
    pub fn addresses(&self) -> impl Iterator<Item = &Uri> {
        self.all.iter().map(|agent| &agent.address)
    }

    /// Returns the address of the agent for a contact.
    pub fn address(&self, contact: &str) -> Option<&Uri> {
        let campaign = contact.split("/contacts/").next();
        let of = |wanted: Option<&str>| {
            self.all.iter().find(|agent| agent.campaign.as_deref() == wanted)
        };
        of(campaign).or_else(|| of(None)).map(|agent| &agent.address)
    }

    /// Whether the agent may transfer persons to this target.
    pub fn may_transfer_to(&self, target: &Target) -> bool {
        match target {
            Target::Number(number) => self.prefixes.iter().any(|prefix| number.starts_with(prefix)),
            Target::Address(address) => self.hosts.contains(&address.host_with_port.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_may_be_of_one_campaign() {
        let all: Vec<AgentOf> =
            ["campaigns/a=sip:one@10.0.0.1:5062", "sip:rest@agents.example;transport=tls"]
                .iter()
                .map(|text| text.parse().expect("right"))
                .collect();
        let config = AgentConfig {
            sip_agent: all,
            sip_agent_limit_seconds: 2,
            sip_agent_warm: false,
            sip_agent_user: None,
            sip_agent_password: None,
            sip_agent_transfer_allow: Vec::new(),
        };
        let agents = Agents::new(&config);
        let user =
            |contact: &str| agents.address(contact).and_then(|uri| uri.user().map(str::to_owned));
        assert_eq!(user("campaigns/a/contacts/1").as_deref(), Some("one"));
        assert_eq!(user("campaigns/b/contacts/1").as_deref(), Some("rest"));
        for wrong in ["", "agent", "campaigns/a=", "campaigns/a=agent@host"] {
            assert!(wrong.parse::<AgentOf>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_agent_is_told_attributes_in_headers_that_nothing_can_break() {
        let attributes =
            [("first name", "Zoë"), ("note", "a\r\nVia: b"), ("z", &"x".repeat(3_000))];
        let caller = Caller {
            key: "a.1".to_owned(),
            contact: "campaigns/a/contacts/c".to_owned(),
            phone_number: "+4930".to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let lines: Vec<String> = caller.headers().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "X-Attempt: a.1",
                "X-Contact: campaigns/a/contacts/c",
                "X-Attribute-first-name: Zoë",
                "X-Attribute-note: aVia: b",
            ]
        );
    }
}
