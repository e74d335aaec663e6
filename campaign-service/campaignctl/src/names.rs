//! Names that people give campaigns: `campaigns/ID`, the ID, or a display name that only one campaign has.

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::nearness::Near;
use crate::show::state;
use campaign_proto::v1;
use uuid::Uuid;

/// Campaigns per page.
const PAGE: i32 = 200;
/// Most campaigns that are listed when a name is ambiguous.
const MAX_LISTED: usize = 10;

/// Returns the resource name of a campaign.
pub async fn campaign(connection: &Connection, text: &str) -> Result<String, Failure> {
    let id = text.strip_prefix("campaigns/").unwrap_or(text);
    if let Ok(id) = Uuid::try_parse(id) {
        return Ok(format!("campaigns/{id}"));
    }
    let (found, near) = called(connection, text).await?;
    match found.as_slice() {
        [one] => Ok(one.name.clone()),
        [] => {
            let message = format!("no campaign is named {text:?}{}", near.question());
            Err(Failure::new(Exit::NotFound, message)
                .next("campaignctl campaigns list shows all campaigns"))
        }
        several => {
            let listed = several.iter().take(MAX_LISTED);
            let listed: Vec<String> =
                listed.map(|one| format!("{} ({})", one.name, state(one.state()))).collect();
            let count = several.len();
            let message = format!("{count} campaigns are named {text:?}: {}", listed.join(", "));
            Err(Failure::usage(message).next("give the campaigns/ID of the one you mean"))
        }
    }
}

/// Returns all campaigns with this display name. If there is none, the names near it are known, too.
async fn called(connection: &Connection, name: &str) -> Result<(Vec<v1::Campaign>, Near), Failure> {
    let (mut near, mut is_found) = (Near::new(name), false);
    let fits = |one: &v1::Campaign| {
        let is_named = one.display_name == name;
        is_found |= is_named;
        if !is_found {
            near.offer(&one.display_name, &one.display_name);
        }
        is_named
    };
    let found = all(connection, fits, String::new()).await?;
    Ok((found, near))
}

/// Returns all campaigns that fit, newest first, from the page of this token on.
pub async fn all(
    connection: &Connection,
    mut fits: impl FnMut(&v1::Campaign) -> bool,
    mut page_token: String,
) -> Result<Vec<v1::Campaign>, Failure> {
    let mut found = Vec::new();
    loop {
        let page = page(connection, PAGE, page_token).await?;
        found.extend(page.campaigns.into_iter().filter(&mut fits));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Returns a page of the campaigns, newest first.
pub async fn page(
    connection: &Connection,
    page_size: i32,
    page_token: String,
) -> Result<v1::ListCampaignsResponse, Failure> {
    let request = v1::ListCampaignsRequest { page_size, page_token };
    Ok(connection.campaigns().list_campaigns(request).await?.into_inner())
}

/// Fetches a campaign.
pub async fn get(connection: &Connection, text: &str) -> Result<v1::Campaign, Failure> {
    let name = campaign(connection, text).await?;
    let request = v1::GetCampaignRequest { name };
    Ok(connection.campaigns().get_campaign(request).await?.into_inner())
}

/// Returns the resource name of a contact, given as `CAMPAIGN/contacts/N` or `CAMPAIGN/N`.
pub async fn contact(connection: &Connection, text: &str) -> Result<String, Failure> {
    let parts = text.rsplit_once("/contacts/").or_else(|| text.rsplit_once('/'));
    match parts {
        Some((of, number)) if number.parse::<u64>().is_ok() => {
            Ok(format!("{}/contacts/{number}", campaign(connection, of).await?))
        }
        _ => Err(Failure::usage(format!(
            "{text:?} names no contact; write it as in campaigns/ID/contacts/0, or CAMPAIGN/0"
        ))),
    }
}

/// Returns the progress of a campaign.
pub async fn progress(
    connection: &Connection,
    name: &str,
) -> Result<v1::CampaignProgress, Failure> {
    let request = v1::GetCampaignProgressRequest { name: name.to_owned() };
    Ok(connection.campaigns().get_campaign_progress(request).await?.into_inner())
}
