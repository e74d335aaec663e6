//! Recording of facts. Each fact changes history once, by whomever, however often and in whatever
//! order it is reported.

use super::Facts;
use super::ledger::{EndRules, Ledger, is_of_open_call};
use super::report::{Outcome, Report};
use crate::app::error::{Error, Result};
use crate::app::people::revoking::PendingRevocation;
use crate::app::returning::give_back;
use crate::store::leases::{self, Lease};
use crate::store::notify::ControlEvent;
use crate::store::{Connection, Durability, Gate, Tx, campaigns};
use campaign_domain::campaign::Campaign;
use campaign_domain::dispatch::expire;
use campaign_domain::facts::{CallOutcome, Fact};
use campaign_domain::lease::AttemptId;
use campaign_domain::retry::GiveBacks;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::try_join;
use uuid::Uuid;

impl Facts {
    /// Records facts about contacts of one campaign. Returns one outcome per fact, in order, all
    /// durable.
    pub async fn record(self: &Arc<Self>, id: Uuid, reports: Vec<Report>) -> Result<Vec<Outcome>> {
        let own = Arc::clone(self);
        let record = move |group| Arc::clone(&own).record_group(id, group);
        self.recorder.ask(id, reports.into(), record).await?.finish(&self.db).await
    }

    async fn record_group(
        self: Arc<Self>,
        id: Uuid,
        group: Vec<Arc<[Report]>>,
    ) -> Result<Vec<PendingRevocation<Vec<Outcome>>>> {
        let reports: Vec<&Report> = group.iter().flat_map(|reports| reports.iter()).collect();
        let mut outcomes = self.record_now(id, &reports).await?.into_iter();
        let answer = |reports: &Arc<[Report]>| {
            PendingRevocation::join(outcomes.by_ref().take(reports.len()))
        };
        Ok(group.iter().map(answer).collect())
    }

    /// Records facts in a transaction of their own.
    ///
    /// Facts of calls in progress share the campaign's gate: the contact is in the call's slot and
    /// nowhere else, so that nobody judges it meanwhile. All other facts hold the gate exclusively.
    async fn record_now(
        &self,
        id: Uuid,
        reports: &[&Report],
    ) -> Result<Vec<PendingRevocation<Outcome>>> {
        let mut outcomes = self.record_of_open_calls(id, reports).await?;
        let rest: Vec<usize> =
            (0..reports.len()).filter(|index| outcomes[*index].is_none()).collect();
        if !rest.is_empty() {
            let others: Vec<&Report> = rest.iter().map(|index| reports[*index]).collect();
            for (index, outcome) in rest.into_iter().zip(self.record_alone(id, &others).await?) {
                outcomes[index] = Some(outcome);
            }
        }
        let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
        let counted: Vec<&Outcome> = outcomes.iter().map(PendingRevocation::unanswered).collect();
        self.metrics.reported(reports, &counted);
        Ok(outcomes)
    }

    /// Records the facts of calls in progress under the current run. Returns `None` for all other
    /// facts.
    async fn record_of_open_calls(
        &self,
        id: Uuid,
        reports: &[&Report],
    ) -> Result<Vec<Option<PendingRevocation<Outcome>>>> {
        let mut outcomes: Vec<_> = reports.iter().map(|_| None).collect();
        let numbers = lease_numbers(reports.iter().copied());
        if numbers.is_empty() {
            return Ok(outcomes);
        }
        let mut connection = self.db.connect().await?;
        let (tx, campaign, mut leases) =
            begin_with_leases(&mut connection, Gate::Shared(id), id, &numbers).await?;
        let campaign = campaign.filter(|found| found.state.is_active());
        let Some(campaign) = campaign else { return Ok(outcomes) };
        leases.retain(|lease| lease.run == campaign.run);
        let mine: Vec<usize> =
            (0..reports.len()).filter(|index| is_of_open_call(&leases, reports[*index])).collect();
        if mine.is_empty() {
            return Ok(outcomes);
        }
        let own: Vec<&Report> = mine.iter().map(|index| reports[*index]).collect();
        let mut ledger = Ledger::open(&tx, &campaign, self.rules(&campaign), leases, &own).await?;
        let busy: Vec<bool> = own.iter().map(|report| ledger.is_noted_busy(report)).collect();
        for ((index, report), is_busy) in mine.into_iter().zip(own).zip(busy) {
            if !is_busy {
                outcomes[index] = Some(ledger.record(report));
            }
        }
        ledger.save_of_open_calls().await?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// Returns a campaign's rules for attempts that end, within the service's limits.
    fn rules(&self, campaign: &Campaign) -> EndRules {
        let limits = &self.limits;
        let least_seconds = i64::from(limits.unknown_retry_min_seconds);
        let reach = limits.attempt_cap_scope.reach(&campaign.tenant);
        EndRules {
            retry: campaign.config.retry_policy.with_unknown_wait(least_seconds),
            give_backs: GiveBacks { first_wait_seconds: limits.congested_retry_seconds },
            cap: (limits.max_attempts_per_number > 0).then_some(reach),
        }
    }

    async fn record_alone(
        &self,
        id: Uuid,
        reports: &[&Report],
    ) -> Result<Vec<PendingRevocation<Outcome>>> {
        let mut connection = self.db.connect().await?;
        let numbers = lease_numbers(reports.iter().copied());
        let (tx, campaign, leases) =
            begin_with_leases(&mut connection, Gate::Exclusive(id), id, &numbers).await?;
        let Some(campaign) = campaign else {
            return Err(Error::NotFound(format!("campaigns/{id}")));
        };
        let mut ledger =
            Ledger::open(&tx, &campaign, self.rules(&campaign), leases, reports).await?;
        let outcomes = reports.iter().map(|report| ledger.record(report)).collect();
        ledger.save_alone().await?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// Ends an expired lease. Its attempts under way are recorded as unknown, and its other
    /// contacts, which were not dialled, are given back.
    pub async fn expire_lease(&self, id: Uuid, number: i64) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let (tx, campaign, mut leases) =
            begin_with_leases(&mut connection, Gate::Exclusive(id), id, &[number]).await?;
        let Some(mut lease) = leases.pop().filter(|lease| !lease.terms().is_in_force(tx.now))
        else {
            return Ok(());
        };
        let Some(campaign) = campaign else { return Ok(()) };
        let expiry = expire(&lease.slots);
        give_back(&tx, &mut lease, &expiry.given_back).await?;
        leases::save_slots(&tx, id, &[&lease]).await?;
        let unknown: Vec<Report> = expiry
            .unknown
            .into_iter()
            .map(|slot| Report {
                position: lease.positions[slot],
                interaction_id: String::new(),
                attempt: Some(AttemptId { run: lease.run, lease: lease.number, slot }),
                fact: Fact::ended(CallOutcome::Unknown),
                occurred_at: None,
            })
            .collect();
        let unknown: Vec<&Report> = unknown.iter().collect();
        let unknown_calls = unknown.len();
        let mut ledger =
            Ledger::open(&tx, &campaign, self.rules(&campaign), vec![lease], &unknown).await?;
        let ended = PendingRevocation::join(unknown.into_iter().map(|end| ledger.record(end)));
        ledger.save_alone().await?;
        tx.notify_on_commit(ControlEvent::Work { campaign: id });
        tx.commit().await?;
        self.metrics.lease_expired(unknown_calls);
        ended.finish(&self.db).await.map(drop)
    }
}

/// Starts a transaction behind a campaign's gate. Reads the campaign and locks some of its leases
/// with it.
async fn begin_with_leases<'c>(
    connection: &'c mut Connection,
    gate: Gate,
    id: Uuid,
    numbers: &[i64],
) -> Result<(Tx<'c>, Option<Campaign>, Vec<Lease>)> {
    let opening = connection.open(gate, Durability::Durable).await?;
    let (now, campaign, leases) = try_join!(
        biased;
        opening.pass(),
        campaigns::find(&opening, id),
        leases::lock(&opening, id, numbers),
    )?;
    Ok((opening.at(now), campaign, leases))
}

/// Returns the numbers of the leases that reports name, each once.
fn lease_numbers<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Vec<i64> {
    let attempts = reports.into_iter().filter_map(|report| report.attempt);
    let numbers: BTreeSet<i64> = attempts.map(|attempt| attempt.lease).collect();
    numbers.into_iter().collect()
}
