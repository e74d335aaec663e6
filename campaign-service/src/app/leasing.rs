//! Leases: handing contacts out, keeping them, taking them back.

use super::error::Result;
use super::{App, existing};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts::{self, Contact, Leasable, Subject};
use crate::store::due::{self, Due};
use crate::store::groups::{self, Group};
use crate::store::leases::{self, Lease};
use crate::store::{Gate, Tx};
use campaign_domain::Instant;
use campaign_domain::eligibility::{RunRules, Verdict};
use campaign_domain::lease::{Slot, Slots};
use campaign_domain::lifecycle::State;
use campaign_domain::schedule::{Hours, Schedule};
use chrono::TimeDelta;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// When the hours of a contact's zone are looked at again if no opening is in sight.
const SHUT_RECHECK: TimeDelta = TimeDelta::days(1);
/// Contacts read at first when fewer are wanted.
const MIN_READ_CONTACTS: usize = 32;
/// Most campaigns that one worker is served from.
const MAX_CAMPAIGNS: i64 = 1_000;

/// Names a lease and proves to be its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    pub campaign: Uuid,
    pub number: i64,
    pub token: Uuid,
}

/// A contact in a lease just given.
#[derive(Debug)]
pub struct LeasedContact {
    pub slot: usize,
    pub contact: Contact,
    /// Of the attempt it is up for, from 1.
    pub attempt_number: i32,
}

/// What a worker that asks for contacts gets.
#[derive(Debug)]
pub enum Leased {
    Batch(LeasedBatch),
    /// There is nobody to engage now.
    Nothing,
    /// Nobody was found among those looked at; there are more to look at.
    NothingYet,
}

/// A lease just given.
#[derive(Debug)]
pub struct LeasedBatch {
    pub lease: Lease,
    pub contacts: Vec<LeasedContact>,
    /// The campaign's zone, for contacts without their own.
    pub time_zone: String,
}

impl App {
    /// Campaigns that may have contacts to hand out.
    pub async fn running_campaigns(&self) -> Result<Vec<Uuid>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        Ok(campaigns::ids_in_states(&tx, &[State::Running], MAX_CAMPAIGNS).await?)
    }

    /// Leases up to `want` contacts of a campaign to a worker.
    pub async fn lease(&self, worker_id: &str, id: Uuid, want: usize) -> Result<Leased> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Shared(id)).await?;
        let campaign = existing(&tx, id).await?;
        let Some(schedule) = &campaign.config.schedule else { return Ok(Leased::Nothing) };
        if !campaign.is_dialling(tx.now) {
            return Ok(Leased::Nothing);
        }
        let time_zone = schedule.time_zone.clone();
        let want = want.min(self.limits.max_batch_contacts);
        let mut picking = Picking::new(&tx, &campaign, schedule, want).await?;
        picking.take_due().await?;
        let has_more = picking.take_ahead(self.limits.max_scan_contacts).await?;
        let Picking { picked, later, judged_until, revision, .. } = picking;
        due::put(&tx, id, campaign.run, &later).await?;
        if picked.is_empty() {
            tx.commit_relaxed().await?;
            return Ok(if has_more { Leased::NothingYet } else { Leased::Nothing });
        }
        let mut lease = Lease {
            campaign: id,
            number: 0,
            run: campaign.run,
            worker_id: worker_id.to_owned(),
            token: Uuid::new_v4(),
            expires_at: tx.now + self.limits.lease_ttl,
            positions: picked.iter().map(|found| found.subject.candidate.position).collect(),
            slots: Slots::new(picked.len()),
            judged_revision: revision,
            judged_until,
        };
        leases::insert(&tx, &mut lease).await?;
        // A lease that a crash of the database forgets was never given: its contacts wait as before.
        tx.commit_relaxed().await?;
        let contacts = picked.iter().enumerate().map(|(slot, found)| {
            let state = found.subject.candidate.state.clone().seen_in(campaign.epoch);
            let attempt_number = state.cycle_attempts + 1;
            Ok(LeasedContact { slot, contact: found.contact()?, attempt_number })
        });
        let contacts = contacts.collect::<Result<_>>()?;
        Ok(Leased::Batch(LeasedBatch { lease, contacts, time_zone }))
    }

    /// Prolongs leases: the run and new end of each, `None` for one that is lost.
    pub async fn renew(&self, keys: &[LeaseKey]) -> Result<Vec<Option<(i32, Instant)>>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let expires_at = tx.now + self.limits.lease_ttl;
        let mut renewed = vec![None; keys.len()];
        // In one order everywhere, so that renewals cannot wait for each other in a circle.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|index| (keys[*index].campaign, keys[*index].number));
        for index in order {
            let key = keys[index];
            let run = leases::renew(&tx, key.campaign, key.number, key.token, expires_at).await?;
            renewed[index] = run.map(|run| (run, expires_at));
        }
        tx.commit().await?;
        Ok(renewed)
    }

    /// Gives contacts back that were not authorised (no slots named: all of them); returns how many.
    pub async fn release(&self, key: LeaseKey, slots: &[usize]) -> Result<usize> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Shared(key.campaign)).await?;
        let Some(mut lease) = lock_held(&tx, key).await? else { return Ok(0) };
        let slots =
            if slots.is_empty() { lease.slots.in_state(Slot::Leased) } else { slots.to_vec() };
        let released = give_back(&tx, &mut lease, &slots).await?;
        leases::save_slots(&tx, key.campaign, &[&lease]).await?;
        tx.commit().await?;
        Ok(released)
    }
}

/// The lease a key names, locked, if the key is right and the lease has not run out.
pub(super) async fn lock_held(tx: &Tx<'_>, key: LeaseKey) -> Result<Option<Lease>> {
    let lease = leases::lock(tx, key.campaign, &[key.number]).await?.pop();
    Ok(lease.filter(|lease| lease.token == key.token && lease.expires_at > tx.now))
}

/// Closes slots that nobody dialled; their contacts are due again. Returns how many there were.
pub(super) async fn give_back(tx: &Tx<'_>, lease: &mut Lease, slots: &[usize]) -> Result<usize> {
    let closed: Vec<i64> = slots
        .iter()
        .filter(|slot| lease.slots.advance(**slot, Slot::Closed))
        .map(|slot| lease.positions[*slot])
        .collect();
    let campaign = campaigns::find(tx, lease.campaign).await?;
    // A newer run finds its contacts by its own frontier.
    let Some(campaign) = campaign.filter(|campaign| campaign.run == lease.run) else {
        return Ok(closed.len());
    };
    let rules = campaign.rules();
    let mut due = Vec::with_capacity(closed.len());
    for subject in contacts::subjects(tx, lease.campaign, &closed).await? {
        if let Some(due_at) = next_attempt(&rules, &subject, tx.now) {
            due.push(Due { position: subject.candidate.position, group: subject.group, due_at });
        }
    }
    due::put(tx, lease.campaign, lease.run, &due).await?;
    Ok(closed.len())
}

/// When a contact may be engaged; `None` when it is not any more.
pub(super) fn next_attempt(rules: &RunRules, subject: &Subject, now: Instant) -> Option<Instant> {
    match rules.judge(&subject.candidate, now) {
        _ if subject.is_deleted => None,
        Verdict::Removed(_) => None,
        Verdict::Eligible => Some(now),
        Verdict::NotBefore(due_at) => Some(due_at),
    }
}

/// Choosing the contacts of one lease.
struct Picking<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    schedule: &'a Schedule,
    want: usize,
    /// Highest priority first.
    groups: Vec<Group>,
    shut_groups: Vec<i32>,
    /// Contacts in a call that a run before this one authorised, and when its lease ends.
    in_older_call: HashMap<i64, Instant>,
    picked: Vec<Leasable>,
    later: Vec<Due>,
    /// What is picked is eligible at this revision, and until then.
    revision: i64,
    judged_until: Instant,
}

impl<'a, 'c> Picking<'a, 'c> {
    async fn new(
        tx: &'a Tx<'c>,
        campaign: &'a Campaign,
        schedule: &'a Schedule,
        want: usize,
    ) -> Result<Self> {
        let id = campaign.id;
        let groups = groups::all(tx, id, campaign.run, campaign.position_limit).await?;
        let is_shut = |group: &&Group| schedule.hours(&group.time_zone, tx.now) != Hours::Open;
        let shut_groups = groups.iter().filter(is_shut).map(|group| group.id).collect();
        let mut in_older_call = HashMap::new();
        for lease in leases::of_runs_before(tx, id, campaign.run).await? {
            for slot in lease.slots.in_state(Slot::Authorized) {
                in_older_call.insert(lease.positions[slot], lease.expires_at);
            }
        }
        let revision = campaigns::revision(tx, id).await?;
        let (picked, later) = (Vec::with_capacity(want), Vec::new());
        let judged_until = Instant::MAX_UTC;
        Ok(Self {
            tx,
            campaign,
            schedule,
            want,
            groups,
            shut_groups,
            in_older_call,
            picked,
            later,
            revision,
            judged_until,
        })
    }

    /// Contacts whose retry is due, or that were given back.
    async fn take_due(&mut self) -> Result<()> {
        let (id, run) = (self.campaign.id, self.campaign.run);
        let limit = i64::try_from(self.want).unwrap_or(i64::MAX);
        let positions = due::take(self.tx, id, run, &self.shut_groups, limit).await?;
        for found in contacts::leasable(self.tx, id, &positions).await? {
            self.consider(found);
        }
        let in_groups: HashSet<i32> = self.picked.iter().map(|found| found.subject.group).collect();
        for group in self.groups.clone().iter().filter(|group| in_groups.contains(&group.id)) {
            self.limit_to_hours_of(group);
        }
        Ok(())
    }

    /// Contacts ahead of the frontiers, of the groups that may be called, highest priority first.
    /// Returns whether there are more to look at.
    async fn take_ahead(&mut self, max_scan_contacts: usize) -> Result<bool> {
        let mut scan_left = max_scan_contacts;
        let is_ahead =
            |group: &&Group| group.has_work_ahead && !self.shut_groups.contains(&group.id);
        let ahead: Vec<Group> = self.groups.iter().filter(is_ahead).cloned().collect();
        for group in &ahead {
            if self.picked.len() >= self.want || scan_left == 0 {
                return Ok(true);
            }
            self.take_of_group(group, &mut scan_left).await?;
        }
        Ok(scan_left == 0)
    }

    async fn take_of_group(&mut self, group: &Group, scan_left: &mut usize) -> Result<()> {
        let (id, run) = (self.campaign.id, self.campaign.run);
        let before = self.picked.len();
        let mut next = groups::lock_frontier(self.tx, id, run, group.id).await?;
        let mut read = MIN_READ_CONTACTS;
        while self.picked.len() < self.want && *scan_left > 0 {
            // More with each read: where most are excluded, few reads must find those who are not.
            let limit = (self.want - self.picked.len()).max(read).min(*scan_left);
            let rows = i64::try_from(limit).unwrap_or(i64::MAX);
            let found = contacts::leasable_from(self.tx, id, group.id, next, rows).await?;
            let is_last = found.len() < limit;
            for found in found {
                if self.picked.len() >= self.want {
                    break;
                }
                next = found.subject.candidate.position + 1;
                *scan_left -= 1;
                self.consider(found);
            }
            if is_last {
                break;
            }
            read *= 4;
        }
        groups::advance_frontier(self.tx, id, run, group.id, next).await?;
        if self.picked.len() > before {
            self.limit_to_hours_of(group);
        }
        Ok(())
    }

    fn limit_to_hours_of(&mut self, group: &Group) {
        let open_until = self.schedule.open_until(&group.time_zone, self.tx.now);
        self.judged_until = self.judged_until.min(open_until);
    }

    /// Puts a contact where it belongs: in the batch, on the due list, or nowhere.
    fn consider(&mut self, found: Leasable) {
        let Subject { candidate, group, is_deleted, .. } = &found.subject;
        if *is_deleted {
            return;
        }
        let verdict = match self.in_older_call.get(&candidate.position) {
            Some(lease_end) => Verdict::NotBefore(*lease_end),
            None => self.campaign.rules().judge(candidate, self.tx.now),
        };
        match verdict {
            Verdict::Eligible => self.picked.push(found),
            Verdict::NotBefore(due_at) => {
                self.later.push(Due { position: candidate.position, group: *group, due_at });
            }
            Verdict::Removed(_) => {}
        }
    }
}

/// When a contact may be dialled again whose hours are shut.
pub(super) fn reopening(hours: Hours, now: Instant) -> Option<Instant> {
    match hours {
        Hours::Open => None,
        Hours::ShutUntil(opening) => Some(opening),
        Hours::Shut => Some(now + SHUT_RECHECK),
    }
}
