//! Roster of a dispatcher: workers that wait for contacts, and campaigns that may have some. Decides
//! who leases next, from which campaign and for whom.

use crate::access::{Reach, Tenant};
use crate::serving::{Abilities, Needs};
use crate::shares::Shares;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// Number of a waiting worker's stream.
pub type WorkerNumber = u64;

/// Campaign that may have contacts to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub campaign: Uuid,
    pub tenant: Tenant,
    /// Weight among the campaigns of its tenant.
    pub weight: i32,
    /// Needs that a worker must meet.
    pub needs: Needs,
}

/// Campaigns that a worker serves.
#[derive(Clone, Debug)]
pub struct Service {
    /// Campaigns that the worker may see.
    pub reach: Reach,
    /// Campaigns that the worker asked for; empty: all within reach.
    pub only: BTreeSet<Uuid>,
    /// Pools and channels of the worker.
    pub abilities: Arc<Abilities>,
}

impl Service {
    fn covers(&self, offer: &Offer) -> bool {
        let is_asked_for = self.only.is_empty() || self.only.contains(&offer.campaign);
        let is_in_reach = self.reach.tenant().is_none_or(|tenant| tenant == offer.tenant.name());
        is_asked_for && is_in_reach && self.abilities.meet(&offer.needs)
    }
}

/// Lease to make: contacts of one campaign for some workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub campaign: Uuid,
    /// Workers, and the most contacts that each takes.
    pub wants: Vec<(WorkerNumber, usize)>,
}

/// Result of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yield {
    /// The campaign may have more contacts.
    More,
    /// The campaign has no more contacts now.
    NoMore,
}

#[derive(Debug)]
struct Waiting {
    service: Service,
    credit: usize,
    /// Whether an assignment for the worker is under way.
    is_away: bool,
    /// Number of the last look at the agenda that began before the worker asked.
    asked_after: u64,
    /// Whether the worker was told that nothing is there.
    is_told: bool,
}

#[derive(Debug)]
struct Listed {
    offer: Offer,
    /// Whether an assignment to the campaign is under way.
    is_away: bool,
    /// Whether the campaign was offered again during the assignment, which may not have seen why.
    is_offered_again: bool,
}

/// Waiting workers and campaigns with work of one replica.
#[derive(Debug)]
pub struct Roster {
    /// Most contacts of one assignment, unless one worker takes more.
    max_assignment_contacts: usize,
    /// Most assignments under way.
    max_assignments: usize,
    assignments: usize,
    workers: BTreeMap<WorkerNumber, Waiting>,
    /// Workers with credit that no assignment is under way for. Who waits longest comes first.
    queue: VecDeque<WorkerNumber>,
    listed: BTreeMap<Uuid, Listed>,
    shares: Shares<Uuid>,
    tenants: Shares<Tenant>,
    /// Looks at the agenda that were begun.
    looks: u64,
}

impl Roster {
    /// Creates an empty roster.
    #[must_use]
    pub fn new(max_assignment_contacts: usize, max_assignments: usize) -> Self {
        Self {
            max_assignment_contacts,
            max_assignments,
            assignments: 0,
            workers: BTreeMap::new(),
            queue: VecDeque::new(),
            listed: BTreeMap::new(),
            shares: Shares::default(),
            tenants: Shares::default(),
            looks: 0,
        }
    }

    /// Adds a worker, which takes nothing yet.
    pub fn join(&mut self, worker: WorkerNumber, service: Service) {
        let waiting =
            Waiting { service, credit: 0, is_away: false, asked_after: self.looks, is_told: false };
        self.workers.insert(worker, waiting);
    }

    /// Removes a worker. An assignment for it goes on, and what it yields has no taker.
    pub fn leave(&mut self, worker: WorkerNumber) {
        self.workers.remove(&worker);
        self.queue.retain(|other| *other != worker);
    }

    /// Returns how many contacts a worker takes.
    #[must_use]
    pub fn credit(&self, worker: WorkerNumber) -> usize {
        self.workers.get(&worker).map_or(0, |waiting| waiting.credit)
    }

    /// Lets a worker take more contacts.
    pub fn ask(&mut self, worker: WorkerNumber, more: usize) {
        let Some(waiting) = self.workers.get_mut(&worker) else { return };
        let was_queued = waiting.credit > 0 || waiting.is_away;
        waiting.credit += more;
        waiting.asked_after = self.looks;
        waiting.is_told = false;
        if !was_queued && waiting.credit > 0 {
            self.queue.push_back(worker);
        }
    }

    /// Lists a campaign that may have contacts.
    pub fn offer(&mut self, offer: Offer) {
        if let Some(listed) = self.listed.get_mut(&offer.campaign) {
            listed.offer = offer;
            listed.is_offered_again = listed.is_away;
            return;
        }
        self.shares.join(offer.campaign);
        self.tenants.join(offer.tenant.clone());
        let listed = Listed { offer, is_away: false, is_offered_again: false };
        self.listed.insert(listed.offer.campaign, listed);
    }

    /// Replaces the needs of a listed campaign. They changed since it was offered.
    pub fn correct(&mut self, campaign: Uuid, needs: Needs) {
        if let Some(listed) = self.listed.get_mut(&campaign) {
            listed.offer.needs = needs;
        }
    }

    /// Returns the next lease to make, or `None` if no worker waits for a campaign that has work.
    pub fn next_assignment(&mut self) -> Option<Assignment> {
        if self.assignments >= self.max_assignments
            || self.listed.values().all(|listed| listed.is_away)
        {
            return None;
        }
        let (first, campaign) = self.queue.iter().find_map(|worker| {
            let service = &self.workers.get(worker)?.service;
            self.best_for(service).map(|campaign| (*worker, campaign))
        })?;
        let listed = self.listed.get_mut(&campaign)?;
        listed.is_away = true;
        self.assignments += 1;
        let (mut wants, mut contacts) = (Vec::new(), 0);
        for worker in &self.queue {
            let Some(waiting) = self.workers.get_mut(worker) else { continue };
            let is_first = *worker == first;
            if !is_first && !waiting.service.covers(&listed.offer) {
                continue;
            }
            let fits = contacts + waiting.credit <= self.max_assignment_contacts;
            if !fits && !wants.is_empty() {
                break;
            }
            contacts += waiting.credit;
            waiting.is_away = true;
            wants.push((*worker, waiting.credit));
        }
        let workers = &self.workers;
        self.queue.retain(|worker| workers.get(worker).is_some_and(|waiting| !waiting.is_away));
        Some(Assignment { campaign, wants })
    }

    /// Returns the campaign that is next for a worker: of the tenant that had the least, the
    /// campaign that had the least for its weight.
    fn best_for(&self, service: &Service) -> Option<Uuid> {
        let free = self.listed.iter().filter(|(_, listed)| !listed.is_away);
        let served = free.filter(|(_, listed)| service.covers(&listed.offer));
        let ranked = served.map(|(campaign, listed)| {
            let tenant = &listed.offer.tenant;
            (self.tenants.pass(tenant), tenant, self.shares.pass(campaign), *campaign)
        });
        ranked.min().map(|(.., campaign)| campaign)
    }

    /// Ends an assignment that gave `handed` contacts to each worker, in order. `cost` is what the
    /// assignment counts for its campaign's share, in contacts.
    pub fn end(&mut self, assignment: &Assignment, handed: &[usize], cost: usize, left: Yield) {
        self.assignments = self.assignments.saturating_sub(1);
        let handed = handed.iter().copied().chain(std::iter::repeat(0));
        for ((worker, _), contacts) in assignment.wants.iter().zip(handed) {
            let Some(waiting) = self.workers.get_mut(worker) else { continue };
            waiting.is_away = false;
            waiting.credit = waiting.credit.saturating_sub(contacts);
            if waiting.credit > 0 {
                self.queue.push_back(*worker);
            }
        }
        let Some(listed) = self.listed.get_mut(&assignment.campaign) else { return };
        listed.is_away = false;
        let is_over = left == Yield::NoMore && !std::mem::take(&mut listed.is_offered_again);
        self.shares.handed(assignment.campaign, cost, listed.offer.weight);
        self.tenants.handed(listed.offer.tenant.clone(), cost, 1);
        if is_over {
            self.withdraw(assignment.campaign);
        }
    }

    fn withdraw(&mut self, campaign: Uuid) {
        self.shares.leave(&campaign);
        let Some(gone) = self.listed.remove(&campaign) else { return };
        let tenant = gone.offer.tenant;
        if !self.listed.values().any(|listed| listed.offer.tenant == tenant) {
            self.tenants.leave(&tenant);
        }
    }

    /// Returns whether a worker waits.
    #[must_use]
    pub fn is_anybody_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns whether a worker waits for nothing that is listed, and was not told so.
    #[must_use]
    pub fn wants_look(&self) -> bool {
        self.unserved().next().is_some()
    }

    /// Begins a look at the agenda, and returns its number.
    pub fn begin_look(&mut self) -> u64 {
        self.looks += 1;
        self.looks
    }

    /// Ends a look. Returns the workers for which nothing is there, and their credit. Each is
    /// returned once, until it asks again.
    pub fn end_look(&mut self, number: u64) -> Vec<(WorkerNumber, usize)> {
        let idle = self.unserved().filter(|(_, waiting)| waiting.asked_after < number);
        let idle: Vec<_> = idle.map(|(worker, waiting)| (worker, waiting.credit)).collect();
        for (worker, _) in &idle {
            if let Some(waiting) = self.workers.get_mut(worker) {
                waiting.is_told = true;
            }
        }
        idle
    }

    /// Returns the workers that wait for nothing that is listed, and were not told so.
    fn unserved(&self) -> impl Iterator<Item = (WorkerNumber, &Waiting)> {
        let queued = self
            .queue
            .iter()
            .filter_map(|worker| self.workers.get(worker).map(|waiting| (*worker, waiting)));
        queued.filter(|(_, waiting)| {
            let is_covered = |listed: &Listed| waiting.service.covers(&listed.offer);
            !waiting.is_told && !self.listed.values().any(is_covered)
        })
    }
}

#[cfg(test)]
mod tests;
