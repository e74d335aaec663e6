use super::*;
use proptest::prelude::*;

pub(super) fn at(seconds: i64) -> Instant {
    Instant::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

pub(super) fn recording(retry: &RetryPolicy) -> Recording<'_> {
    Recording {
        epoch: Epoch::default(),
        run: 1,
        fact_epoch: Epoch::default(),
        replaces: None,
        call: None,
        retry,
        give_backs: GiveBacks { first_wait_seconds: 60 },
        now: at(0),
    }
}

pub(super) fn ended(outcome: CallOutcome) -> Fact {
    Fact::ended(outcome)
}

#[test]
fn transfer_bounds_are_strict() {
    let over = |seconds| {
        let flags = Flags::of_transfer(seconds);
        [Flags::TRANSFERRED_OVER_60S, Flags::TRANSFERRED_OVER_90S, Flags::TRANSFERRED_OVER_120S]
            .map(|flag| flags.intersects(flag))
    };
    assert_eq!(over(0), [false, false, false]);
    assert_eq!(over(60), [false, false, false]);
    assert_eq!(over(61), [true, false, false]);
    assert_eq!(over(90), [true, false, false]);
    assert_eq!(over(91), [true, true, false]);
    assert_eq!(over(120), [true, true, false]);
    assert_eq!(over(121), [true, true, true]);
}

#[test]
fn attempts_run_out() {
    let retry = RetryPolicy::default();
    let mut state = ContactState::default();
    for attempt in 1..=3 {
        assert!(!state.finished);
        state = state.after(&ended(CallOutcome::NoAnswer), &recording(&retry));
        assert_eq!(state.cycle_attempts, attempt);
    }
    assert!(state.finished);
    assert_eq!(state.due_at, None);
}

#[test]
fn an_answer_replaces_unknown_without_counting_twice() {
    let retry = RetryPolicy::default();
    let state = ContactState::default().after(&ended(CallOutcome::Unknown), &recording(&retry));
    assert!(state.due_at.is_some());
    let late = Recording { replaces: Some(CallOutcome::Unknown), ..recording(&retry) };
    let state = state.after(&ended(CallOutcome::Answered), &late);
    assert_eq!((state.attempts, state.cycle_attempts), (1, 1));
    assert!(state.finished);
    assert_eq!(state.last_outcome, Some(CallOutcome::Answered));
}

#[test]
fn what_is_told_of_an_older_attempt_leaves_the_newer_one_unknown() {
    let retry = RetryPolicy { unknown: RetryPolicy::default().no_answer, ..RetryPolicy::default() };
    let of = |lease| Some(SlotId { lease, slot: 0 });
    let at = |lease| Recording { call: of(lease), ..recording(&retry) };
    let late = |lease| Recording { replaces: Some(CallOutcome::Unknown), ..at(lease) };
    let both = ContactState::default()
        .after(&ended(CallOutcome::Unknown), &at(1))
        .after(&ended(CallOutcome::Unknown), &at(2));
    for outcome in [CallOutcome::Busy, CallOutcome::Answered] {
        let state = both.clone().after(&ended(outcome), &late(1));
        assert_eq!(state.last_outcome, Some(CallOutcome::Unknown), "{outcome:?}");
        assert_eq!((state.may_ring, state.due_at), (true, both.due_at), "{outcome:?}");
        let state = state.after(&ended(CallOutcome::NoAnswer), &late(2));
        assert_eq!((state.last_outcome, state.may_ring), (Some(CallOutcome::NoAnswer), false));
    }
}

#[test]
fn after_a_reset_only_an_old_opt_out_counts() {
    let retry = RetryPolicy::default();
    let reset = Recording { epoch: Epoch { generation: 1, cycle: 2 }, run: 2, ..recording(&retry) };
    let state = ContactState::default().after(&Fact::Success, &recording(&retry));
    let state = state.after(&Fact::Success, &reset);
    assert_eq!(state.flags, Flags::NONE);
    let refused = Fact::OptedOut { channel: String::new(), everywhere: false };
    let state = state.after(&refused, &reset);
    assert_eq!((state.flags, state.refused_run), (Flags::REFUSED, 2));
}

#[test]
fn after_an_unknown_end_the_next_run_waits_too() {
    let retry = RetryPolicy::default();
    let wait = at(retry.unknown.min_delay_seconds);
    for (generation, attempts) in [(0, 1), (1, 0)] {
        let epoch = Epoch { generation, cycle: 2 };
        let later = Recording { epoch, run: 2, ..recording(&retry) };
        let state = ContactState::default().after(&ended(CallOutcome::Unknown), &later);
        assert_eq!(state.due_at, Some(wait));
        assert_eq!((state.attempts, state.cycle_attempts, state.finished), (attempts, 0, false));
        let state = ContactState::default().after(&ended(CallOutcome::Busy), &later);
        assert_eq!(state.due_at, None);
    }
}

#[test]
fn who_may_still_be_rung_waits_whatever_is_launched() {
    let retry = RetryPolicy::default();
    let wait = Some(at(retry.unknown.min_delay_seconds));
    let call = Some(SlotId { lease: 1, slot: 0 });
    let first = Recording { call, ..recording(&retry) };
    let unknown = ContactState::default().after(&ended(CallOutcome::Unknown), &first);
    let rerun = Epoch { generation: 0, cycle: 2 };
    let reset = Epoch { generation: 1, cycle: 3 };
    let reset_again = Epoch { generation: 2, cycle: 4 };
    for epochs in [vec![rerun], vec![reset], vec![rerun, reset, reset_again]] {
        let state = epochs.iter().fold(unknown.clone(), |state, epoch| state.seen_in(*epoch));
        assert_eq!((state.due_at, state.finished), (wait, false), "{epochs:?}");
    }
    // A contact out of attempts still waits when a rerun gives it more.
    let again = unknown.clone().after(&ended(CallOutcome::Unknown), &first);
    assert!(again.finished);
    assert_eq!(again.seen_in(rerun).due_at, wait);
    // A known end lifts the wait. A report of another call does not.
    for (call, due_at) in [(call, None), (Some(SlotId { lease: 2, slot: 0 }), wait)] {
        let late = Recording { replaces: Some(CallOutcome::Unknown), call, ..first };
        let state = unknown.clone().after(&ended(CallOutcome::Busy), &late);
        assert_eq!(state.seen_in(rerun).due_at, due_at);
    }
}

#[test]
fn of_who_was_erased_stays_only_that_the_phone_may_ring() {
    let retry = RetryPolicy::default();
    let call = Some(SlotId { lease: 1, slot: 0 });
    let first = Recording { call, ..recording(&retry) };
    let unknown = ContactState::default().after(&ended(CallOutcome::Unknown), &first);
    let left = unknown.clone().after(&Fact::Success, &first).erased(at(0));
    let (wait, epoch) = (unknown.due_at, unknown.epoch);
    assert!(wait.is_some());
    let only_wait = ContactState { epoch, due_at: wait, may_ring: true, ..Default::default() };
    assert_eq!(left, only_wait);
    let later = at(retry.unknown.min_delay_seconds);
    assert_eq!(unknown.erased(later), ContactState::default());
    let busy = ContactState::default().after(&ended(CallOutcome::Busy), &first);
    assert_eq!(busy.erased(at(0)), ContactState::default());
}

#[test]
fn a_rerun_forgets_completions_and_keeps_history() {
    let retry = RetryPolicy::default();
    let state = ContactState::default()
        .after(&Fact::Success, &recording(&retry))
        .after(&ended(CallOutcome::Answered), &recording(&retry))
        .seen_in(Epoch { generation: 0, cycle: 2 });
    assert!(!state.finished);
    assert_eq!((state.flags, state.cycle_flags), (Flags::SUCCESS, Flags::NONE));
    assert_eq!((state.attempts, state.cycle_attempts), (1, 0));
}

fn hours(hours: i64) -> Instant {
    at(hours * 3_600)
}

/// Returns a recording in a run that a rerun began, of a fact from before its launch.
pub(super) fn before_the_rerun(retry: &RetryPolicy) -> Recording<'_> {
    Recording { epoch: Epoch { generation: 0, cycle: 2 }, run: 2, ..recording(retry) }
}

#[test]
fn a_contact_in_a_call_waits_for_its_end_or_for_a_day() {
    let retry = RetryPolicy::default();
    let at_launch = before_the_rerun(&retry);
    let in_call = ContactState::default().in_call(at_launch.epoch, at(60));
    let (day, epoch) = (Some(at(24 * 3_600 + 60)), at_launch.epoch);
    let waiting = ContactState { epoch, due_at: day, may_ring: true, ..ContactState::default() };
    assert_eq!(in_call, waiting);
    let ended = in_call.after(&ended(CallOutcome::Busy), &at_launch);
    assert_eq!((ended.due_at, ended.may_ring), (None, false), "the rerun calls it");
    let longer = ContactState { due_at: Some(hours(48)), ..ContactState::default() };
    assert_eq!(longer.in_call(Epoch::default(), at(0)).due_at, Some(hours(48)));
}

#[test]
fn who_calls_in_is_not_called_for_two_hours_whatever_is_launched() {
    let calling = ContactState::default().on_inbound_call(Epoch::default(), at(60));
    assert_eq!((calling.due_at, calling.is_calling_in), (Some(at(2 * 3_600 + 60)), true));
    for epoch in [Epoch { generation: 0, cycle: 2 }, Epoch { generation: 1, cycle: 2 }] {
        let launched = calling.clone().seen_in(epoch);
        assert_eq!((launched.due_at, launched.is_calling_in), (calling.due_at, true), "{epoch:?}");
    }
    let longer = ContactState { due_at: Some(hours(3)), ..ContactState::default() };
    assert_eq!(longer.on_inbound_call(Epoch::default(), at(0)).due_at, Some(hours(3)));
}

#[test]
fn who_was_talked_to_when_calling_in_is_finished_in_that_cycle() {
    let retry = RetryPolicy::default();
    let called_in = Fact::CalledIn { duration_seconds: 9 };
    let calling = ContactState::default().on_inbound_call(Epoch::default(), at(0));
    let talked = calling.after(&called_in, &recording(&retry));
    assert_eq!((talked.finished, talked.is_calling_in, talked.due_at), (true, false, None));
    let rerun = before_the_rerun(&retry);
    let fresh = ContactState::default().seen_in(rerun.epoch);
    assert_eq!(fresh.clone().after(&called_in, &rerun), fresh, "before the launch");
}

#[test]
fn a_call_that_a_person_began_outlasts_the_end_of_ours() {
    let retry = RetryPolicy::default();
    let calling = ContactState::default().on_inbound_call(Epoch::default(), at(0));
    let busy_at = |now| {
        let state = calling
            .clone()
            .after(&ended(CallOutcome::Busy), &Recording { now, ..recording(&retry) });
        (state.due_at, state.is_calling_in)
    };
    let next = |now| Some(now + TimeDelta::seconds(retry.busy.min_delay_seconds));
    assert_eq!(busy_at(at(0)), (Some(hours(2)), true));
    assert_eq!(busy_at(at(7_199)), (next(at(7_199)), true));
    assert_eq!(busy_at(hours(2)), (next(hours(2)), false), "its longest time has passed");
}

#[test]
fn who_is_finished_stays_finished_in_the_cycle() {
    let retry = RetryPolicy::default();
    let talked = Fact::CalledIn { duration_seconds: 9 };
    let state = ContactState::default().after(&talked, &recording(&retry));
    let state = state.after(&ended(CallOutcome::Busy), &recording(&retry));
    assert!(state.finished);
}

#[test]
fn an_answer_from_before_a_rerun_does_not_finish_the_contact_in_it() {
    let retry = RetryPolicy::default();
    let unknown = ContactState::default().after(&ended(CallOutcome::Unknown), &recording(&retry));
    let told_late = |outcome, at: Recording<'_>| {
        let at = Recording { replaces: Some(CallOutcome::Unknown), ..at };
        unknown.clone().after(&ended(outcome), &at).finished
    };
    assert!(told_late(CallOutcome::Answered, recording(&retry)));
    assert!(!told_late(CallOutcome::Busy, recording(&retry)));
    assert!(!told_late(CallOutcome::Answered, before_the_rerun(&retry)));
}

#[test]
fn the_end_of_an_earlier_call_leaves_waits_that_are_not_its_own() {
    let retry = RetryPolicy::default();
    let rerun = before_the_rerun(&retry);
    let in_cycle = Recording { fact_epoch: rerun.epoch, ..rerun };
    let waiting = ContactState::default().after(&ended(CallOutcome::Busy), &in_cycle);
    assert!(waiting.due_at.is_some());
    let state = waiting.clone().after(&ended(CallOutcome::NoAnswer), &rerun);
    assert_eq!(state.due_at, waiting.due_at, "the retry of this cycle");
    // An attempt that was counted as unknown had ended before the call that now rings began.
    let reset = Recording { epoch: Epoch { generation: 1, cycle: 2 }, ..rerun };
    let in_call = ContactState::default().in_call(reset.epoch, at(0));
    let late = Recording { replaces: Some(CallOutcome::Unknown), ..reset };
    assert_eq!(in_call.clone().after(&ended(CallOutcome::Busy), &late), in_call);
    let lifted = in_call.after(&ended(CallOutcome::Busy), &reset);
    assert_eq!((lifted.due_at, lifted.may_ring, lifted.attempts), (None, false, 0));
}

#[test]
fn a_fact_from_before_a_rerun_is_history_but_not_of_its_cycle() {
    let retry = RetryPolicy::default();
    let before = before_the_rerun(&retry);
    let since = Recording { fact_epoch: before.epoch, ..before };
    for (at, cycle_flags) in [(before, Flags::NONE), (since, Flags::SUCCESS)] {
        let state = ContactState::default().after(&Fact::Success, &at);
        assert_eq!((state.flags, state.cycle_flags), (Flags::SUCCESS, cycle_flags));
    }
}

#[test]
fn the_longest_transfer_counts() {
    let retry = RetryPolicy::default();
    let transfers =
        [70, 130, 20].map(|seconds| Fact::Transferred { seconds_before_transfer: seconds });
    let state = transfers
        .iter()
        .fold(ContactState::default(), |state, fact| state.after(fact, &recording(&retry)));
    assert_eq!(state.longest_transfer_seconds, 130);
    assert_eq!(state.flags, Flags::of_transfer(130));
}

#[test]
fn of_a_history_that_was_reset_stays_only_that_the_phone_is_in_use() {
    let old = ContactState { attempts: 2, finished: true, ..ContactState::default() };
    assert_eq!(old.clone().after_reset(1, at(0)), ContactState::default());
    let in_call = old.clone().in_call(Epoch::default(), at(0));
    let calling_in = old.on_inbound_call(Epoch::default(), at(0));
    for (state, until) in [(in_call, hours(24)), (calling_in, hours(2))] {
        let (may_ring, is_calling_in) = (state.may_ring, state.is_calling_in);
        let epoch = Epoch { generation: 1, cycle: 0 };
        let due_at = Some(until);
        let wait =
            ContactState { epoch, due_at, may_ring, is_calling_in, ..ContactState::default() };
        let just_before = until - TimeDelta::seconds(1);
        assert_eq!(state.clone().after_reset(1, just_before), wait);
        assert_eq!(state.clone().after_reset(1, until), ContactState::default(), "over by then");
        assert_eq!(state.clone().after_reset(0, at(0)), state, "of this generation");
        let next = Epoch { generation: 1, cycle: 5 };
        assert_eq!(state.seen_in(next), ContactState { epoch: next, ..wait });
    }
}

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (0..200).prop_map(|seconds| Fact::Transferred { seconds_before_transfer: seconds }),
        any::<bool>().prop_map(|everywhere| Fact::OptedOut { channel: String::new(), everywhere }),
        Just(Fact::Success),
        Just(Fact::LinkOpened { link: String::new() }),
        Just(Fact::TextSent),
    ]
}

proptest! {
    #[test]
    fn facts_commute(
        (facts, shuffled) in proptest::collection::vec(any_fact(), 0..8)
            .prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle()))
    ) {
        let retry = RetryPolicy::default();
        let fold = |facts: &[Fact]| facts.iter().fold(ContactState::default(), |state, fact| {
            state.after(fact, &recording(&retry))
        });
        prop_assert_eq!(fold(&facts), fold(&shuffled));
    }
}
