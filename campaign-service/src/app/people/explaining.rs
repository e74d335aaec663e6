//! Explanation of one contact: its history, and why it is or is not engaged.

use super::contacts::Contacts;
use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::app::returning::open_slot;
use crate::store::calls::{self, Recorded};
use crate::store::contacts::{self, Subject};
use crate::store::interactions::{self, Interaction};
use crate::store::{Gate, Tx, numbers};
use campaign_domain::campaign::Campaign;
use campaign_domain::caps::capped_until;
use campaign_domain::eligibility::Reason;
use campaign_domain::facts::{CallOutcome, Fact};
use campaign_domain::history::ContactState;
use campaign_domain::lease::{AttemptId, SlotId};
use campaign_domain::lifecycle::State;
use campaign_domain::standing::{Standing, Waits, WaitsFor, standing, waits_for};
use campaign_domain::{Instant, phone};
use uuid::Uuid;

/// Most calls that a contact's history lists; the last ones are listed.
const MAX_CALLS: usize = 1_000;
/// Format of times for people.
const TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S UTC";

/// Explanation of why a contact is or is not engaged.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub standing: Standing,
    pub next_attempt_at: Option<Instant>,
    pub message: String,
}

impl Contacts {
    /// Explains why a contact is or is not engaged.
    pub async fn explain(&self, id: Uuid, position: i64) -> Result<Explanation> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        let subject = existing_subject(&tx, id, position).await?;
        let slot = open_slot(&tx, &campaign, position).await?;
        let verdict = campaign.rules().judge(&subject.candidate, tx.now);
        let standing = standing(verdict, slot);
        let due_at = match standing {
            Standing::WaitingRetry(due_at) => Some(due_at),
            Standing::Waiting => None,
            Standing::Leased | Standing::InCall | Standing::Removed(_) => {
                let message = with_state(&campaign, held(standing));
                return Ok(Explanation { standing, next_attempt_at: None, message });
            }
        };
        let plan = campaign.plan(campaign.is_live_forever());
        let waits = Waits {
            due_at,
            capped_until: self.capped_until(&tx, &campaign, position).await?,
            end_time: plan.end_time.filter(|_| !plan.live_forever),
        };
        let Some(schedule) = &campaign.config.schedule else {
            let message = with_state(&campaign, "The contact waits.");
            return Ok(Explanation { standing, next_attempt_at: due_at, message });
        };
        let waits_for = waits_for(waits, schedule, &subject.time_zone, tx.now);
        let last = subject.candidate.state.seen_in(campaign.epoch).last_outcome;
        let message = with_state(&campaign, &waiting(waits_for, last));
        Ok(Explanation { standing, next_attempt_at: waits_for.until(), message })
    }

    /// Returns when the cap on attempts lets a contact's number be dialled again; `None` if it may
    /// be dialled now.
    async fn capped_until(
        &self,
        tx: &Tx<'_>,
        campaign: &Campaign,
        position: i64,
    ) -> Result<Option<Instant>> {
        let id = campaign.id;
        let Some(contact) = contacts::find(tx, id, position).await? else { return Ok(None) };
        let number = phone::as_integer(&contact.phone);
        let reach = self.limits.attempt_cap_scope.reach(&campaign.tenant);
        let attempts = numbers::find(tx, &reach, &[number]).await?;
        let attempted_at = attempts.get(&number).map_or(&[][..], Vec::as_slice);
        Ok(capped_until(attempted_at, self.limits.max_attempts_per_number, tx.now))
    }

    /// Returns a contact's state in the current generation, and a page of its facts. Facts come
    /// oldest first, after the last one of the previous page.
    pub async fn history(
        &self,
        id: Uuid,
        position: i64,
        after: Option<(Instant, &str)>,
        limit: usize,
    ) -> Result<(ContactState, Vec<Interaction>)> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        let subject = existing_subject(&tx, id, position).await?;
        let state = subject.candidate.state.seen_in(campaign.epoch);
        let generation = campaign.epoch.generation;
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut facts = interactions::list(&tx, id, position, generation, after, rows).await?;
        let calls = calls_of(&tx, id, generation, state.last_call).await?;
        facts.extend(calls.into_iter().filter(|call| after < Some(sort_key(call))));
        facts.sort_by(|one, other| sort_key(one).cmp(&sort_key(other)));
        facts.truncate(limit);
        Ok((state, facts))
    }
}

fn sort_key(fact: &Interaction) -> (Instant, &str) {
    (fact.recorded_at, &fact.id)
}

/// Returns the ends of a contact's calls, from the last one back. The end of a call has no id from
/// the reporter: its attempt is its id.
async fn calls_of(
    tx: &Tx<'_>,
    id: Uuid,
    generation: i32,
    last: Option<SlotId>,
) -> Result<Vec<Interaction>> {
    let found = calls::chain(tx, id, last, MAX_CALLS).await?.into_iter();
    let to_interaction = |(at, recorded): (SlotId, Recorded)| {
        let Recorded { call, run, recorded_at, detail } = recorded;
        let attempt = AttemptId { run, lease: at.lease, slot: at.slot };
        Interaction {
            position: call.position,
            id: attempt.to_string(),
            generation,
            run,
            attempt: Some(attempt),
            fact: Fact::CallEnded {
                outcome: call.outcome,
                duration_seconds: call.duration_seconds,
                detail: detail.map(Box::new),
                is_provisional: call.is_provisional,
            },
            occurred_at: call.occurred_at,
            recorded_at,
        }
    };
    Ok(found.map(to_interaction).collect())
}

async fn existing_subject(tx: &Tx<'_>, id: Uuid, position: i64) -> Result<Subject> {
    let subject = contacts::subjects(tx, id, &[position]).await?.pop();
    subject
        .filter(|subject| !subject.is_deleted)
        .ok_or_else(|| Error::NotFound(format!("campaigns/{id}/contacts/{position}")))
}

/// Describes the standing of a contact that does not wait.
fn held(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting | Standing::WaitingRetry(_) => "The contact waits.",
        Standing::Leased => "A worker holds the contact and has not dialled it yet.",
        Standing::InCall => "The contact is in a call.",
        Standing::Removed(reason) => removal(reason),
    }
}

/// Describes what a contact waits for.
fn waiting(waits_for: WaitsFor, last: Option<CallOutcome>) -> String {
    let text = |at: Instant| at.format(TIME_FORMAT).to_string();
    match waits_for {
        WaitsFor::Worker => "The contact waits for a worker.".to_owned(),
        WaitsFor::Start(at) => format!("The schedule starts at {}.", text(at)),
        WaitsFor::Retry(at) if last == Some(CallOutcome::Congested) => {
            format!("In the last attempt no phone rang; the next one may begin at {}.", text(at))
        }
        WaitsFor::Retry(at) => {
            format!("The contact was in a call and may be called again from {}.", text(at))
        }
        WaitsFor::Cap(at) => format!(
            "The number was dialled as often as it may be in 24 hours; again from {}.",
            text(at)
        ),
        WaitsFor::Hours(at) => format!("The contact's hours are shut until {}.", text(at)),
        WaitsFor::NoHours => "The contact's hours do not open; change the schedule.".to_owned(),
        WaitsFor::End(at) => {
            format!("The run ends at {}, before the contact can be called.", text(at))
        }
    }
}

fn with_state(campaign: &Campaign, who: &str) -> String {
    match campaign.state {
        State::Running => who.to_owned(),
        State::Draft => format!("{who} The campaign was never launched."),
        other => format!("{who} The campaign is {}.", other.name()),
    }
}

fn removal(reason: Reason) -> &'static str {
    match reason {
        Reason::NotInRun => "The contact came after the launch and joins the next run.",
        Reason::Suppressed => "The number is on the suppression list.",
        Reason::Refused => "The contact opted out.",
        Reason::Transferred => "The launch excludes contacts transferred for that long.",
        Reason::Success => "The launch excludes contacts with a success.",
        Reason::LinkOpened => "The launch excludes contacts that opened a link.",
        Reason::Texted => "The launch excludes contacts that received a text.",
        Reason::Finished => "The contact was reached or has had all its attempts.",
    }
}
