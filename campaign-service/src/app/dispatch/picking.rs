//! Choice of the contacts of leases: contacts that are due, then contacts ahead of the frontiers.
//!
//! The states of contacts are read first, in blocks. Everything else is read only for contacts that
//! their states let through. So a list of which most are excluded costs little to walk.

mod walking;

use super::batch::{LeasedBatch, LeasedContact, Want};
use super::past_runs::PastRuns;
use crate::app::error::Result;
use crate::store::contacts::{self, Leasable};
use crate::store::due::{self, Due};
use crate::store::groups::{self, Group, Step};
use crate::store::leases::{self, Lease};
use crate::store::states::{self, States};
use crate::store::suppressions;
use crate::store::{StoreResult, Tx};
use campaign_domain::campaign::Campaign;
use campaign_domain::eligibility::{Candidate, RunRules, Verdict};
use campaign_domain::history::ContactState;
use campaign_domain::lease::{Slot, Slots};
use campaign_domain::schedule::{Hours, Schedule};
use campaign_domain::shares::split;
use campaign_domain::{Instant, phone};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::try_join;
use uuid::Uuid;

/// Fewest contacts looked at first, even if fewer are wanted.
const MIN_READ_CONTACTS: usize = 32;
/// Chosen contact, and the number of its next attempt.
struct Picked {
    contact: Leasable,
    attempt_number: i32,
}

/// Result of looking at some contacts.
struct Looked {
    contacts: usize,
    /// Position after the last contact looked at.
    after: Option<i64>,
}

/// Returns whether a contact is not deleted and on no suppression list.
fn is_free(contact: &Leasable, listed: &HashSet<String>) -> bool {
    !contact.is_deleted && !listed.contains(&contact.phone)
}

/// Choice of the contacts of the leases of some workers.
pub(super) struct Picking<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    schedule: &'a Schedule,
    rules: RunRules,
    want: usize,
    /// Groups, highest priority first.
    groups: Vec<Group>,
    shut_groups: HashSet<i32>,
    /// Contacts in a call that an earlier run authorised, and the end of the call's lease.
    in_older_call: HashMap<i64, Instant>,
    picked: Vec<Picked>,
    /// Contacts to look at again later.
    later: Vec<Due>,
    /// Progress in each group.
    steps: Vec<Step>,
    /// Revision at which the picked contacts are eligible.
    revision: i64,
}

impl<'a, 'c> Picking<'a, 'c> {
    pub async fn new(
        tx: &'a Tx<'c>,
        campaign: &'a Campaign,
        revision: i64,
        schedule: &'a Schedule,
        want: usize,
        past_runs: &PastRuns,
    ) -> Result<Self> {
        let (id, run) = (campaign.id, campaign.run);
        let older_leases = async {
            if past_runs.are_over(id, run) {
                return Ok(Vec::new());
            }
            let leases = leases::of_runs_before(tx, id, run).await?;
            if leases.is_empty() {
                past_runs.note_over(id, run);
            }
            Ok(leases)
        };
        // Both are asked together, and answered in one round trip.
        let (groups, older_leases) =
            try_join!(groups::all(tx, id, run, campaign.position_limit), older_leases)?;
        let is_shut = |group: &&Group| schedule.hours(&group.time_zone, tx.now) != Hours::Open;
        let shut_groups = groups.iter().filter(is_shut).map(|group| group.id).collect();
        let mut in_older_call = HashMap::new();
        for lease in older_leases {
            for slot in lease.slots.in_state(Slot::Authorized) {
                in_older_call.insert(lease.positions[slot], lease.expires_at);
            }
        }
        let rules = campaign.rules();
        Ok(Self {
            tx,
            campaign,
            schedule,
            rules,
            want,
            groups,
            shut_groups,
            in_older_call,
            picked: Vec::with_capacity(want),
            later: Vec::new(),
            steps: Vec::new(),
            revision,
        })
    }

    /// Picks contacts whose retry is due, or that were given back.
    pub async fn take_due(&mut self) -> Result<()> {
        let (id, run) = (self.campaign.id, self.campaign.run);
        let limit = i64::try_from(self.want).unwrap_or(i64::MAX);
        let mut due = due::take(self.tx, id, run, &self.open_groups(), limit).await?;
        due.sort_unstable();
        let states = states::find(self.tx, id, due.iter().map(|(position, _)| *position)).await?;
        let mut known = states.in_order();
        let mut eligible = Vec::with_capacity(due.len());
        for (position, group) in due {
            match self.judge(known.get(position), position) {
                Verdict::Eligible => eligible.push(position),
                Verdict::NotBefore(due_at) => self.later.push(Due { position, group, due_at }),
                Verdict::Removed(_) => {}
            }
        }
        let mut found = contacts::leasable(self.tx, id, &eligible).await?;
        let listed = self.listed(&found).await?;
        found.retain(|contact| is_free(contact, &listed));
        self.pick(&states, found);
        Ok(())
    }

    fn open_groups(&self) -> Vec<i32> {
        let ids = self.groups.iter().map(|group| group.id);
        ids.filter(|group| !self.shut_groups.contains(group)).collect()
    }

    /// Picks contacts ahead of the frontiers, in the groups that may be called, highest priority
    /// first. Returns whether there are more to look at.
    pub async fn take_ahead(&mut self, max_scan_contacts: usize) -> Result<bool> {
        let mut scan_left = max_scan_contacts;
        let is_ahead =
            |group: &&Group| group.first_ahead.is_some() && !self.shut_groups.contains(&group.id);
        let ahead: Vec<i32> = self.groups.iter().filter(is_ahead).map(|group| group.id).collect();
        for group in ahead {
            if self.picked.len() >= self.want || scan_left == 0 {
                return Ok(true);
            }
            self.take_of_group(group, &mut scan_left).await?;
        }
        Ok(scan_left == 0)
    }

    /// Returns how many contacts are still wanted.
    fn missing(&self) -> usize {
        self.want.saturating_sub(self.picked.len())
    }

    /// Picks the missing contacts from the contacts of a group at some positions, in order of
    /// position. Stops when `enough` of all contacts are let through by their states.
    async fn take_from(
        &mut self,
        group: i32,
        ahead: &[i64],
        enough: usize,
        found: Option<Vec<Leasable>>,
    ) -> Result<Looked> {
        let (id, missing) = (self.campaign.id, self.missing());
        let (states, listed) = try_join!(
            states::find(self.tx, id, ahead.iter().copied()),
            self.listed(found.as_deref().unwrap_or_default()),
        )?;
        let (mut eligible, mut waiting, mut contacts) = (Vec::new(), Vec::new(), 0_usize);
        let mut known = states.in_order();
        for position in ahead {
            if eligible.len() >= enough {
                break;
            }
            contacts += 1;
            match self.judge(known.get(*position), *position) {
                Verdict::Eligible => eligible.push(*position),
                Verdict::NotBefore(due_at) => {
                    waiting.push(Due { position: *position, group, due_at });
                }
                Verdict::Removed(_) => {}
            }
        }
        let mut after = contacts.checked_sub(1).map(|last| ahead[last] + 1);
        let (mut found, listed) = match found {
            Some(found) => (found, listed),
            None => {
                let found = self.of_group(group, &eligible, &waiting, contacts).await?;
                let listed = self.listed(&found).await?;
                (found, listed)
            }
        };
        let is_there = |due: &Due| {
            found.binary_search_by_key(&due.position, |contact| contact.position).is_ok()
        };
        waiting.retain(is_there);
        found.retain(|contact| {
            is_free(contact, &listed) && eligible.binary_search(&contact.position).is_ok()
        });
        if let Some(too_many) = found.get(missing).map(|contact| contact.position) {
            found.truncate(missing);
            waiting.retain(|due| due.position < too_many);
            after = Some(too_many);
        }
        self.later.extend(waiting);
        self.pick(&states, found);
        Ok(Looked { contacts, after })
    }

    /// Returns which of some contacts' numbers are on a suppression list that holds for the
    /// campaign.
    async fn listed(&self, found: &[Leasable]) -> StoreResult<HashSet<String>> {
        let phones: Vec<&str> = found.iter().map(|contact| contact.phone.as_str()).collect();
        suppressions::among(self.tx, &self.campaign.tenant, &phones).await
    }

    /// Saves the progress in each group, and the contacts to look at again later.
    pub async fn save(&self) -> Result<()> {
        let (tx, id, run) = (self.tx, self.campaign.id, self.campaign.run);
        try_join!(
            groups::advance_frontiers(tx, id, run, &self.steps),
            due::put(tx, id, run, &self.later),
        )?;
        Ok(())
    }

    /// Judges a contact by its state, now.
    fn judge(&self, state: ContactState, position: i64) -> Verdict {
        // Suppression is looked up later, with the rest of the contact.
        let candidate = Candidate { position, is_suppressed: false, state };
        let call_until = self.in_older_call.get(&position).copied();
        self.rules.judge_beside(&candidate, call_until, self.tx.now)
    }

    fn pick(&mut self, states: &States, found: Vec<Leasable>) {
        for contact in found {
            let state = states.get(contact.position).seen_in(self.rules.epoch);
            self.picked.push(Picked { contact, attempt_number: state.cycle_attempts + 1 });
        }
    }

    /// Shares out the picked contacts among workers, as leases that are not stored yet. Returns one
    /// entry per worker, in order; `None` for a worker that gets nothing.
    pub fn make_leases(&mut self, wants: &[Want], ttl: Duration) -> Vec<Option<LeasedBatch>> {
        let contacts: Vec<usize> = wants.iter().map(|want| want.contacts).collect();
        let shares = split(self.picked.len(), &contacts);
        let mut picked = std::mem::take(&mut self.picked).into_iter();
        let batch = |(want, share): (&Want, usize)| {
            let own: Vec<Picked> = picked.by_ref().take(share).collect();
            (!own.is_empty()).then(|| self.make_lease(&want.worker_id, own, ttl))
        };
        wants.iter().zip(shares).map(batch).collect()
    }

    fn make_lease(&self, worker_id: &str, picked: Vec<Picked>, ttl: Duration) -> LeasedBatch {
        let zones: BTreeMap<i32, &str> =
            self.groups.iter().map(|group| (group.id, group.time_zone.as_str())).collect();
        let used: HashSet<i32> = picked.iter().map(|picked| picked.contact.group).collect();
        let judged_until = used
            .iter()
            .map(|group| self.schedule.open_until(zones.get(group).unwrap_or(&""), self.tx.now))
            .min();
        let contacts = picked.iter().map(|picked| &picked.contact);
        let lease = Lease {
            campaign: self.campaign.id,
            number: 0,
            run: self.campaign.run,
            worker_id: worker_id.to_owned(),
            token: Uuid::new_v4(),
            expires_at: self.tx.now + ttl,
            positions: contacts.clone().map(|contact| contact.position).collect(),
            numbers: contacts.map(|contact| phone::as_integer(&contact.phone)).collect(),
            slots: Slots::new(picked.len()),
            judged_revision: self.revision,
            judged_until: judged_until.unwrap_or(self.tx.now),
        };
        let time_zone = |group: i32| match zones.get(&group) {
            Some(zone) if !zone.is_empty() => (*zone).to_owned(),
            _ => self.schedule.time_zone.clone(),
        };
        let leased = |(slot, picked): (usize, Picked)| LeasedContact {
            slot,
            time_zone: time_zone(picked.contact.group),
            contact: picked.contact,
            attempt_number: picked.attempt_number,
            link: String::new(),
        };
        let contacts = picked.into_iter().enumerate().map(leased).collect();
        let launch_traceparent = self.campaign.launch_traceparent.clone();
        LeasedBatch { lease, launch_traceparent, contacts }
    }
}
