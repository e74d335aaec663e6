//! Caller's identity in calls: numbers shown, number formats, and headers of one's own.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use rsipstack::sip::Header;

use crate::call::Attempt;
use crate::flags::{of_campaign, within};

/// Longest value of a header of one's own, in bytes.
const HEADER_BYTES: usize = 500;

/// Flags of the caller's identity.
#[derive(Args, Clone, Debug)]
pub struct IdentityConfig {
    /// Number or name shown to the contact, for all campaigns, or for one: "campaigns/{id}=NUMBER".
    /// Several of one campaign take turns [default: campaign]
    #[arg(
        long,
        env = "DIALER_SIP_CALLER",
        value_name = "[CAMPAIGN=]NUMBER",
        value_delimiter = ','
    )]
    pub sip_caller: Vec<CallerId>,
    /// Most calls of one such number in 24 hours, counted by this worker, 1 to 1,000,000 [default:
    /// no limit]
    #[arg(long, env = "DIALER_SIP_CALLER_CALLS_PER_DAY", value_parser = within(1..=1_000_000))]
    pub sip_caller_calls_per_day: Option<u32>,
    /// Percentage of calls that must be answered: a number with less in its last 100 calls that
    /// rang rests for 24 hours, unless all of its campaign would, 1 to 99 [default: none]
    #[arg(long, env = "DIALER_SIP_CALLER_MIN_ANSWER_PERCENT", value_parser = within(1..=99))]
    pub sip_caller_min_answer_percent: Option<u32>,
    /// Name shown beside the number
    #[arg(long, env = "DIALER_SIP_CALLER_NAME")]
    pub sip_caller_name: Option<String>,
    /// Assert the number in P-Asserted-Identity, for trunks that take it from there (RFC 3325)
    #[arg(long, env = "DIALER_SIP_ASSERT_IDENTITY")]
    pub sip_assert_identity: bool,
    /// Form of called numbers
    #[arg(long, env = "DIALER_SIP_NUMBER_FORMAT", value_enum, default_value_t)]
    pub sip_number_format: NumberFormat,
    /// Mark called numbers as such, by ;user=phone
    #[arg(long, env = "DIALER_SIP_USER_PHONE")]
    pub sip_user_phone: bool,
    /// Header of each call, like "X-Account: 42" or "X-Customer: {customer_id}" with an attribute of
    /// the contact; repeatable
    #[arg(long, env = "DIALER_SIP_HEADER", value_name = "NAME: VALUE", value_delimiter = '\n')]
    pub sip_header: Vec<HeaderOf>,
}

/// Form of a called number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NumberFormat {
    /// +4930123456
    #[default]
    Plus,
    /// 4930123456
    Digits,
    /// 004930123456
    Zeros,
}

impl NumberFormat {
    /// Returns a number in this form. Other texts stay as they are.
    pub(super) fn of(self, number: &str) -> String {
        match (self, number.strip_prefix('+')) {
            (Self::Plus, _) | (_, None) => number.to_owned(),
            (Self::Digits, Some(digits)) => digits.to_owned(),
            (Self::Zeros, Some(digits)) => format!("00{digits}"),
        }
    }
}

/// Number shown to the contacts of a campaign, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerId {
    /// Resource name; `None` means all other campaigns.
    pub(super) campaign: Option<String>,
    pub(super) number: String,
}

impl FromStr for CallerId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (campaign, number) = of_campaign(text);
        let is_user = |c: char| c.is_ascii_alphanumeric() || "+-_.!~*'()&$/".contains(c);
        if number.is_empty() || !number.chars().all(is_user) {
            return Err("write it like +4930555000 or campaigns/{id}=+4930555000");
        }
        Ok(Self { campaign, number: number.to_owned() })
    }
}

/// Header of each call. Its value may name attributes of the contact in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderOf {
    name: String,
    value: String,
}

impl FromStr for HeaderOf {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("write it like \"X-Account: 42\"")?;
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-._!%*+`'~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err("the header's name may have letters, digits and hyphens");
        }
        // Anything else is the stack's, and a second one would break the call.
        let is_free = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-"))
            || ["P-Charge-Info", "Identity", "Privacy", "Diversion", "Subject", "Priority"]
                .iter()
                .any(|free| free.eq_ignore_ascii_case(name));
        if !is_free {
            return Err(
                "only X- headers, P-Charge-Info, Identity, Privacy, Diversion, Subject and \
                        Priority can be set",
            );
        }
        Ok(Self { name: name.to_owned(), value: value.trim().to_owned() })
    }
}

impl HeaderOf {
    /// Returns the header for a contact. An attribute that the contact has not is empty.
    pub(super) fn of(&self, attempt: &Attempt) -> Header {
        let mut value = String::new();
        let mut rest = self.value.as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            value.push_str(before);
            let Some((attribute, behind)) = behind.split_once('}') else {
                rest = behind;
                break;
            };
            value.push_str(attempt.attributes.get(attribute).map_or("", String::as_str));
            rest = behind;
        }
        value.push_str(rest);
        let mut printable: String = value.chars().filter(|c| !c.is_control()).collect();
        while printable.len() > HEADER_BYTES {
            printable.pop();
        }
        Header::Other(self.name.clone(), printable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Leave;
    use tokio::time::Instant;

    fn attempt(attributes: &[(&str, &str)]) -> Attempt {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Attempt {
            attempt_id: "1".to_owned(),
            contact: "campaigns/a/contacts/b".to_owned(),
            phone_number: "+4930".to_owned(),
            display_name: String::new(),
            time_zone: String::new(),
            attributes: attributes.iter().map(owned).collect(),
            attempt_number: 1,
            link: String::new(),
            leave: Leave::until(Instant::now()),
        }
    }

    #[test]
    fn numbers_have_the_form_that_the_trunk_wants() {
        assert_eq!(NumberFormat::Plus.of("+4930"), "+4930");
        assert_eq!(NumberFormat::Digits.of("+4930"), "4930");
        assert_eq!(NumberFormat::Zeros.of("+4930"), "004930");
        assert_eq!(NumberFormat::Zeros.of("desk"), "desk");
    }

    #[test]
    fn headers_carry_attributes_and_nothing_breaks_out() {
        let header: HeaderOf = "X-Customer: {id}/{none}/{id".parse().expect("right");
        let of = |value| header.of(&attempt(&[("id", value)])).to_string();
        assert_eq!(of("7"), "X-Customer: 7//id");
        assert_eq!(of("a\r\nVia: b"), "X-Customer: aVia: b//id");
        assert_eq!(of(&"ü".repeat(400)).len(), "X-Customer: ".len() + HEADER_BYTES);
        for wrong in ["", "X-A", ": b", "Via: x", "To: x", "X A: b", "Content-Length: 3"] {
            assert!(wrong.parse::<HeaderOf>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn callers_are_numbers_or_names() {
        let of: CallerId = "campaigns/a=+4930555000".parse().expect("right");
        assert_eq!(
            (of.campaign.as_deref(), of.number.as_str()),
            (Some("campaigns/a"), "+4930555000")
        );
        assert_eq!("campaign".parse::<CallerId>().expect("right").campaign, None);
        for wrong in ["", "a=+49", "campaigns/a=", "+49 30", "a@b", "<a>"] {
            assert!(wrong.parse::<CallerId>().is_err(), "{wrong}");
        }
    }
}
