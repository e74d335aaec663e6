//! Tests of the roster.

use super::*;

fn campaign(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn offer(number: u128, tenant: &str, weight: i32) -> Offer {
    let tenant = Tenant::new(tenant).expect("a name");
    Offer { campaign: campaign(number), tenant, weight, needs: Needs::default() }
}

fn everything() -> Service {
    Service { reach: Reach::All, only: BTreeSet::new(), abilities: Arc::default() }
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
    roster.join(1, Service { reach: Reach::Of(acme), ..everything() });
    roster.join(2, Service { only: [campaign(7)].into(), ..everything() });
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
fn a_campaign_goes_to_the_workers_that_meet_its_needs_as_they_change() {
    let mut roster = Roster::new(1_000, 10);
    for (worker, pool) in [(1, "a"), (2, "b")] {
        let abilities = Abilities { pools: [pool.to_owned()].into(), ..Abilities::default() };
        roster.join(worker, Service { abilities: Arc::new(abilities), ..everything() });
        roster.ask(worker, 10);
    }
    let needs = |pool: &str| Needs { worker_pool: pool.to_owned(), ..Needs::default() };
    roster.offer(offer(1, "", 1));
    assert_eq!(roster.next_assignment(), None, "neither is without a pool");
    roster.offer(Offer { needs: needs("a"), ..offer(1, "", 1) });
    let assignment = roster.next_assignment().expect("work");
    assert_eq!(assignment.wants, [(1, 10)]);
    // The lease finds other needs, and hands nothing out.
    roster.end(&assignment, &[], 0, Yield::More);
    roster.correct(campaign(1), needs("b"));
    assert_eq!(roster.next_assignment().expect("work").wants, [(2, 10)]);
    roster.correct(campaign(9), needs("b"));
    assert_eq!(roster.next_assignment(), None, "a campaign that is not listed stays so");
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
