//! Writing of what a ledger recorded, and the next places of its contacts.

use super::Ledger;
use crate::app::error::Result;
use crate::app::returning::{come_back, next_attempt};
use crate::store::calls::{self, CallReport};
use crate::store::due::{self, Due};
use crate::store::leases::{self, Lease};
use crate::store::notify::{ControlEvent, RemovalCause};
use crate::store::{campaigns, contacts, interactions, numbers, states};
use campaign_domain::Instant;
use campaign_domain::lease::AttemptId;
use std::collections::{BTreeSet, HashMap};
use tokio::try_join;

impl Ledger<'_, '_> {
    /// Writes facts of calls in progress under the current run. The contacts of such calls are in
    /// no other place.
    pub(in crate::app::facts) async fn save_of_open_calls(self) -> Result<()> {
        self.write().await?;
        let ended: Vec<i64> = self.ended.iter().map(|(position, _)| *position).collect();
        let places = self.places(&ended).await?;
        due::put(self.tx, self.campaign.id, self.campaign.run, &places.due).await?;
        Ok(())
    }

    /// Writes any facts. The caller must hold the campaign's gate exclusively.
    pub(in crate::app::facts) async fn save_alone(self) -> Result<()> {
        self.write().await?;
        let (tx, id, run) = (self.tx, self.campaign.id, self.campaign.run);
        let touched: BTreeSet<i64> = self.touched.iter().copied().collect();
        let touched: Vec<i64> = touched.into_iter().collect();
        let places = self.places(&touched).await?;
        let (again, due): (Vec<Due>, Vec<Due>) =
            places.due.iter().partition(|due| self.was_busy.contains(&due.position));
        due::put(tx, id, run, &due).await?;
        for due in again {
            // If the run has not passed the contact in its group, the run meets the contact there.
            due::remove(tx, id, &[due.position]).await?;
            due::put_if_passed(tx, id, run, due.position, due.due_at).await?;
        }
        due::reschedule(tx, id, run, &places.free).await?;
        due::remove(tx, id, &places.done).await?;
        for position in self.reopened {
            // The others have their places by now.
            if !self.ended.iter().any(|(ended, _)| *ended == position) {
                come_back(tx, self.campaign, position).await?;
            }
        }
        if !touched.is_empty() {
            campaigns::bump_facts_revision(tx, id).await?;
        }
        for position in self.opted_out {
            let cause = RemovalCause::OptedOut;
            let event = ControlEvent::ContactRemoved { campaign: id, position, cause };
            tx.notify_on_commit(event);
        }
        Ok(())
    }

    async fn write(&self) -> Result<()> {
        let (tx, id) = (self.tx, self.campaign.id);
        let is_changed = |lease: &&Lease| self.changed_leases.contains(&lease.number);
        let leases: Vec<&Lease> = self.leases.iter().filter(is_changed).collect();
        let new_calls: Vec<&CallReport> = self.new_calls.values().collect();
        // These statements are sent together; a COPY has to be alone.
        try_join!(
            leases::save_slots(tx, id, &leases),
            calls::append(tx, id, self.campaign.epoch.generation, &new_calls),
            states::save(tx, id, &self.states),
        )?;
        interactions::append(tx, id, &self.new).await?;
        self.take_back_attempts().await?;
        self.opt_outs.save(tx).await
    }

    /// Takes attempts that were given back from those that count for the cap of their numbers.
    async fn take_back_attempts(&self) -> Result<()> {
        let Some(reach) = self.rules.cap.as_ref().filter(|_| !self.given_back.is_empty()) else {
            return Ok(());
        };
        let numbered: Vec<(AttemptId, i64, i64)> = self
            .given_back
            .iter()
            .filter_map(|attempt| {
                let lease = self.leases.iter().find(|lease| lease.number == attempt.lease)?;
                let number = *lease.numbers.get(attempt.slot)?;
                Some((*attempt, *lease.positions.get(attempt.slot)?, number))
            })
            .collect();
        let asked: Vec<(AttemptId, i64)> =
            numbered.iter().map(|(attempt, position, _)| (*attempt, *position)).collect();
        let times = leases::authorized_at(self.tx, self.campaign.id, &asked).await?;
        let attempts: Vec<(i64, Instant)> = numbered
            .iter()
            .filter_map(|(attempt, _, number)| Some((*number, *times.get(attempt)?)))
            .collect();
        numbers::take_back(self.tx, reach, &attempts).await?;
        Ok(())
    }

    /// Returns the next places of contacts, by their states. Contacts that were in no attempt stay
    /// where they wait.
    async fn places(&self, positions: &[i64]) -> Result<Places> {
        let rules = self.campaign.rules();
        let is_finished =
            |position: &i64| self.states.get(*position).seen_in(self.campaign.epoch).finished;
        let (done, open): (Vec<i64>, Vec<i64>) = positions.iter().copied().partition(is_finished);
        let mut places = Places { done, ..Places::default() };
        let ended: HashMap<i64, i32> = self.ended.iter().copied().collect();
        for subject in contacts::subjects(self.tx, self.campaign.id, &open).await? {
            let position = subject.candidate.position;
            let Some(due_at) = next_attempt(&rules, &subject, self.tx.now) else {
                places.done.push(position);
                continue;
            };
            let due = Due { position, group: subject.group, due_at };
            match ended.get(&position) {
                Some(run) if *run == self.campaign.run => places.due.push(due),
                Some(_) => places.free.push(due),
                None => {}
            }
        }
        Ok(places)
    }
}

/// Next places of contacts to which something happened.
#[derive(Default)]
struct Places {
    /// Contacts to be tried again in this run.
    due: Vec<Due>,
    /// Contacts out of a call of an earlier run, for whose end this run may be waiting.
    free: Vec<Due>,
    /// Contacts that are no longer to be engaged.
    done: Vec<i64>,
}
