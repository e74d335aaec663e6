//! The last word before a phone rings: whether a leased contact may be dialled now.
//!
//! A worker asks for slots of its lease. [`admit`] answers for the whole lease, [`decide`] for each slot.
//! The service and the explored model (`tests/dispatch_model`) call these functions.

use crate::Instant;
use crate::campaign::Campaign;
use crate::eligibility::{Candidate, RunRules, Verdict};
use crate::lease::{Slot, Slots};
use crate::schedule::Hours;

/// Answer for one slot that a worker asks to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Dial now.
    Granted,
    /// The slot was granted before under this lease.
    AlreadyGranted,
    /// The lease expired, or another worker holds it.
    LeaseLost,
    /// The campaign does not dial, or a newer run began.
    NotRunning,
    /// The rules exclude the contact by now.
    Excluded,
    /// The contact comes again later.
    NotNow,
    /// The slot was given back or has ended, or the lease has no such slot.
    SlotClosed,
    /// Pacing allows no call now; the slot stays leased.
    Throttled,
}

impl Decision {
    /// Returns whether the worker may dial.
    #[must_use]
    pub fn is_to_dial(self) -> bool {
        matches!(self, Self::Granted | Self::AlreadyGranted)
    }
}

/// Terms of a lease that its holder's question depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Run of the lease.
    pub run: i32,
    /// End of the lease.
    pub expires_at: Instant,
    /// Revision of the campaign's facts at which the contacts were judged.
    pub judged_revision: i64,
    /// End of the hours that were open then.
    pub judged_until: Instant,
}

impl Terms {
    /// Returns whether the lease is in force.
    #[must_use]
    pub fn is_in_force(&self, now: Instant) -> bool {
        self.expires_at > now
    }

    /// Returns whether nothing that could change a verdict happened since the contacts were leased.
    #[must_use]
    pub fn is_as_judged(&self, revision: i64, now: Instant) -> bool {
        self.judged_revision == revision && now < self.judged_until
    }
}

/// Returns the campaign when its slots may be decided one by one. `terms` are those of the asker's own lease.
///
/// # Errors
/// The [`Decision`] that holds for all slots.
pub fn admit<'a>(
    terms: &Terms,
    campaign: Option<&'a Campaign>,
    now: Instant,
) -> Result<&'a Campaign, Decision> {
    if !terms.is_in_force(now) {
        return Err(Decision::LeaseLost);
    }
    campaign
        .filter(|campaign| campaign.run == terms.run && campaign.is_dialling(now))
        .ok_or(Decision::NotRunning)
}

/// Reason against dialling a contact at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The rules exclude the contact.
    Excluded,
    /// The contact may be dialled from this time on.
    NotBefore(Instant),
}

/// Returns the reason against dialling a contact; `candidate` is `None` when the contact was deleted.
#[must_use]
pub fn objection(
    rules: &RunRules,
    candidate: Option<&Candidate>,
    hours: Hours,
    now: Instant,
) -> Option<Objection> {
    let Some(candidate) = candidate else { return Some(Objection::Excluded) };
    match rules.judge(candidate, now) {
        Verdict::Removed(_) => Some(Objection::Excluded),
        Verdict::NotBefore(due_at) => Some(Objection::NotBefore(due_at)),
        Verdict::Eligible if hours == Hours::Open => None,
        // Due from now on: nobody of a zone is leased while its hours are shut. A change of the hours then
        // has no list of waiting contacts to look through.
        Verdict::Eligible => Some(Objection::NotBefore(now)),
    }
}

/// Returns whether a slot's contact must be judged again before [`decide`].
#[must_use]
pub fn is_in_doubt(slot: Option<Slot>, is_as_judged: bool) -> bool {
    match slot {
        Some(Slot::Leased) => !is_as_judged,
        // The worker may have missed the answer and dial only now.
        Some(Slot::Authorized) => true,
        Some(Slot::Ended | Slot::Closed) | None => false,
    }
}

/// Decides about one slot. `judge` is called when the contact is in doubt.
///
/// The second value is the time from which the contact waits again, when the answer closes the slot.
pub fn decide(
    slot: Option<Slot>,
    is_as_judged: bool,
    judge: impl FnOnce() -> Option<Objection>,
) -> (Decision, Option<Instant>) {
    let objection = if is_in_doubt(slot, is_as_judged) { judge() } else { None };
    match (slot, objection) {
        (Some(Slot::Ended | Slot::Closed) | None, _) => (Decision::SlotClosed, None),
        (_, Some(Objection::Excluded)) => (Decision::Excluded, None),
        (Some(Slot::Leased), Some(Objection::NotBefore(at))) => (Decision::NotNow, Some(at)),
        // The slot stays: only the worker knows whether the phone rang.
        (Some(Slot::Authorized), Some(Objection::NotBefore(_))) => (Decision::NotNow, None),
        (Some(Slot::Leased), None) => (Decision::Granted, None),
        (Some(Slot::Authorized), None) => (Decision::AlreadyGranted, None),
    }
}

/// Moves a slot on by the answer for it. Returns whether the slot changed.
pub fn settle(slots: &mut Slots, index: usize, decision: Decision) -> bool {
    match decision {
        Decision::Granted => slots.advance(index, Slot::Authorized),
        Decision::Excluded | Decision::NotNow => slots.advance(index, Slot::Closed),
        _ => false,
    }
}

/// Slots of a lease that expired, by what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Slots that nobody dialled: their contacts are given back.
    pub given_back: Vec<usize>,
    /// Slots with a call whose end is unknown: it is recorded as UNKNOWN, and the retry policy decides.
    pub unknown: Vec<usize>,
}

/// Returns what becomes of the slots of a lease that expired.
#[must_use]
pub fn expire(slots: &Slots) -> Expiry {
    Expiry { given_back: slots.in_state(Slot::Leased), unknown: slots.in_state(Slot::Authorized) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Tenant;
    use crate::campaign::Config;
    use crate::facts::Flags;
    use crate::history::ContactState;
    use crate::lifecycle::State;
    use crate::settings::LaunchSettings;
    use chrono::TimeDelta;
    use uuid::Uuid;

    fn at(seconds: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn running() -> Campaign {
        let draft = Campaign::draft(Uuid::nil(), Tenant::default(), Config::default(), at(0));
        draft.launched(State::Running, LaunchSettings::default(), 9)
    }

    fn terms() -> Terms {
        Terms { run: 1, expires_at: at(10), judged_revision: 4, judged_until: at(5) }
    }

    #[test]
    fn a_lease_in_force_of_the_run_that_dials_is_admitted() {
        let campaign = running();
        assert_eq!(admit(&terms(), Some(&campaign), at(9)), Ok(&campaign));
        let lost = Err(Decision::LeaseLost);
        assert_eq!(admit(&terms(), Some(&campaign), at(10)), lost, "its end is its end");
        let not_running = Err(Decision::NotRunning);
        assert_eq!(admit(&terms(), None, at(0)), not_running);
        for state in State::ALL.into_iter().filter(|state| *state != State::Running) {
            let stopped = Campaign { state, ..running() };
            assert_eq!(admit(&terms(), Some(&stopped), at(0)), not_running, "{state:?}");
        }
        let next = Campaign { run: 2, ..running() };
        assert_eq!(admit(&terms(), Some(&next), at(0)), not_running);
        let deleted = Campaign { is_deleted: true, ..running() };
        assert_eq!(admit(&terms(), Some(&deleted), at(0)), not_running);
    }

    #[test]
    fn contacts_are_as_judged_at_the_same_revision_and_until_their_hours_shut() {
        assert!(terms().is_as_judged(4, at(4)));
        assert!(!terms().is_as_judged(5, at(4)));
        assert!(!terms().is_as_judged(4, at(5)));
    }

    #[test]
    fn each_slot_gets_its_answer() {
        let excluded = Some(Objection::Excluded);
        let later = Some(Objection::NotBefore(at(7)));
        let unasked = || panic!("the contact is not in doubt");
        let ask = |slot, objection| decide(Some(slot), false, || objection);
        assert_eq!(decide(Some(Slot::Leased), true, unasked), (Decision::Granted, None));
        assert_eq!(ask(Slot::Leased, None), (Decision::Granted, None));
        assert_eq!(ask(Slot::Leased, excluded), (Decision::Excluded, None));
        assert_eq!(ask(Slot::Leased, later), (Decision::NotNow, Some(at(7))));
        let again = |objection| decide(Some(Slot::Authorized), true, || objection);
        assert_eq!(again(None), (Decision::AlreadyGranted, None));
        assert_eq!(again(excluded), (Decision::Excluded, None));
        assert_eq!(again(later), (Decision::NotNow, None), "it waits in no list: it may ring");
        for slot in [Some(Slot::Ended), Some(Slot::Closed), None] {
            assert_eq!(decide(slot, false, unasked), (Decision::SlotClosed, None));
        }
    }

    #[test]
    fn a_contact_is_dialled_when_rules_and_hours_allow() {
        let rules = running().rules();
        let candidate =
            Candidate { position: 1, is_suppressed: false, state: ContactState::default() };
        let ask = |candidate: &Candidate, hours| objection(&rules, Some(candidate), hours, at(3));
        assert_eq!(ask(&candidate, Hours::Open), None);
        let now = Some(Objection::NotBefore(at(3)));
        assert_eq!(ask(&candidate, Hours::Shut), now);
        assert_eq!(ask(&candidate, Hours::ShutUntil(at(8))), now);
        let epoch = rules.epoch;
        let state = ContactState { epoch, due_at: Some(at(4)), ..ContactState::default() };
        let waiting = Candidate { state, ..candidate.clone() };
        assert_eq!(ask(&waiting, Hours::Open), Some(Objection::NotBefore(at(4))));
        let state = ContactState { epoch, flags: Flags::REFUSED, ..ContactState::default() };
        let refused = Candidate { state, ..candidate };
        assert_eq!(ask(&refused, Hours::Open), Some(Objection::Excluded));
        let gone = objection(&rules, None, Hours::Open, at(3));
        assert_eq!(gone, Some(Objection::Excluded));
    }

    #[test]
    fn answers_move_slots_and_expiry_tells_them_apart() {
        let mut slots = Slots::new(4);
        assert!(settle(&mut slots, 0, Decision::Granted));
        assert!(settle(&mut slots, 1, Decision::Excluded));
        assert!(settle(&mut slots, 2, Decision::NotNow));
        assert!(!settle(&mut slots, 3, Decision::Throttled));
        assert!(!settle(&mut slots, 0, Decision::NotNow), "an authorised slot stays");
        let found = [0, 1, 2, 3].map(|index| slots.get(index));
        let wanted = [Slot::Authorized, Slot::Closed, Slot::Closed, Slot::Leased];
        assert_eq!(found, wanted.map(Some));
        assert_eq!(expire(&slots), Expiry { given_back: vec![3], unknown: vec![0] });
    }

    #[test]
    fn a_worker_dials_what_was_granted_now_or_before() {
        use Decision::{AlreadyGranted, Excluded, Granted, LeaseLost, NotNow, NotRunning};
        use Decision::{SlotClosed, Throttled};
        for decision in [Granted, AlreadyGranted] {
            assert!(decision.is_to_dial(), "{decision:?}");
        }
        for decision in [LeaseLost, NotRunning, Excluded, NotNow, SlotClosed, Throttled] {
            assert!(!decision.is_to_dial(), "{decision:?}");
        }
    }
}
