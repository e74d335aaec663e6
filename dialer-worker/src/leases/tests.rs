use super::*;
use campaign_proto::v1::{AttemptAuthorization, AuthorizeDecision, LeaseKey, LeasedContact};
use futures_util::future::BoxFuture;
use prost_types::Timestamp;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::call::{Attempt, CallEnd, CallEvents, News, Outcome};
use crate::calls::Calls;
use crate::dialer::Dialer;

use AuthorizeDecision::{
    AlreadyGranted, Excluded, Granted as Yes, LeaseLost, NotNow, NotRunning, SlotClosed,
};

const TTL: Duration = Duration::from_secs(30);
const MANY: usize = 1_000;

fn batch(number: u32, contacts: i32) -> Batch {
    let contacts = (0..contacts).map(|slot| LeasedContact {
        slot,
        contact: contact(slot),
        ..LeasedContact::default()
    });
    Batch {
        lease: Some(LeaseKey { lease: name(number), token: "token".to_owned() }),
        campaign: "campaigns/a".to_owned(),
        run: 3,
        contacts: contacts.collect(),
        ..Batch::default()
    }
}

fn name(number: u32) -> String {
    format!("campaigns/a/leases/{number}")
}

fn contact(slot: i32) -> String {
    format!("campaigns/a/contacts/{slot}")
}

/// Returns leases that hold one lease of `contacts` contacts.
fn held(contacts: i32, now: Instant) -> Leases {
    let mut leases = Leases::default();
    leases.set_ttl(TTL);
    leases.add(batch(1, contacts), now);
    leases
}

fn ask(leases: &mut Leases, places: usize, now: Instant) -> Authorize {
    leases.next_authorize(places, MANY, now).expect("something to ask")
}

/// Returns an answer with one decision per requested slot, in order.
fn answer_to(asked: &Authorize, decisions: &[AuthorizeDecision]) -> AuthorizeResult {
    assert_eq!(asked.slots.len(), decisions.len());
    let attempts = asked.slots.iter().zip(decisions).map(|(slot, decision)| {
        let attempt_id = format!("3-1-{slot}");
        AttemptAuthorization { slot: *slot, decision: (*decision).into(), attempt_id }
    });
    AuthorizeResult {
        request_number: asked.request_number,
        attempts: attempts.collect(),
        retry_delay: None,
    }
}

/// Returns the granted attempts, and whether to dial each.
fn answer(
    leases: &mut Leases,
    asked: &Authorize,
    decisions: &[AuthorizeDecision],
    now: Instant,
) -> Vec<(String, bool)> {
    let granted = leases.answer(&answer_to(asked, decisions), now);
    granted
        .into_iter()
        .map(|granted| {
            let dial = granted.dial;
            (granted.into_call().1.attempt_id, dial)
        })
        .collect()
}

fn yes(slot: i32) -> (String, bool) {
    (format!("3-1-{slot}"), true)
}

fn too_late(slot: i32) -> (String, bool) {
    (format!("3-1-{slot}"), false)
}

fn renewed(number: u32, lost: bool) -> RenewedLease {
    let expire_time = (!lost).then(Timestamp::default);
    RenewedLease { lease: name(number), expire_time, lost }
}

fn released_slots(leases: &mut Leases) -> Option<Vec<i32>> {
    leases.next_release().map(|release| release.slots)
}

#[test]
fn only_granted_slots_become_calls_and_nothing_is_asked_twice() {
    let now = Instant::now();
    let mut leases = held(7, now);
    let asked = ask(&mut leases, 5, now);
    assert_eq!(asked.slots, [0, 1, 2, 3, 4]);
    assert!(leases.next_authorize(5, MANY, now).is_none(), "one question at a time");
    let decisions = [Yes, Excluded, NotNow, SlotClosed, AlreadyGranted];
    assert_eq!(answer(&mut leases, &asked, &decisions, now), [yes(0)]);
    assert_eq!(answer(&mut leases, &asked, &decisions, now), [], "an answer counts once");
    assert_eq!(ask(&mut leases, 5, now).slots, [5, 6]);
    assert_eq!(released_slots(&mut leases), None, "the service closed what it refused");
}

#[test]
fn questions_keep_to_places_and_limits_and_go_lease_by_lease() {
    let now = Instant::now();
    let mut leases = held(3, now);
    leases.add(batch(2, 3), now);
    assert!(leases.next_authorize(0, MANY, now).is_none());
    assert_eq!(leases.next_authorize(9, 2, now).expect("waiting").slots, [0, 1]);
    let second = ask(&mut leases, 7, now);
    assert_eq!(second.lease.map(|key| key.lease), Some(name(2)));
    assert_eq!(second.slots, [0, 1, 2]);
    assert_eq!((leases.asked(), leases.undialled()), (5, 6));
}

#[test]
fn a_lost_answer_is_asked_for_again_and_already_granted_then_means_dial() {
    let now = Instant::now();
    let mut leases = held(4, now);
    let lost = ask(&mut leases, 2, now);
    leases.end_stream();
    leases.begin_stream(now);
    assert_eq!(leases.asked(), 2, "they keep their places");
    let again = ask(&mut leases, 0, now);
    assert_eq!(again.slots, [0, 1]);
    assert_ne!(again.request_number, lost.request_number);
    let decisions = [AlreadyGranted, AlreadyGranted];
    assert_eq!(answer(&mut leases, &lost, &decisions, now), [], "of a stream that is gone");
    assert_eq!(answer(&mut leases, &again, &decisions, now), [yes(0), yes(1)]);
    let first = ask(&mut leases, 2, now);
    assert_eq!(answer(&mut leases, &first, &decisions, now), [], "never asked before");
}

#[test]
fn a_slot_that_an_answer_leaves_out_is_asked_for_again() {
    let now = Instant::now();
    let mut leases = held(2, now);
    let asked = ask(&mut leases, 2, now);
    let mut short = answer_to(&asked, &[Yes, Yes]);
    short.attempts.pop();
    assert_eq!(leases.answer(&short, now).len(), 1);
    assert_eq!(ask(&mut leases, 0, now).slots, [1]);
}

#[test]
fn a_lost_lease_is_not_dialled_and_nothing_of_it_given_back() {
    let now = Instant::now();
    let mut leases = held(5, now);
    let asked = ask(&mut leases, 2, now);
    assert_eq!(answer(&mut leases, &asked, &[Yes, LeaseLost], now), [yes(0)]);
    assert!(leases.next_authorize(9, MANY, now).is_none());
    assert_eq!(released_slots(&mut leases), None);
    assert_eq!(leases.held.len(), 1, "its call goes on");
    leases.call_ended(&name(1));
    assert_eq!(leases.held.len(), 0);
}

#[test]
fn a_lease_reported_lost_leaves_the_answer_under_way_to_be_reported() {
    let now = Instant::now();
    let mut leases = held(5, now);
    let asked = ask(&mut leases, 1, now);
    leases.renewed(&[renewed(1, true)]);
    assert_eq!(leases.undialled(), 1);
    assert_eq!(answer(&mut leases, &asked, &[Yes], now), [too_late(0)]);
    assert_eq!(leases.held.len(), 0);
}

#[test]
fn not_running_gives_the_rest_of_the_lease_back() {
    let now = Instant::now();
    let mut leases = held(4, now);
    let asked = ask(&mut leases, 2, now);
    assert_eq!(answer(&mut leases, &asked, &[NotRunning, NotRunning], now), []);
    assert_eq!(released_slots(&mut leases), Some(vec![0, 2, 3, 1]));
}

#[test]
fn a_release_is_repeated_until_acknowledged() {
    let now = Instant::now();
    let mut leases = held(2, now);
    leases.stop_campaign("campaigns/a", 3, true);
    assert_eq!(released_slots(&mut leases), Some(vec![0, 1]));
    assert_eq!(released_slots(&mut leases), None, "one at a time");
    leases.end_stream();
    assert_eq!(released_slots(&mut leases), Some(vec![0, 1]));
    assert!(!leases.are_settled());
    leases.released(&ReleaseAck { lease: name(1), released: 2 });
    assert!(leases.are_settled());
    assert_eq!(leases.held.len(), 0);
}

#[test]
fn a_stop_gives_back_what_waits_and_dials_granted_ones_only_if_told() {
    for (dial_granted, expected) in [(true, yes(0)), (false, too_late(0))] {
        let now = Instant::now();
        let mut leases = held(3, now);
        let asked = ask(&mut leases, 1, now);
        leases.stop_campaign("campaigns/a", 2, false);
        leases.stop_campaign("campaigns/b", 3, false);
        assert_eq!(released_slots(&mut leases), None, "an older run or another campaign");
        leases.stop_campaign("campaigns/a", 3, dial_granted);
        assert_eq!(released_slots(&mut leases), Some(vec![1, 2]));
        assert_eq!(answer(&mut leases, &asked, &[Yes], now), [expected]);
    }
}

#[test]
fn a_later_stop_can_be_stricter_but_not_milder() {
    let now = Instant::now();
    let mut leases = held(1, now);
    let asked = ask(&mut leases, 1, now);
    leases.stop_campaign("campaigns/a", 3, false);
    leases.stop_campaign("campaigns/a", 3, true);
    assert_eq!(answer(&mut leases, &asked, &[Yes], now), [too_late(0)]);
}

#[test]
fn one_contact_is_given_back_or_not_dialled() {
    let now = Instant::now();
    let mut leases = held(3, now);
    let asked = ask(&mut leases, 2, now);
    leases.drop_contact("campaigns/a", &contact(1));
    leases.drop_contact("campaigns/a", &contact(2));
    leases.drop_contact("campaigns/b", &contact(0));
    assert_eq!(released_slots(&mut leases), Some(vec![2]));
    assert_eq!(answer(&mut leases, &asked, &[Yes, Yes], now), [yes(0), too_late(1)]);
}

#[test]
fn leases_are_renewed_at_a_third_of_their_time_while_they_are_of_use() {
    let start = Instant::now();
    let mut leases = held(1, start);
    assert_eq!(leases.renew_due(), Some(start + TTL / 3));
    assert_eq!(leases.next_renew(start), None);
    let asked_at = start + TTL / 3;
    assert_eq!(leases.next_renew(asked_at).map(|renew| renew.leases.len()), Some(1));
    assert_eq!(leases.next_renew(asked_at), None);
    leases.renewed(&[renewed(1, false)]);
    leases.expire(asked_at + TTL - Duration::from_millis(1));
    assert_eq!(leases.undialled(), 1, "the renewal counts from when it was asked for");
    let asked = ask(&mut leases, 1, asked_at);
    assert_eq!(answer(&mut leases, &asked, &[Yes], asked_at), [yes(0)]);
    assert!(leases.renew_due().is_some(), "in a call");
    leases.call_ended(&name(1));
    assert_eq!(leases.renew_due(), None);
}

#[test]
fn a_lease_that_ran_out_by_our_clock_is_not_dialled() {
    let start = Instant::now();
    let mut leases = held(3, start);
    let asked = ask(&mut leases, 1, start);
    // Both answer and renewal were read late. The renewal counts from its request.
    leases.next_renew(start + TTL / 3).expect("due");
    let late = start + TTL * 2;
    leases.renewed(&[renewed(1, false)]);
    assert!(ask_at(&mut leases, late).is_none());
    assert_eq!(answer(&mut leases, &asked, &[Yes], late), [too_late(0)]);
    leases.expire(late);
    assert_eq!(leases.held.len(), 0);
}

/// A stop must reach the calls of a lost lease too.
#[test]
fn a_lost_lease_is_named_while_calls_of_it_go_on() {
    let start = Instant::now();
    let mut leases = held(2, start);
    let asked = ask(&mut leases, 1, start);
    assert_eq!(answer(&mut leases, &asked, &[Yes], start), [yes(0)]);
    leases.expire(start + TTL);
    let named = leases.next_renew(start + TTL).expect("due");
    assert_eq!((named.leases.len(), named.lost_leases), (1, vec![name(1)]));
    leases.renewed(&[renewed(1, true)]);
    assert_eq!(leases.begin_stream(start + TTL).lost_leases, [name(1)]);
    leases.call_ended(&name(1));
    assert_eq!(leases.renew_due(), None);
}

/// Provider that must not be called.
struct Forbidden;

impl Dialer for Forbidden {
    fn dial(&self, _: Attempt, _: CallEvents, _: CancellationToken) -> BoxFuture<'static, CallEnd> {
        panic!("dialled");
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        panic!("probed");
    }
}

#[tokio::test]
async fn what_was_granted_before_a_standstill_is_not_dialled() {
    let ttl = Duration::from_millis(5);
    let start = Instant::now();
    let mut leases = Leases::default();
    leases.set_ttl(ttl);
    leases.add(batch(1, 1), start);
    let asked = ask(&mut leases, 1, start);
    let granted = leases.answer(&answer_to(&asked, &[Yes]), start).remove(0);
    assert!(granted.dial);
    tokio::time::sleep_until(start + ttl).await;
    let (sender, mut events) = mpsc::channel(1);
    Calls::new(Arc::new(Forbidden), sender).start(granted);
    let told = events.recv().await.expect("an end");
    assert!(
        matches!(told.news, News::Ended(CallEnd { outcome: Outcome::Congested, .. })),
        "{told:?}"
    );
}

fn ask_at(leases: &mut Leases, now: Instant) -> Option<Authorize> {
    leases.next_authorize(9, MANY, now)
}

#[test]
fn hello_names_a_hundred_leases_and_the_rest_are_renewed_right_after() {
    let now = Instant::now();
    let mut leases = Leases::default();
    leases.set_ttl(TTL);
    for number in 0..230 {
        leases.add(batch(number, 1), now);
    }
    leases.end_stream();
    assert_eq!(leases.begin_stream(now).leases.len(), MAX_NAMED_LEASES);
    let sizes: Vec<_> =
        std::iter::from_fn(|| leases.next_renew(now)).map(|renew| renew.leases.len()).collect();
    assert_eq!(sizes, [100, 30]);
}

#[test]
fn what_is_throttled_waits_in_its_place_and_is_asked_for_again() {
    use AuthorizeDecision::{Granted, Throttled};
    let now = Instant::now();
    let mut leases = held(4, now);
    let asked = ask(&mut leases, 3, now);
    let mut result = answer_to(&asked, &[Granted, Throttled, Throttled]);
    result.retry_delay = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    assert_eq!(leases.answer(&result, now).len(), 1);
    assert_eq!(leases.undialled(), 3);
    assert!(leases.next_authorize(3, MANY, now).is_none(), "not before the time is over");
    let later = leases.throttled_until().expect("a time to ask again");
    assert_eq!(later, now + Duration::from_millis(200));
    assert_eq!(ask(&mut leases, 3, later).slots, [1, 2, 3]);
    assert_eq!(leases.throttled_until(), None, "nothing waits");

    // A contact stopped meanwhile is released instead.
    let mut leases = held(2, now);
    let asked = ask(&mut leases, 1, now);
    leases.stop_campaign("campaigns/a", 9, true);
    leases.answer(&answer_to(&asked, &[Throttled]), now);
    let slots: Vec<i32> = leases.next_release().expect("given back").slots;
    assert_eq!(slots, [1, 0]);
}
