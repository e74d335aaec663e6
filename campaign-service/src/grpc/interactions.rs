//! Implementation of InteractionService, and the recording of reports from streams.

use super::access::Admitted;
use super::check::{Check, MAX_ID_LENGTH};
use super::convert::timestamp;
use super::names::CampaignName;
use super::{facts, names};
use crate::app::campaigns::Campaigns;
use crate::app::error::Error;
use crate::app::facts::Facts;
use crate::app::facts::report::{Outcome, Report};
use crate::app::people::contacts::Contacts;
use crate::app::people::inbound::Inbound;
use crate::app::people::suppressing::Suppressions;
use campaign_domain::access::Reach;
use campaign_domain::inbound::{Route, TurnAway};
use campaign_domain::phone::Reading;
use campaign_domain::subscriber::spellings;
use campaign_domain::{Instant, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction_service_server::InteractionService;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Most facts in one request.
const MAX_INTERACTIONS: usize = 1_000;

/// Implementation of InteractionService.
#[derive(Clone, Debug)]
pub struct InteractionApi {
    pub campaigns: Arc<Campaigns>,
    pub contacts: Contacts,
    pub facts: Arc<Facts>,
    pub suppressions: Suppressions,
    pub inbound: Inbound,
}

#[tonic::async_trait]
impl InteractionService for InteractionApi {
    async fn record_interactions(
        &self,
        request: Request<v1::RecordInteractionsRequest>,
    ) -> Result<Response<v1::RecordInteractionsResponse>, Status> {
        let reach = Admitted::of(&request)?.caller.reach_at_work();
        let request = request.into_inner();
        let campaign = names::campaign("parent", &request.parent)?;
        let id = campaign.within(&self.campaigns, &reach).await?;
        if !(1..=MAX_INTERACTIONS).contains(&request.interactions.len()) {
            let description = format!("must have 1 to {MAX_INTERACTIONS} entries");
            return Err(Error::invalid("interactions", description).into());
        }
        self.campaigns.get(id).await?;
        let count = request.interactions.len();
        let (interactions, strangers) = self.with_contacts(id, request.interactions).await?;
        // Interactions may name only this campaign, which is within reach already.
        let mut results =
            record_all(&self.campaigns, &self.facts, &Reach::All, Some(campaign), interactions)
                .await?;
        // The second contacts of people with two spellings add results that the caller did not ask for.
        results.truncate(count);
        let phones: Vec<String> = strangers.iter().map(|(_, phone)| phone.clone()).collect();
        let mut new = self.suppressions.add_strangers(id, &phones).await?;
        for (index, phone) in strangers {
            let is_new = new.remove(&phone);
            let outcome = if is_new { Outcome::Recorded } else { Outcome::Duplicate };
            let interaction_id = std::mem::take(&mut results[index].interaction_id);
            results[index] = facts::result(interaction_id, outcome);
            "no contact has the number; it is suppressed".clone_into(&mut results[index].message);
        }
        Ok(Response::new(v1::RecordInteractionsResponse { results }))
    }

    async fn route_inbound(
        &self,
        request: Request<v1::RouteInboundRequest>,
    ) -> Result<Response<v1::RouteInboundResponse>, Status> {
        let reach = Admitted::of(&request)?.caller.reach_at_work();
        let request = request.into_inner();
        let campaign = names::campaign("parent", &request.parent)?;
        let id = campaign.within(&self.campaigns, &reach).await?;
        let mut check = Check::default();
        let region = check.region("default_region", &request.default_region);
        let number = phone::to_e164(&request.phone_number, region).unwrap_or_else(|problem| {
            check.fail("phone_number", problem.to_string());
            String::new()
        });
        check.finish()?;
        let routing =
            self.inbound.route(id, &number, Reading::default().is_costly(&number)).await?;
        let contact = routing.contact.map(|position| names::contact_name(id, position));
        let (decision, reason, opening) = match routing.route {
            Route::Accept => (v1::InboundDecision::Accept, v1::TurnAwayReason::Unspecified, None),
            Route::TurnAway(why) => {
                let (reason, opening) = turn_away_to_api(why);
                (v1::InboundDecision::TurnAway, reason, opening)
            }
        };
        Ok(Response::new(v1::RouteInboundResponse {
            contact: contact.unwrap_or_default(),
            decision: decision.into(),
            reason: reason.into(),
            open_time: opening.map(timestamp),
            created: routing.is_created,
        }))
    }
}

fn turn_away_to_api(why: TurnAway) -> (v1::TurnAwayReason, Option<Instant>) {
    match why {
        TurnAway::Suppressed => (v1::TurnAwayReason::Suppressed, None),
        TurnAway::Refused => (v1::TurnAwayReason::Refused, None),
        TurnAway::NotRunning => (v1::TurnAwayReason::NotRunning, None),
        TurnAway::WindowClosed(opening) => (v1::TurnAwayReason::WindowClosed, opening),
        TurnAway::Unknown => (v1::TurnAwayReason::UnknownCaller, None),
    }
}

impl InteractionApi {
    /// Finds the contacts of interactions that name only a number, in any spelling. Without such a contact the
    /// interaction's contact stays empty. Returns too, with their indexes, numbers without a contact whose owners
    /// opted out of every campaign. If a person is two contacts by two spellings, an opt-out is repeated at the
    /// end for the second contact.
    async fn with_contacts(
        &self,
        id: Uuid,
        reported: Vec<v1::ReportedInteraction>,
    ) -> Result<(Vec<v1::Interaction>, Vec<(usize, String)>), Error> {
        let numbers: Vec<Option<String>> = reported
            .iter()
            .map(|reported| phone::to_e164(&reported.phone_number, None).ok())
            .collect();
        let known: Vec<String> = numbers.iter().flatten().cloned().collect();
        let positions: HashMap<String, i64> =
            self.contacts.find(id, &known).await?.into_iter().collect();
        let (mut strangers, mut twins) = (Vec::new(), Vec::new());
        let mut interactions = Vec::with_capacity(reported.len());
        for (index, (reported, number)) in reported.into_iter().zip(numbers).enumerate() {
            let mut interaction = reported.interaction.unwrap_or_default();
            if let Some(number) = number.filter(|_| interaction.contact.is_empty()) {
                let spellings = spellings(&number);
                let found = spellings.iter().filter_map(|number| positions.get(number.as_ref()));
                let mut names = found.map(|position| names::contact_name(id, *position));
                match names.next() {
                    Some(contact) => interaction.contact = contact,
                    None if facts::suppresses(&interaction) => {
                        strangers.push((index, number.clone()));
                    }
                    None => {}
                }
                let other = names.next().filter(|_| facts::is_opt_out(&interaction));
                twins.extend(
                    other.map(|contact| v1::Interaction { contact, ..interaction.clone() }),
                );
            }
            interactions.push(interaction);
        }
        interactions.extend(twins);
        Ok((interactions, strangers))
    }
}

/// Records facts of campaigns within reach, or of one campaign `only`. Returns one result for each, in order, when
/// all facts are durable.
pub async fn record_all(
    campaigns: &Campaigns,
    facts: &Arc<Facts>,
    reach: &Reach,
    only: Option<CampaignName>,
    interactions: Vec<v1::Interaction>,
) -> Result<Vec<v1::InteractionResult>, Error> {
    let mut results: Vec<v1::InteractionResult> = Vec::with_capacity(interactions.len());
    let mut by_campaign: BTreeMap<CampaignName, (Vec<usize>, Vec<Report>)> = BTreeMap::new();
    for (index, interaction) in interactions.into_iter().enumerate() {
        let id = &interaction.interaction_id;
        // An id that is too long is rejected, and not sent back whole.
        let interaction_id = id.chars().take(MAX_ID_LENGTH).collect();
        let outcome = match read(interaction, only) {
            Ok((campaign, report)) => {
                let (indexes, reports) = by_campaign.entry(campaign).or_default();
                indexes.push(index);
                reports.push(report);
                Outcome::Recorded
            }
            Err(error) => Outcome::Rejected(error.to_string()),
        };
        results.push(facts::result(interaction_id, outcome));
    }
    for (campaign, (indexes, reports)) in by_campaign {
        let recorded = match campaign.within(campaigns, reach).await {
            Ok(id) => facts.record(id, reports).await,
            Err(error) => Err(error),
        };
        let outcomes = match recorded {
            Ok(outcomes) => outcomes,
            Err(Error::NotFound(name)) => {
                vec![Outcome::Rejected(format!("{name} does not exist")); indexes.len()]
            }
            Err(error) => return Err(error),
        };
        for (index, outcome) in indexes.into_iter().zip(outcomes) {
            let interaction_id = std::mem::take(&mut results[index].interaction_id);
            results[index] = facts::result(interaction_id, outcome);
        }
    }
    Ok(results)
}

fn read(
    interaction: v1::Interaction,
    only: Option<CampaignName>,
) -> Result<(CampaignName, Report), Error> {
    if interaction.contact.is_empty() {
        return Err(Error::invalid(
            "contact",
            "is not set, and no contact has the phone_number; an opt-out of a number that is no contact's \
             needs opted_out.everywhere",
        ));
    }
    let (campaign, position) = names::contact("contact", &interaction.contact)?;
    if only.is_some_and(|only| only != campaign) {
        return Err(Error::invalid("contact", "must be of the campaign named by parent"));
    }
    Ok((campaign, facts::report(interaction, position)?))
}
