//! Inbound calls.

use super::adding::{add, find_in_any_spelling};
use super::erased::Erased;
use crate::app::error::Result;
use crate::app::existing;
use crate::store::contacts::{self, NewContact, Subject};
use crate::store::{Db, Gate, Tx, agenda, campaigns, erasures, groups, states, suppressions};
use campaign_domain::campaign::Campaign;
use campaign_domain::facts::Flags;
use campaign_domain::inbound::{InboundCaller, Reception, Route, route};
use campaign_domain::schedule::Hours;
use uuid::Uuid;

/// Decision about a caller.
#[derive(Debug)]
pub struct Routing {
    /// Position of the contact; `None` if the caller is no contact.
    pub contact: Option<i64>,
    pub route: Route,
    /// Whether the contact was added just now.
    pub is_created: bool,
}

/// Use case of a person who calls in.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub db: Db,
    pub erased: Erased,
}

impl Inbound {
    /// Decides about a caller, by number in E.164. A caller who is to be answered is or becomes a
    /// contact, and is not called while the call may last. A costly number becomes no contact
    /// unless the campaign allows costly numbers, because callers can show any number.
    pub async fn route(&self, id: Uuid, phone: &str, is_costly: bool) -> Result<Routing> {
        let mut connection = self.db.connect().await?;
        // The gate is held exclusively, because the decision must not be older than an acknowledged
        // opt-out. No import may add the number between the look-up and the insert.
        let tx = connection.begin(Gate::ExclusiveAdding(id)).await?;
        let campaign = existing(&tx, id).await?;
        let subject = find(&tx, id, phone).await?;
        let is_suppressed = match &subject {
            Some(subject) => subject.candidate.is_suppressed,
            None => {
                let keys = erasures::key_ids(&tx).await?;
                !suppressions::among(&tx, &campaign.tenant, &[phone]).await?.is_empty()
                    || !self.erased.among(&tx, &keys, &campaign.tenant, &[phone]).await?.is_empty()
            }
        };
        let caller = subject.as_ref().map_or(InboundCaller::Unknown, |subject| {
            let state = subject.candidate.state.clone().seen_in(campaign.epoch);
            InboundCaller::Known { has_refused: state.flags.intersects(Flags::REFUSED) }
        });
        let zone = subject.as_ref().map_or("", |subject| &subject.time_zone);
        let reception = Reception {
            state: campaign.state,
            takes_callers: campaign.is_live_forever()
                && (!is_costly || campaign.config.allow_costly_numbers),
            hours: hours(&campaign, zone, &tx),
        };
        let route = route(caller, is_suppressed, &reception);
        // A deleted contact is not named, but its opt-out counts.
        let known = subject.filter(|subject| !subject.is_deleted);
        let known = known.map(|subject| subject.candidate.position);
        if route != Route::Accept {
            return Ok(Routing { contact: known, route, is_created: false });
        }
        let contact = match known {
            Some(position) => position,
            None => add_caller(&tx, &campaign, phone).await?,
        };
        let mut states = states::lock(&tx, id, [contact]).await?;
        let state = states.get(contact).on_inbound_call(campaign.epoch, tx.now);
        states.set(contact, &state);
        states::save(&tx, id, &states).await?;
        campaigns::bump_facts_revision(&tx, id).await?;
        if known.is_none() {
            agenda::wake(&tx, id, tx.now).await?;
        }
        tx.commit().await?;
        Ok(Routing { contact: Some(contact), route, is_created: known.is_none() })
    }
}

async fn add_caller(tx: &Tx<'_>, campaign: &Campaign, phone: &str) -> Result<i64> {
    let new = NewContact { phone: phone.to_owned(), ..NewContact::default() };
    let group = groups::ensure(tx, campaign.id, &[(String::new(), new.priority)]).await?[0];
    add(tx, campaign, &new, group).await
}

/// Returns the contact with a number in any spelling, deleted or not.
async fn find(tx: &Tx<'_>, id: Uuid, phone: &str) -> Result<Option<Subject>> {
    let mut found = find_in_any_spelling(tx, id, &[phone]).await?;
    // If there are two contacts, the one with the caller's own spelling comes first.
    found.sort_by_key(|(known, ..)| known != phone);
    let Some((_, position, _)) = found.first() else { return Ok(None) };
    Ok(contacts::subjects(tx, id, &[*position]).await?.pop())
}

fn hours(campaign: &Campaign, zone: &str, tx: &Tx<'_>) -> Hours {
    let schedule = campaign.config.schedule.as_ref();
    schedule.map_or(Hours::Shut, |schedule| schedule.hours(zone, tx.now))
}
