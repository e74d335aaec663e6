//! Parsers of flags.

use std::ops::RangeInclusive;

use clap::builder::RangedI64ValueParser;

/// Returns a parser of whole numbers in a range, both ends included.
pub(crate) fn within(range: RangeInclusive<i64>) -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(range)
}

/// Reads the name of a campaign.
pub(crate) fn campaign(text: &str) -> Result<String, String> {
    match text.strip_prefix("campaigns/") {
        Some(id) if !id.is_empty() && !id.contains('/') => Ok(text.to_owned()),
        _ => Err("write it as campaignctl shows it: campaigns/ and the id".to_owned()),
    }
}

/// Splits `campaigns/{id}=VALUE` into campaign and value. Without a campaign, the value is of all
/// others.
pub(crate) fn of_campaign(text: &str) -> (Option<String>, &str) {
    match text.split_once('=') {
        Some((campaign, value)) if campaign.starts_with("campaigns/") => {
            (Some(campaign.to_owned()), value)
        }
        _ => (None, text),
    }
}
