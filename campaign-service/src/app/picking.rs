//! Choosing the contacts of one lease: those due again, then those ahead of the frontiers.
//!
//! What is known of contacts is read first, in blocks, and everything else only of those that it lets
//! through, so that a list of which most are excluded costs little to walk.

use super::error::Result;
use super::leasing::LeasedContact;
use crate::store::Tx;
use crate::store::campaigns::Campaign;
use crate::store::contacts::{self, Leasable};
use crate::store::due::{self, Due};
use crate::store::groups::{self, Group, Step};
use crate::store::leases::{self, Lease};
use crate::store::states::{self, States};
use campaign_domain::eligibility::{Candidate, RunRules, Verdict};
use campaign_domain::history::ContactState;
use campaign_domain::lease::{Slot, Slots};
use campaign_domain::schedule::{Hours, Schedule};
use campaign_domain::{Instant, phone};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::try_join;
use uuid::Uuid;

/// Contacts looked at first when fewer are wanted.
const MIN_READ_CONTACTS: usize = 32;
/// Most contacts looked at in one read.
const MAX_READ_CONTACTS: usize = 16_384;

/// A contact chosen, and the number of the attempt it is up for.
struct Picked {
    contact: Leasable,
    attempt_number: i32,
}

/// Choosing the contacts of one lease.
pub(super) struct Picking<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    schedule: &'a Schedule,
    rules: RunRules,
    want: usize,
    /// Highest priority first.
    groups: Vec<Group>,
    shut_groups: Vec<i32>,
    /// Contacts in a call that a run before this one authorised, and when its lease ends.
    in_older_call: HashMap<i64, Instant>,
    picked: Vec<Picked>,
    /// Contacts to look at again later.
    later: Vec<Due>,
    /// How far it came in each group.
    steps: Vec<Step>,
    /// What is picked is eligible at this revision.
    revision: i64,
}

impl<'a, 'c> Picking<'a, 'c> {
    pub async fn new(
        tx: &'a Tx<'c>,
        campaign: &'a Campaign,
        revision: i64,
        schedule: &'a Schedule,
        want: usize,
    ) -> Result<Self> {
        let id = campaign.id;
        // Asked together, answered in one round trip.
        let (groups, older_leases) = try_join!(
            groups::all(tx, id, campaign.run, campaign.position_limit),
            leases::of_runs_before(tx, id, campaign.run),
        )?;
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

    pub fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }

    /// Contacts whose retry is due, or that were given back.
    pub async fn take_due(&mut self) -> Result<()> {
        let (id, run) = (self.campaign.id, self.campaign.run);
        let limit = i64::try_from(self.want).unwrap_or(i64::MAX);
        let mut due = due::take(self.tx, id, run, &self.shut_groups, limit).await?;
        due.sort_unstable();
        let states = states::find(self.tx, id, due.iter().map(|(position, _)| *position)).await?;
        let mut known = states.in_order();
        let eligible: Vec<i64> = due
            .into_iter()
            .filter(|(position, group)| self.is_eligible(&known.get(*position), *position, *group))
            .map(|(position, _)| position)
            .collect();
        let found = contacts::leasable(self.tx, id, &eligible).await?;
        self.pick(&eligible, &states, found);
        Ok(())
    }

    /// Contacts ahead of the frontiers, of the groups that may be called, highest priority first.
    /// Returns whether there are more to look at.
    pub async fn take_ahead(&mut self, max_scan_contacts: usize) -> Result<bool> {
        let mut scan_left = max_scan_contacts;
        let is_ahead =
            |group: &&Group| group.has_work_ahead && !self.shut_groups.contains(&group.id);
        let ahead: Vec<i32> = self.groups.iter().filter(is_ahead).map(|group| group.id).collect();
        for group in ahead {
            if self.picked.len() >= self.want || scan_left == 0 {
                return Ok(true);
            }
            self.take_of_group(group, &mut scan_left).await?;
        }
        Ok(scan_left == 0)
    }

    async fn take_of_group(&mut self, group: i32, scan_left: &mut usize) -> Result<()> {
        let (id, run) = (self.campaign.id, self.campaign.run);
        let from = groups::lock_frontier(self.tx, id, run, group).await?;
        let end = self.campaign.position_limit.unwrap_or(i64::MAX);
        let mut next = from;
        let mut read = MIN_READ_CONTACTS;
        while self.picked.len() < self.want && *scan_left > 0 {
            // More with each read: where most are excluded, few reads must find those who are not.
            let limit = (self.want - self.picked.len()).max(read).min(*scan_left);
            let rows = i64::try_from(limit).unwrap_or(i64::MAX);
            let range = next..end;
            // Where nobody is excluded, the first read is the only one: then with everything at once.
            let (ahead, found) = if next == from {
                let found =
                    contacts::leasable_in_range(self.tx, id, group, range, Some(rows)).await?;
                (found.iter().map(|contact| contact.position).collect(), Some(found))
            } else {
                (contacts::positions_ahead(self.tx, id, group, range, rows).await?, None)
            };
            let (looked_at, after) = self.take_from(group, &ahead, found).await?;
            next = after.unwrap_or(next);
            *scan_left -= looked_at;
            if ahead.len() < limit && looked_at == ahead.len() {
                break;
            }
            read = (read * 8).min(MAX_READ_CONTACTS);
        }
        self.steps.push(Step { group, positions: from..next });
        Ok(())
    }

    /// Takes what is wanted of contacts of a group, in order of position; returns how many were looked
    /// at, and the position after the last of them.
    async fn take_from(
        &mut self,
        group: i32,
        ahead: &[i64],
        found: Option<Vec<Leasable>>,
    ) -> Result<(usize, Option<i64>)> {
        let id = self.campaign.id;
        let states = states::find(self.tx, id, ahead.iter().copied()).await?;
        let (mut eligible, mut looked_at) = (Vec::new(), 0_usize);
        let mut known = states.in_order();
        for position in ahead {
            if self.picked.len() + eligible.len() >= self.want {
                break;
            }
            looked_at += 1;
            if self.is_eligible(&known.get(*position), *position, group) {
                eligible.push(*position);
            }
        }
        let after = looked_at.checked_sub(1).map(|last| ahead[last] + 1);
        let found = match (found, eligible.first(), eligible.last()) {
            (Some(found), ..) => found,
            // Close together they are cheaper to read in one go.
            (None, Some(first), Some(last)) if eligible.len() * 2 >= looked_at => {
                contacts::leasable_in_range(self.tx, id, group, *first..last + 1, None).await?
            }
            _ => contacts::leasable(self.tx, id, &eligible).await?,
        };
        self.pick(&eligible, &states, found);
        Ok((looked_at, after))
    }

    /// Writes down how far it came, and who is looked at again later.
    pub async fn save(&self) -> Result<()> {
        let (tx, id, run) = (self.tx, self.campaign.id, self.campaign.run);
        try_join!(
            groups::advance_frontiers(tx, id, run, &self.steps),
            due::put(tx, id, run, &self.later),
        )?;
        Ok(())
    }

    /// Whether history lets a contact through now; notes those to look at again later.
    fn is_eligible(&mut self, state: &ContactState, position: i64, group: i32) -> bool {
        let verdict = match self.in_older_call.get(&position) {
            Some(lease_end) => Verdict::NotBefore(*lease_end),
            None => {
                // Whether it is suppressed shows with the rest of the contact.
                let candidate = Candidate { position, is_suppressed: false, state: state.clone() };
                self.rules.judge(&candidate, self.tx.now)
            }
        };
        if let Verdict::NotBefore(due_at) = verdict {
            self.later.push(Due { position, group, due_at });
        }
        verdict == Verdict::Eligible
    }

    /// Picks contacts that are eligible, there, and not suppressed. Both lists are in order of position.
    fn pick(&mut self, eligible: &[i64], states: &States, found: Vec<Leasable>) {
        for contact in found {
            let is_wanted = eligible.binary_search(&contact.position).is_ok();
            if is_wanted && !contact.is_deleted && !contact.is_suppressed {
                let state = states.get(contact.position).seen_in(self.rules.epoch);
                self.picked.push(Picked { contact, attempt_number: state.cycle_attempts + 1 });
            }
        }
    }

    /// The lease of what was picked, not stored yet, and its contacts.
    pub fn make_lease(&mut self, worker_id: &str, ttl: Duration) -> (Lease, Vec<LeasedContact>) {
        let picked = std::mem::take(&mut self.picked);
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
        (lease, contacts)
    }
}
