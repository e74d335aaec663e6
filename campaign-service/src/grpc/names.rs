//! Resource names: `campaigns/{uuid}/contacts/{number}` and the like.
//!
//! A name that was read does not prove that its campaign exists for the caller. [`CampaignName`]
//! gives its id only if the campaign is within the caller's reach.

use crate::app::campaigns::Campaigns;
use crate::app::dispatch::batch::LeaseKey;
use crate::app::error::Error;
use campaign_domain::access::Reach;
use campaign_proto::v1;
use uuid::Uuid;

/// Campaign as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CampaignName(Uuid);

impl CampaignName {
    /// Returns the id, for a comparison with ids that are within reach.
    pub fn unproven(self) -> Uuid {
        self.0
    }

    /// Returns the id, if there is such a campaign within reach.
    pub async fn within(self, campaigns: &Campaigns, reach: &Reach) -> Result<Uuid, Error> {
        if campaigns.reaches(reach, self.0).await? {
            tracing::Span::current().record("campaign", tracing::field::display(self.0));
            return Ok(self.0);
        }
        Err(Error::NotFound(format!("campaigns/{}", self.0)))
    }
}

/// Lease as a caller names it.
#[derive(Clone, Copy, Debug)]
pub struct LeaseName {
    pub campaign: CampaignName,
    number: i64,
    token: Uuid,
}

impl LeaseName {
    /// Returns the key of the lease, if its campaign is within reach.
    pub async fn within(
        self,
        campaigns: &Campaigns,
        reach: &Reach,
    ) -> Result<Option<LeaseKey>, Error> {
        match self.campaign.within(campaigns, reach).await {
            Ok(campaign) => Ok(Some(LeaseKey { campaign, number: self.number, token: self.token })),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads the `N` parts of a name that a pattern leaves open, as in `campaigns/*/contacts/*`.
fn parts<'a, const N: usize>(name: &'a str, pattern: &str) -> Option<[&'a str; N]> {
    let (mut open, mut found) = ([""; N], 0);
    let mut segments = name.split('/');
    for wanted in pattern.split('/') {
        let segment = segments.next()?;
        if wanted == "*" {
            *open.get_mut(found)? = segment;
            found += 1;
        } else if wanted != segment {
            return None;
        }
    }
    (segments.next().is_none() && found == N).then_some(open)
}

fn malformed(field: &str, form: &str) -> Error {
    Error::invalid(field, format!("must have the form {form}"))
}

/// Reads an id in the one form that the service prints, so that no resource has two names.
fn uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(id)
}

fn campaign_name(text: &str) -> Option<CampaignName> {
    uuid(text).map(CampaignName)
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| *number >= 0 && number.to_string() == text)
}

pub fn campaign(field: &str, name: &str) -> Result<CampaignName, Error> {
    parts(name, "campaigns/*")
        .and_then(|[id]| campaign_name(id))
        .ok_or_else(|| malformed(field, "campaigns/{id}"))
}

/// Audit log as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogName<'a> {
    /// Log of a campaign.
    Campaign(CampaignName),
    /// Log of the suppression list; only of one number, if a number is named.
    Suppressions(Option<&'a str>),
}

pub fn log<'a>(field: &str, name: &'a str) -> Result<LogName<'a>, Error> {
    if name == "suppressions" {
        return Ok(LogName::Suppressions(None));
    }
    let of_number = parts(name, "suppressions/*").map(|[phone]| LogName::Suppressions(Some(phone)));
    of_number.or_else(|| campaign(field, name).ok().map(LogName::Campaign)).ok_or_else(|| {
        malformed(field, "campaigns/{id}, suppressions or suppressions/{E.164 number}")
    })
}

pub fn contact(field: &str, name: &str) -> Result<(CampaignName, i64), Error> {
    parts(name, "campaigns/*/contacts/*")
        .and_then(|[id, position]| Some((campaign_name(id)?, number(position)?)))
        .ok_or_else(|| malformed(field, "campaigns/{campaign}/contacts/{position}"))
}

pub fn import<'a>(field: &str, name: &'a str) -> Result<(CampaignName, &'a str), Error> {
    parts(name, "campaigns/*/imports/*")
        .and_then(|[id, import]| Some((campaign_name(id)?, import)))
        .ok_or_else(|| malformed(field, "campaigns/{campaign}/imports/{import_id}"))
}

pub fn suppression<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    parts(name, "suppressions/*")
        .map(|[number]| number)
        .ok_or_else(|| malformed(field, "suppressions/{E.164 number}"))
}

/// Reads a lease key; `None` if no such lease can exist.
pub fn lease(key: Option<&v1::LeaseKey>) -> Option<LeaseName> {
    let key = key?;
    let [id, lease] = parts(&key.lease, "campaigns/*/leases/*")?;
    Some(LeaseName {
        campaign: campaign_name(id)?,
        number: number(lease)?,
        token: Uuid::try_parse(&key.token).ok()?,
    })
}

pub fn campaign_name_of(campaign: Uuid) -> String {
    format!("campaigns/{campaign}")
}

pub fn lease_name(campaign: Uuid, lease: i64) -> String {
    format!("campaigns/{campaign}/leases/{lease}")
}

pub fn contact_name(campaign: Uuid, position: i64) -> String {
    format!("campaigns/{campaign}/contacts/{position}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_we_print_is_read() {
        let id = Uuid::from_u128(7);
        assert_eq!(contact("name", &contact_name(id, 12)).ok(), Some((CampaignName(id), 12)));
        let upper = id.to_string().to_uppercase().replace('0', "A");
        for bad in [
            String::new(),
            "campaigns".to_owned(),
            format!("campaigns/{id}/"),
            format!("/campaigns/{id}"),
            format!("campaigns/{}", id.simple()),
            format!("campaigns/{upper}"),
            format!("campaigns/{id}/contacts/1"),
        ] {
            assert!(campaign("name", &bad).is_err(), "{bad}");
        }
        for bad in ["-1", "+1", "01", "x", "", "9223372036854775808"] {
            let name = format!("campaigns/{id}/contacts/{bad}");
            assert!(contact("name", &name).is_err(), "{name}");
        }
    }
}
