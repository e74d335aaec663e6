//! Implementation of ContactService.

use super::access::Admitted;
use super::check::{Check, MAX_NAME_LENGTH, mask_paths};
use super::convert::{invocation, reason_to_api, timestamp};
use super::facts::{interaction_to_api, outcome_to_api};
use super::rows::{as_row, contact_to_api, import_to_api, new_contact, problem_to_api};
use super::{imports, names, page};
use crate::app::campaigns::Campaigns;
use crate::app::error::Error;
use crate::app::people::contacts::Contacts;
use crate::app::people::erasing::Erasures;
use crate::app::people::listing::Listing;
use crate::app::people::suppressing::Suppressions;
use crate::store::contacts::NewContact;
use crate::store::imports::Problem;
use crate::store::suppressions::Suppression;
use campaign_domain::facts::Flags;
use campaign_domain::phone::{self, Reading};
use campaign_domain::standing::Standing;
use campaign_domain::subscriber::{canonical, spellings};
use campaign_proto::v1;
use campaign_proto::v1::contact_service_server::ContactService;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Default and largest size of a page, in items.
const PAGE: (i64, i64) = (100, 1_000);
const MAX_SUPPRESSIONS: usize = 1_000;

/// Implementation of ContactService.
#[derive(Clone, Debug)]
pub struct ContactApi {
    pub campaigns: Arc<Campaigns>,
    pub contacts: Contacts,
    pub suppressions: Suppressions,
    pub erasures: Erasures,
}

/// Rejects an actor or reason with the phone number, because the audit log keeps both for ever,
/// even after an erasure.
fn unnamed(check: &mut Check, phone: &str, actor: &str, reason: &str) {
    for (field, text) in [("actor", actor), ("reason", reason)] {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let has = |phone: &str| digits.contains(phone.trim_start_matches('+'));
        let names = !phone.is_empty() && spellings(phone).iter().any(|phone| has(phone));
        check.require(!names, field, "must not have the number: it is kept for ever");
    }
}

fn suppression_to_api(suppression: Suppression) -> v1::Suppression {
    v1::Suppression {
        name: format!("suppressions/{}", suppression.phone),
        phone_number: suppression.phone,
        source: suppression.source,
        create_time: Some(timestamp(suppression.created_at)),
        opted_out: suppression.is_wish,
    }
}

#[tonic::async_trait]
impl ContactService for ContactApi {
    async fn import_contacts(
        &self,
        request: Request<Streaming<v1::ImportContactsRequest>>,
    ) -> Result<Response<v1::Import>, Status> {
        let admitted = Admitted::of(&request)?;
        let received =
            imports::receive(&self.campaigns, &self.contacts, &admitted, request.into_inner())
                .await?;
        let (id, import_id) = (received.campaign, received.import_id);
        let report = self.contacts.get_import(id, &import_id, 0).await?;
        let mut import = import_to_api(id, &import_id, report);
        import.repeated_rows = received.repeated;
        if received.created > 0 {
            import.outside_run = self.campaigns.get(id).await?.0.leaves_out_new_contacts();
        }
        Ok(Response::new(import))
    }

    async fn get_import(
        &self,
        request: Request<v1::GetImportRequest>,
    ) -> Result<Response<v1::Import>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.get_ref();
        let (campaign, import_id) = names::import("name", &request.name)?;
        let mut check = Check::default();
        let after = request.problems_after_row;
        check.require(after >= 0, "problems_after_row", "must be 0 or more");
        check.finish()?;
        let id = campaign.within(&self.campaigns, &caller.reach()).await?;
        let report = self.contacts.get_import(id, import_id, after).await?;
        Ok(Response::new(import_to_api(id, import_id, report)))
    }

    async fn create_contact(
        &self,
        request: Request<v1::CreateContactRequest>,
    ) -> Result<Response<v1::Contact>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("parent", &request.parent)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let mut check = Check::default();
        let region = check.region("default_region", &request.default_region);
        check.require(request.contact.is_some(), "contact", "must be set");
        check.finish()?;
        let row = as_row(request.contact.unwrap_or_default());
        let mut reading = Reading { region, allows_costly: false };
        if reading.is_costly(&row.phone_number) {
            reading.allows_costly = self.campaigns.get(id).await?.0.config.allow_costly_numbers;
        }
        let new = new_contact("contact.", row, reading)?;
        Ok(Response::new(contact_to_api(id, self.contacts.create(id, &new).await?)))
    }

    async fn get_contact(
        &self,
        request: Request<v1::GetContactRequest>,
    ) -> Result<Response<v1::Contact>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let (campaign, position) = names::contact("name", &request.get_ref().name)?;
        let id = campaign.within(&self.campaigns, &caller.reach()).await?;
        Ok(Response::new(contact_to_api(id, self.contacts.get(id, position).await?)))
    }

    async fn list_contacts(
        &self,
        request: Request<v1::ListContactsRequest>,
    ) -> Result<Response<v1::ListContactsResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("parent", &request.parent)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let size = page::size(request.page_size, PAGE.0, PAGE.1)?;
        let last = page::last_item(&caller.tenant, "contacts", &request.page_token, |text| {
            text.parse().ok()
        })?;
        let from = last.map_or(0, |last: i64| last.saturating_add(1));
        let (contacts, next_page_token) = page::fill(
            (&caller.tenant, "contacts"),
            self.contacts.list(id, from, size + 1).await?,
            size,
            |contact| contact.position.to_string(),
            |contact| contact_to_api(id, contact),
        );
        Ok(Response::new(v1::ListContactsResponse { contacts, next_page_token }))
    }

    async fn update_contact(
        &self,
        request: Request<v1::UpdateContactRequest>,
    ) -> Result<Response<v1::Contact>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let Some(contact) = request.contact else {
            return Err(Error::invalid("contact", "must be set").into());
        };
        let (campaign, position) = names::contact("contact.name", &contact.name)?;
        let id = campaign.within(&self.campaigns, &caller.reach()).await?;
        let known = ["display_name", "time_zone", "priority", "attributes"];
        let paths = mask_paths(request.update_mask, &known)?;
        let mut check = Check::default();
        check.text("contact.display_name", &contact.display_name, 0..=MAX_NAME_LENGTH);
        check.time_zone("contact.time_zone", &contact.time_zone, true);
        let priority = check.priority("contact.priority", contact.priority);
        let attributes = check.attributes("contact.attributes", contact.attributes);
        check.finish()?;
        let edit = |stored: &mut NewContact| {
            for path in &paths {
                match path.as_str() {
                    "display_name" => stored.display_name.clone_from(&contact.display_name),
                    "time_zone" => stored.time_zone.clone_from(&contact.time_zone),
                    "priority" => stored.priority = priority,
                    _ => stored.attributes.clone_from(&attributes),
                }
            }
        };
        let updated = self.contacts.update(id, position, edit).await?;
        Ok(Response::new(contact_to_api(id, updated)))
    }

    async fn delete_contact(
        &self,
        request: Request<v1::DeleteContactRequest>,
    ) -> Result<Response<v1::Contact>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let (campaign, position) = names::contact("name", &request.get_ref().name)?;
        let id = campaign.within(&self.campaigns, &caller.reach()).await?;
        Ok(Response::new(contact_to_api(id, self.contacts.delete(id, position).await?)))
    }

    async fn get_contact_history(
        &self,
        request: Request<v1::GetContactHistoryRequest>,
    ) -> Result<Response<v1::ContactHistory>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let (campaign, position) = names::contact("name", &request.name)?;
        let id = campaign.within(&self.campaigns, &caller.reach()).await?;
        let size = page::size(request.page_size, PAGE.0, PAGE.1)?;
        let after = page::last_item(&caller.tenant, "history", &request.page_token, |text| {
            let (micros, key) = text.split_once(' ')?;
            Some((page::time(micros)?, key.to_owned()))
        })?;
        let after = after.as_ref().map(|(time, key)| (*time, key.as_str()));
        let limit = usize::try_from(size + 1).unwrap_or(usize::MAX);
        let (state, facts) = self.contacts.history(id, position, after, limit).await?;
        let (interactions, next_page_token) = page::fill(
            (&caller.tenant, "history"),
            facts,
            size,
            |fact| format!("{} {}", fact.recorded_at.timestamp_micros(), fact.id),
            |fact| interaction_to_api(id, fact),
        );
        let has = |flag| state.flags.intersects(flag);
        Ok(Response::new(v1::ContactHistory {
            name: request.name,
            refused: has(Flags::REFUSED),
            transferred: has(Flags::TRANSFERRED),
            longest_transfer_seconds: state.longest_transfer_seconds,
            success: has(Flags::SUCCESS),
            link_opened: has(Flags::LINK_OPENED),
            texted: has(Flags::TEXTED),
            attempts: state.attempts,
            last_outcome: state.last_outcome.map_or(0, |outcome| outcome_to_api(outcome).into()),
            interactions,
            next_page_token,
        }))
    }

    async fn explain_contact(
        &self,
        request: Request<v1::ExplainContactRequest>,
    ) -> Result<Response<v1::ContactExplanation>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let (campaign, position) = names::contact("name", &request.name)?;
        let id = campaign.within(&self.campaigns, &caller.reach()).await?;
        let explanation = self.contacts.explain(id, position).await?;
        let (standing, reason) = match explanation.standing {
            Standing::Waiting => (v1::ContactStanding::Waiting, None),
            Standing::WaitingRetry(_) => (v1::ContactStanding::WaitingRetry, None),
            Standing::Leased => (v1::ContactStanding::Leased, None),
            Standing::InCall => (v1::ContactStanding::InCall, None),
            Standing::Removed(reason) => (v1::ContactStanding::Removed, Some(reason)),
        };
        Ok(Response::new(v1::ContactExplanation {
            name: request.name,
            standing: standing.into(),
            reason: reason.map_or(0, |reason| reason_to_api(reason).into()),
            next_attempt_time: explanation.next_attempt_at.map(timestamp),
            message: explanation.message,
        }))
    }

    async fn add_suppressions(
        &self,
        request: Request<v1::AddSuppressionsRequest>,
    ) -> Result<Response<v1::AddSuppressionsResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let common = ["", "", &request.actor, &request.reason];
        let caller = invocation("AddSuppressions", &request, common, &caller)?.caller;
        let mut check = Check::default();
        check.require(
            (1..=MAX_SUPPRESSIONS).contains(&request.phone_numbers.len()),
            "phone_numbers",
            "must have 1 to 1000 entries",
        );
        check.text("source", &request.source, 1..=MAX_NAME_LENGTH);
        let region = check.region("default_region", &request.default_region);
        check.finish()?;
        let mut numbers = BTreeMap::new();
        let mut problems = Vec::new();
        for (row, raw) in (1..).zip(&request.phone_numbers) {
            match phone::to_e164(raw, region) {
                Ok(number) => {
                    numbers.insert(canonical(&number).into_owned(), number);
                }
                Err(problem) => problems.push(Problem {
                    row,
                    field: "phone_numbers".to_owned(),
                    reason: problem.to_string(),
                }),
            }
        }
        let numbers: Vec<String> = numbers.into_values().collect();
        let mut check = Check::default();
        for number in &numbers {
            unnamed(&mut check, number, &caller.actor, &request.reason);
        }
        check.finish()?;
        let why = Listing {
            source: &request.source,
            is_wish: request.opted_out,
            actor: &caller.actor,
            reason: &request.reason,
        };
        let added = self.suppressions.add(&caller.tenant, &numbers, &why).await?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Response::new(v1::AddSuppressionsResponse {
            added: count(added),
            already_listed: count(numbers.len().saturating_sub(added)),
            problems: problems.into_iter().map(problem_to_api).collect(),
        }))
    }

    async fn remove_suppression(
        &self,
        request: Request<v1::RemoveSuppressionRequest>,
    ) -> Result<Response<v1::Suppression>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let phone = names::suppression("name", &request.name)?;
        let common = ["", "", &request.actor, &request.reason];
        let caller = invocation("RemoveSuppression", &request, common, &caller)?.caller;
        let mut check = Check::default();
        unnamed(&mut check, phone, &caller.actor, &request.reason);
        check.finish()?;
        let removed = self.suppressions.remove(&caller, phone, &request.reason).await?;
        Ok(Response::new(suppression_to_api(removed)))
    }

    async fn get_suppression(
        &self,
        request: Request<v1::GetSuppressionRequest>,
    ) -> Result<Response<v1::Suppression>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let phone = names::suppression("name", &request.get_ref().name)?;
        Ok(Response::new(suppression_to_api(self.suppressions.get(&caller.tenant, phone).await?)))
    }

    async fn list_suppressions(
        &self,
        request: Request<v1::ListSuppressionsRequest>,
    ) -> Result<Response<v1::ListSuppressionsResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let size = page::size(request.page_size, PAGE.0, PAGE.1)?;
        let after = page::last_item(&caller.tenant, "suppressions", &request.page_token, |text| {
            Some(text.to_owned())
        })?;
        let (suppressions, next_page_token) = page::fill(
            (&caller.tenant, "suppressions"),
            self.suppressions.list(&caller.tenant, after.as_deref(), size + 1).await?,
            size,
            |found| found.phone.clone(),
            suppression_to_api,
        );
        Ok(Response::new(v1::ListSuppressionsResponse { suppressions, next_page_token }))
    }

    async fn erase_person(
        &self,
        request: Request<v1::ErasePersonRequest>,
    ) -> Result<Response<v1::ErasePersonResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let common = ["", "", &request.actor, &request.reason];
        let caller = invocation("ErasePerson", &request, common, &caller)?.caller;
        let mut check = Check::default();
        let region = check.region("default_region", &request.default_region);
        let phone = phone::to_e164(&request.phone_number, region).unwrap_or_else(|problem| {
            check.fail("phone_number", problem.to_string());
            String::new()
        });
        unnamed(&mut check, &phone, &caller.actor, &request.reason);
        check.finish()?;
        let erased =
            self.erasures.erase(&caller.tenant, &phone, &caller.actor, &request.reason).await?;
        Ok(Response::new(v1::ErasePersonResponse {
            contacts_erased: erased.contacts,
            interactions_deleted: erased.interactions,
            campaigns_searched: erased.campaigns,
        }))
    }
}
