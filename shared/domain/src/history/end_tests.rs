//! Ends of calls that say more than that the call failed, and their corrections.

use super::tests::{at, before_the_rerun, ended, recording};
use super::*;
use crate::retry::MAX_GIVE_BACKS;

fn call(lease: i64) -> Option<SlotId> {
    Some(SlotId { lease, slot: 0 })
}

#[test]
fn a_person_who_rejects_and_a_number_that_is_none_are_finished() {
    let retry = RetryPolicy::default();
    for outcome in [CallOutcome::Rejected, CallOutcome::InvalidNumber] {
        let state = ContactState::default().after(&ended(outcome), &recording(&retry));
        assert!(state.finished, "{outcome:?}");
        assert_eq!((state.attempts, state.due_at), (1, None), "{outcome:?}");
        let unknown =
            ContactState::default().after(&ended(CallOutcome::Unknown), &recording(&retry));
        let late = Recording { replaces: Some(CallOutcome::Unknown), ..recording(&retry) };
        let state = unknown.after(&ended(outcome), &late);
        assert!(state.finished, "{outcome:?}, told late");
    }
}

#[test]
fn an_attempt_that_is_given_back_counts_for_nothing_and_waits() {
    let retry = RetryPolicy::default();
    let tried = ContactState::default().after(&ended(CallOutcome::Busy), &recording(&retry));
    let again = Recording { call: call(2), now: at(5_000), ..recording(&retry) };
    let state = tried.clone().after(&ended(CallOutcome::Congested), &again);
    assert_eq!((state.attempts, state.cycle_attempts), (1, 1), "as before");
    assert_eq!((state.finished, state.given_back), (false, 1));
    assert_eq!(state.due_at, Some(at(5_060)), "not the 30 minutes of a busy line");
    let last = (state.last_outcome, state.last_call);
    assert_eq!(last, (Some(CallOutcome::Congested), call(2)), "history shows it");
}

#[test]
fn a_contact_that_is_given_back_too_often_was_tried_in_vain() {
    let retry = RetryPolicy::default();
    let mut state = ContactState::default();
    for given_back in 0..MAX_GIVE_BACKS {
        assert_eq!((state.given_back, state.attempts), (given_back, 0));
        state = state.after(&ended(CallOutcome::Congested), &recording(&retry));
        assert_eq!(state.due_at, Some(at(60 << given_back)));
    }
    for attempt in 1..=retry.failed.max_attempts {
        assert!(!state.finished);
        state = state.after(&ended(CallOutcome::Congested), &recording(&retry));
        assert_eq!((state.attempts, state.given_back), (attempt, MAX_GIVE_BACKS));
    }
    assert!(state.finished, "as after a call that failed");
    let rerun = state.seen_in(Epoch { generation: 0, cycle: 2 });
    assert_eq!((rerun.given_back, rerun.finished), (0, false), "each cycle begins anew");
}

#[test]
fn an_attempt_given_back_after_a_rerun_leaves_no_trace_in_it() {
    let retry = RetryPolicy::default();
    let rerun = before_the_rerun(&retry);
    let in_call = ContactState::default().in_call(rerun.epoch, at(0));
    let state = in_call.after(&ended(CallOutcome::Congested), &rerun);
    assert_eq!((state.attempts, state.given_back), (0, 0));
    assert_eq!((state.due_at, state.may_ring), (None, false), "the rerun calls it");
}

#[test]
fn an_attempt_that_was_unknown_stays_counted_when_it_was_congested() {
    let retry = RetryPolicy::default();
    let unknown = ContactState::default().after(&ended(CallOutcome::Unknown), &recording(&retry));
    let late = Recording { replaces: Some(CallOutcome::Unknown), ..recording(&retry) };
    let state = unknown.clone().after(&ended(CallOutcome::Congested), &late);
    assert_eq!((state.attempts, state.given_back), (1, 0));
    assert_eq!((state.due_at, state.may_ring), (unknown.due_at, false));
}

#[test]
fn a_person_who_calls_in_meanwhile_outlasts_the_wait_of_a_give_back() {
    let retry = RetryPolicy::default();
    let calling = ContactState::default().on_inbound_call(Epoch::default(), at(0));
    let state = calling.clone().after(&ended(CallOutcome::Congested), &recording(&retry));
    assert_eq!((state.due_at, state.is_calling_in), (calling.due_at, true));
}

#[test]
fn an_abandoned_call_waits_for_days_and_a_cancelled_one_as_if_nobody_answered() {
    let retry = RetryPolicy::default();
    let due = |outcome| {
        let state = ContactState::default().after(&ended(outcome), &recording(&retry));
        (state.due_at, state.attempts)
    };
    assert_eq!(due(CallOutcome::Abandoned), (Some(at(72 * 3_600)), 1));
    assert_eq!(due(CallOutcome::Cancelled), due(CallOutcome::NoAnswer));
}

/// Returns a contact that was answered, and the recording of its call's correction.
fn answered(retry: &RetryPolicy) -> (ContactState, Recording<'_>) {
    let first = Recording { call: call(1), ..recording(retry) };
    let state = ContactState::default().after(&ended(CallOutcome::Answered), &first);
    (state, Recording { replaces: Some(CallOutcome::Answered), now: at(600), ..first })
}

#[test]
fn an_answer_that_was_a_machines_is_tried_again() {
    let retry = RetryPolicy::default();
    let (answered, corrected) = answered(&retry);
    let state = answered.after(&ended(CallOutcome::Voicemail), &corrected);
    assert_eq!((state.finished, state.attempts), (false, 1));
    assert_eq!(state.last_outcome, Some(CallOutcome::Voicemail));
    assert_eq!(state.due_at, Some(at(600 + retry.voicemail.min_delay_seconds)));
    let once = RetryPolicy { voicemail: rule(1), ..retry };
    let (answered, corrected) = self::answered(&once);
    assert!(answered.after(&ended(CallOutcome::Voicemail), &corrected).finished);
}

fn rule(max_attempts: i32) -> crate::retry::RetryRule {
    crate::retry::RetryRule { max_attempts, min_delay_seconds: 0 }
}

#[test]
fn a_person_who_was_reached_otherwise_is_not_tried_again_for_a_machine() {
    let retry = RetryPolicy::default();
    let (answered, corrected) = answered(&retry);
    let called_in = Fact::CalledIn { duration_seconds: 9 };
    let at_once = recording(&retry);
    let machine = ended(CallOutcome::Voicemail);
    let before = answered.clone().after(&called_in, &at_once).after(&machine, &corrected);
    let after = answered.after(&machine, &corrected).after(&called_in, &at_once);
    assert!(before.finished && after.finished);
    assert_eq!(before, after, "whatever comes first");
}

#[test]
fn another_call_that_finished_the_contact_outlives_the_correction_of_an_answer() {
    let retry = RetryPolicy { voicemail: rule(9), ..RetryPolicy::default() };
    let machine = ended(CallOutcome::Voicemail);
    for outcome in [CallOutcome::Answered, CallOutcome::Rejected, CallOutcome::InvalidNumber] {
        let other = Recording { call: call(0), ..recording(&retry) };
        let unknown = ContactState::default().after(&ended(CallOutcome::Unknown), &other);
        let late = Recording { replaces: Some(CallOutcome::Unknown), ..other };
        let (answer, last) = (ended(CallOutcome::Answered), Recording { call: call(1), ..other });
        let corrected = Recording { replaces: Some(CallOutcome::Answered), ..last };
        let first = unknown.clone().after(&ended(outcome), &late).after(&answer, &last);
        let between = unknown.clone().after(&answer, &last).after(&ended(outcome), &late);
        let after = unknown.after(&answer, &last).after(&machine, &corrected);
        assert!(first.after(&machine, &corrected).finished, "{outcome:?} before the answer");
        assert!(between.after(&machine, &corrected).finished, "{outcome:?} after the answer");
        assert!(!after.finished, "nothing else finished the contact");
        assert!(after.after(&ended(outcome), &late).finished, "{outcome:?} after the correction");
    }
}

#[test]
fn a_correction_from_before_a_rerun_changes_nothing_in_it() {
    let retry = RetryPolicy::default();
    let rerun = before_the_rerun(&retry);
    let (answered, _) = answered(&retry);
    let fresh = answered.seen_in(rerun.epoch);
    let late = Recording { replaces: Some(CallOutcome::Answered), call: call(1), ..rerun };
    let state = fresh.clone().after(&ended(CallOutcome::Voicemail), &late);
    let last_outcome = Some(CallOutcome::Voicemail);
    assert_eq!(state, ContactState { last_outcome, ..fresh });
}
