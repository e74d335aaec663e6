//! Roster of a dispatcher: workers that wait for contacts, and campaigns that may have some. Decides
//! who leases next, from which campaign and for whom.

use crate::access::{Reach, Tenant};
use crate::shares::Shares;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
}

/// Campaigns that a worker serves.
#[derive(Clone, Debug)]
pub struct Service {
    /// Campaigns that the worker may see.
    pub reach: Reach,
    /// Campaigns that the worker asked for; empty: all within reach.
    pub only: BTreeSet<Uuid>,
}

impl Service {
    fn covers(&self, offer: &Offer) -> bool {
        let is_asked_for = self.only.is_empty() || self.only.contains(&offer.campaign);
        is_asked_for && self.reach.tenant().is_none_or(|tenant| tenant == offer.tenant.name())
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
mod tests {
    use super::*;

    fn campaign(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn offer(number: u128, tenant: &str, weight: i32) -> Offer {
        let tenant = Tenant::new(tenant).expect("a name");
        Offer { campaign: campaign(number), tenant, weight }
    }

    fn everything() -> Service {
        Service { reach: Reach::All, only: BTreeSet::new() }
    }

    fn roster() -> Roster {
        let mut roster = Roster::new(1_000, 10);
        roster.join(1, everything());
        roster
    }

    /// Makes assignments of 100 contacts until `total` were handed out. Returns how many each got.
    fn dispatch(roster: &mut Roster, total: usize) -> BTreeMap<Uuid, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..total / 100 {
            roster.ask(1, 100);
            let assignment = roster.next_assignment().expect("work");
            *counts.entry(assignment.campaign).or_default() += 100;
            roster.end(&assignment, &[100], 100, Yield::More);
        }
        counts
    }

    #[test]
    fn campaigns_share_by_weight() {
        let mut roster = roster();
        roster.offer(offer(1, "", 1));
        roster.offer(offer(2, "", 3));
        let counts = dispatch(&mut roster, 40_000);
        assert_eq!((counts[&campaign(1)], counts[&campaign(2)]), (10_000, 30_000));
    }

    #[test]
    fn tenants_share_evenly_whatever_the_number_of_their_campaigns() {
        let mut roster = roster();
        roster.offer(offer(1, "small", 1));
        for number in 2..=9 {
            roster.offer(offer(number, "large", 100));
        }
        let counts = dispatch(&mut roster, 40_000);
        assert_eq!(counts[&campaign(1)], 20_000);
        assert_eq!(counts[&campaign(2)], 2_500);
        // The other tenant may use what one cannot.
        roster.ask(1, 100);
        let assignment = roster.next_assignment().expect("work");
        roster.end(&assignment, &[100], 100, Yield::NoMore);
        while roster.listed.contains_key(&campaign(1)) {
            roster.ask(1, 100);
            let assignment = roster.next_assignment().expect("work");
            let left = if assignment.campaign == campaign(1) { Yield::NoMore } else { Yield::More };
            roster.end(&assignment, &[100], 100, left);
        }
        assert!(dispatch(&mut roster, 1_000).values().sum::<usize>() == 1_000);
    }

    #[test]
    fn a_worker_gets_what_it_serves() {
        let mut roster = Roster::new(1_000, 10);
        let acme = Tenant::new("acme").expect("a name");
        roster.join(1, Service { reach: Reach::Of(acme), only: BTreeSet::new() });
        roster.join(2, Service { reach: Reach::All, only: [campaign(7)].into() });
        roster.ask(1, 10);
        roster.ask(2, 10);
        roster.offer(offer(5, "other", 1));
        assert_eq!(roster.next_assignment(), None);
        roster.offer(offer(7, "other", 1));
        let assignment = Assignment { campaign: campaign(7), wants: vec![(2, 10)] };
        assert_eq!(roster.next_assignment(), Some(assignment));
        roster.offer(offer(6, "acme", 1));
        let assignment = Assignment { campaign: campaign(6), wants: vec![(1, 10)] };
        assert_eq!(roster.next_assignment(), Some(assignment));
    }

    #[test]
    fn workers_share_an_assignment_up_to_its_size_and_a_campaign_has_one_at_a_time() {
        let mut roster = Roster::new(1_000, 2);
        for worker in 1..=3 {
            roster.join(worker, everything());
            roster.ask(worker, 500);
        }
        roster.offer(offer(1, "", 1));
        let first = roster.next_assignment().expect("work");
        assert_eq!(first.wants, [(1, 500), (2, 500)]);
        assert_eq!(roster.next_assignment(), None, "the campaign is away");
        roster.ask(1, 50);
        roster.end(&first, &[500, 100], 600, Yield::More);
        assert_eq!((roster.credit(1), roster.credit(2)), (50, 400));
        assert_eq!(roster.next_assignment().expect("work").wants, [(3, 500), (1, 50), (2, 400)]);
    }

    #[test]
    fn assignments_are_bounded() {
        let mut roster = Roster::new(100, 2);
        for worker in 1..=3 {
            roster.join(worker, everything());
            roster.ask(worker, 100);
            roster.offer(offer(worker.into(), "", 1));
        }
        let assignments =
            [roster.next_assignment().expect("work"), roster.next_assignment().expect("work")];
        assert_eq!(roster.next_assignment(), None);
        roster.end(&assignments[0], &[100], 100, Yield::NoMore);
        assert!(roster.next_assignment().is_some());
    }

    #[test]
    fn a_worker_is_told_once_that_nothing_is_there() {
        let mut roster = roster();
        roster.ask(1, 10);
        assert!(roster.wants_look());
        let look = roster.begin_look();
        roster.ask(1, 10);
        assert_eq!(roster.end_look(look), [], "the look may be older than what was asked for");
        assert!(roster.wants_look());
        let look = roster.begin_look();
        assert_eq!(roster.end_look(look), [(1, 20)]);
        assert!(!roster.wants_look());
        let look = roster.begin_look();
        assert_eq!(roster.end_look(look), []);
        roster.offer(offer(1, "", 1));
        assert!(roster.next_assignment().is_some());
    }

    #[test]
    fn work_that_comes_during_an_assignment_is_not_missed() {
        let mut roster = roster();
        roster.ask(1, 10);
        roster.offer(offer(1, "", 1));
        let assignment = roster.next_assignment().expect("work");
        roster.offer(offer(1, "", 1));
        roster.end(&assignment, &[0], 0, Yield::NoMore);
        let assignment = roster.next_assignment().expect("the campaign was offered again");
        roster.end(&assignment, &[0], 0, Yield::NoMore);
        assert_eq!(roster.next_assignment(), None);
    }

    #[test]
    fn a_worker_that_left_gets_nothing() {
        let mut roster = roster();
        roster.ask(1, 10);
        roster.offer(offer(1, "", 1));
        let assignment = roster.next_assignment().expect("work");
        roster.leave(1);
        roster.end(&assignment, &[10], 10, Yield::More);
        assert_eq!(roster.next_assignment(), None);
        assert!(!roster.is_anybody_waiting());
    }
}
