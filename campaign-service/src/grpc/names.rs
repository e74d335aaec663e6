//! Resource names: `campaigns/{uuid}/contacts/{number}` and the like.

use crate::app::error::Error;
use crate::app::leasing::LeaseKey;
use campaign_proto::v1;
use uuid::Uuid;

/// Reads the parts of a name that a pattern leaves open, as in `campaigns/*/contacts/*`.
fn parts<'a>(name: &'a str, pattern: &str) -> Option<Vec<&'a str>> {
    let mut open = Vec::new();
    let mut segments = name.split('/');
    for wanted in pattern.split('/') {
        let segment = segments.next()?;
        if wanted == "*" {
            open.push(segment);
        } else if wanted != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(open)
}

fn malformed(field: &str, form: &str) -> Error {
    Error::invalid(field, format!("must have the form {form}"))
}

/// Reads an id in the one form we print, so that no resource has two names.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.to_string() == text)
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| *number >= 0 && number.to_string() == text)
}

pub fn campaign(field: &str, name: &str) -> Result<Uuid, Error> {
    parts(name, "campaigns/*")
        .and_then(|open| uuid(open[0]))
        .ok_or_else(|| malformed(field, "campaigns/{id}"))
}

pub fn contact(field: &str, name: &str) -> Result<(Uuid, i64), Error> {
    parts(name, "campaigns/*/contacts/*")
        .and_then(|open| Some((uuid(open[0])?, number(open[1])?)))
        .ok_or_else(|| malformed(field, "campaigns/{campaign}/contacts/{position}"))
}

pub fn import<'a>(field: &str, name: &'a str) -> Result<(Uuid, &'a str), Error> {
    parts(name, "campaigns/*/imports/*")
        .and_then(|open| Some((uuid(open[0])?, open[1])))
        .ok_or_else(|| malformed(field, "campaigns/{campaign}/imports/{import_id}"))
}

pub fn suppression<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    parts(name, "suppressions/*")
        .map(|open| open[0])
        .ok_or_else(|| malformed(field, "suppressions/{E.164 number}"))
}

/// Reads a lease key; `None` names no lease that could exist.
pub fn lease_key(key: Option<&v1::LeaseKey>) -> Option<LeaseKey> {
    let key = key?;
    let open = parts(&key.lease, "campaigns/*/leases/*")?;
    Some(LeaseKey {
        campaign: uuid(open[0])?,
        number: number(open[1])?,
        token: Uuid::try_parse(&key.token).ok()?,
    })
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
        assert_eq!(contact("name", &contact_name(id, 12)).ok(), Some((id, 12)));
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
