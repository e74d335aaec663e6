//! Meaning of facts, launches, hours and lists, where design §2 to §5 says it to the letter.

mod hours;
mod lists;
mod moving;
mod spellings;
mod timing;

use crate::support::{Clients, TestDb, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use std::time::{Duration, SystemTime};

/// Returns settings that rerun all contacts with these exclusions.
fn rerun(exclude: v1::Exclusions) -> v1::LaunchSettings {
    v1::LaunchSettings { rerun_all_contacts: true, exclude: Some(exclude), ..Default::default() }
}

/// Moves all launches of the database back in time.
async fn age_launches(db: &TestDb, minutes: i32) {
    let sql = format!("UPDATE runs SET launched_at = launched_at - interval '{minutes} minutes'");
    db.client().await.batch_execute(&sql).await.unwrap();
}

/// Reports a fact with the time at which it happened. Returns its result.
async fn report_of_before(
    clients: &mut Clients,
    contact: &str,
    fact: Fact,
    ago: Duration,
) -> v1::InteractionResult {
    report_as(clients, contact, "", fact, Some(ago)).await
}

async fn report_as(
    clients: &mut Clients,
    contact: &str,
    attempt_id: &str,
    fact: Fact,
    ago: Option<Duration>,
) -> v1::InteractionResult {
    let interaction = v1::Interaction {
        interaction_id: uuid::Uuid::new_v4().to_string(),
        contact: contact.to_owned(),
        attempt_id: attempt_id.to_owned(),
        occur_time: ago.map(|ago| (SystemTime::now() - ago).into()),
        fact: Some(fact),
        record_time: None,
    };
    let (campaign, _) = contact.split_once("/contacts/").unwrap();
    let request = v1::RecordInteractionsRequest {
        parent: campaign.to_owned(),
        interactions: vec![v1::ReportedInteraction {
            phone_number: String::new(),
            interaction: Some(interaction),
        }],
    };
    let answer = clients.interactions.record_interactions(request).await.unwrap().into_inner();
    answer.results.into_iter().next().unwrap()
}

/// Reports a fact of a person who is named by number only.
async fn report_by_number(
    clients: &mut Clients,
    campaign: &str,
    number: &str,
    fact: Fact,
) -> v1::InteractionResult {
    let request = v1::RecordInteractionsRequest {
        parent: campaign.to_owned(),
        interactions: vec![v1::ReportedInteraction {
            phone_number: number.to_owned(),
            interaction: Some(v1::Interaction {
                interaction_id: uuid::Uuid::new_v4().to_string(),
                fact: Some(fact),
                ..Default::default()
            }),
        }],
    };
    let answer = clients.interactions.record_interactions(request).await.unwrap().into_inner();
    answer.results.into_iter().next().unwrap()
}

async fn add_contact(
    clients: &mut Clients,
    campaign: &str,
    number: &str,
    time_zone: &str,
) -> Result<String, tonic::Status> {
    let contact = v1::Contact {
        phone_number: number.to_owned(),
        time_zone: time_zone.to_owned(),
        ..Default::default()
    };
    let request = v1::CreateContactRequest {
        parent: campaign.to_owned(),
        contact: Some(contact),
        ..Default::default()
    };
    Ok(clients.contacts.create_contact(request).await?.into_inner().name)
}

async fn add_first(clients: &mut Clients, campaign: &str) -> String {
    add_contact(clients, campaign, &phone(0), "").await.unwrap()
}

async fn suppress(clients: &mut Clients, number: &str) -> v1::AddSuppressionsResponse {
    let request = v1::AddSuppressionsRequest {
        phone_numbers: vec![number.to_owned()],
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request).await.unwrap().into_inner()
}

async fn unsuppress(clients: &mut Clients, number: &str) -> Result<v1::Suppression, tonic::Status> {
    let request = v1::RemoveSuppressionRequest {
        name: format!("suppressions/{number}"),
        reason: "asked to".to_owned(),
        ..Default::default()
    };
    Ok(clients.contacts.remove_suppression(request).await?.into_inner())
}

fn everywhere() -> Fact {
    Fact::OptedOut(v1::OptedOut { channel: "text".to_owned(), everywhere: true })
}
