//! History of a contact, and the changes that reported facts make to it.

use crate::Instant;
use crate::facts::{CallOutcome, Fact, Flags};
use crate::lease::SlotId;
use crate::retry::{GiveBacks, RetryPolicy};
use crate::settings::Epoch;
use chrono::TimeDelta;

/// Longest time that a contact who called in is not called, unless a report ends that call earlier.
const INBOUND_CALL_LIMIT: TimeDelta = TimeDelta::hours(2);

/// Longest time of a call.
const CALL_LIMIT: TimeDelta = TimeDelta::hours(24);

/// Stored state of a contact with any history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContactState {
    /// Epoch of the fields below.
    pub epoch: Epoch,
    /// Events in the generation.
    pub flags: Flags,
    /// Longest time on a call before a transfer in the generation, in seconds.
    pub longest_transfer_seconds: i32,
    /// Ended and unknown attempts in the generation.
    pub attempts: i32,
    /// Outcome of the last attempt that ended in the generation.
    pub last_outcome: Option<CallOutcome>,
    /// Run during or after which the last refusal was recorded.
    pub refused_run: i32,
    /// Events in the cycle.
    pub cycle_flags: Flags,
    /// Ended and unknown attempts in the cycle.
    pub cycle_attempts: i32,
    /// Whether the contact was reached, or is out of attempts, in the cycle.
    pub finished: bool,
    /// Earliest time of the next attempt.
    pub due_at: Option<Instant>,
    /// Whether the end of the last attempt is unknown, so the phone may still ring. `due_at` then
    /// holds in later cycles and generations too.
    pub may_ring: bool,
    /// Whether the person called in and no report ended the call. `due_at` then holds as for
    /// `may_ring`.
    pub is_calling_in: bool,
    /// Last attempt of the generation whose end was recorded. Its stored record names the attempt
    /// before it.
    pub last_call: Option<SlotId>,
    /// Attempts of the cycle that were given back.
    pub given_back: i32,
    /// Whether something else than the end of the last call finished the contact in the cycle.
    pub is_finished_otherwise: bool,
}

/// Circumstances of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// Current epoch of the campaign.
    pub epoch: Epoch,
    /// Current or last run of the campaign.
    pub run: i32,
    /// Epoch of the fact's attempt. Without an attempt, this is the campaign's own.
    pub fact_epoch: Epoch,
    /// Outcome that the fact replaces: see [`CallOutcome::gives_way_to`].
    pub replaces: Option<CallOutcome>,
    /// Attempt of the fact, if any.
    pub call: Option<SlotId>,
    /// Retry policy for attempts that end.
    pub retry: &'a RetryPolicy,
    /// Rule for attempts in which no phone can have rung.
    pub give_backs: GiveBacks,
    /// Current time.
    pub now: Instant,
}

impl Recording<'_> {
    /// Whether the fact belongs to history that a reset has cleared.
    #[must_use]
    pub fn is_before_reset(&self, fact: &Fact) -> bool {
        self.fact_epoch.generation < self.epoch.generation && !fact.outlives_reset()
    }
}

impl ContactState {
    /// Returns the state as seen in an epoch, without the parts of older epochs.
    #[must_use]
    pub fn seen_in(mut self, epoch: Epoch) -> Self {
        if self.epoch.generation != epoch.generation {
            return self.only_busy(epoch);
        }
        if self.epoch.cycle != epoch.cycle {
            self.cycle_flags = Flags::NONE;
            self.cycle_attempts = 0;
            self.finished = false;
            self.due_at = self.busy_until();
            self.given_back = 0;
            self.is_finished_otherwise = false;
        }
        self.epoch = epoch;
        self
    }

    /// Returns the remainder of an erased contact's state: until when its phone may be in use.
    #[must_use]
    pub fn erased(self, now: Instant) -> Self {
        let is_busy = self.busy_until().is_some_and(|until| until > now);
        if is_busy { self.only_busy(self.epoch) } else { Self::default() }
    }

    /// Returns the remainder after a reset to `generation`. A state of an older generation keeps only until
    /// when the phone may be in use; other states stay.
    #[must_use]
    pub fn after_reset(self, generation: i32, now: Instant) -> Self {
        if self.epoch.generation >= generation {
            return self;
        }
        let is_busy = self.busy_until().is_some_and(|until| until > now);
        // The cycle is one that no run has, because only the wait remains.
        if is_busy { self.only_busy(Epoch { generation, cycle: 0 }) } else { Self::default() }
    }

    /// Returns until when the person's phone may be in use, as far as the state knows.
    fn busy_until(&self) -> Option<Instant> {
        self.due_at.filter(|_| self.may_ring || self.is_calling_in)
    }

    /// Returns a state that records only until when the phone may be in use, if it may.
    fn only_busy(&self, epoch: Epoch) -> Self {
        Self {
            epoch,
            due_at: self.busy_until(),
            may_ring: self.may_ring,
            is_calling_in: self.is_calling_in,
            ..Self::default()
        }
    }

    /// Returns the state of a contact that is in a call of its run and may come up again in the
    /// run. The contact is not called before that call's end is recorded, or the longest time of a
    /// call has passed.
    #[must_use]
    pub fn in_call(self, epoch: Epoch, now: Instant) -> Self {
        let mut state = self.seen_in(epoch);
        state.due_at = state.due_at.max(Some(now + CALL_LIMIT));
        state.may_ring = true;
        state
    }

    /// Returns the state while the contact is on a call that it began. It is not called meanwhile,
    /// whatever is launched.
    #[must_use]
    pub fn on_inbound_call(self, epoch: Epoch, now: Instant) -> Self {
        let mut state = self.seen_in(epoch);
        state.due_at = state.due_at.max(Some(now + INBOUND_CALL_LIMIT));
        state.is_calling_in = true;
        state
    }

    /// Returns the state after a fact. Facts commute: the order of reports does not affect which
    /// contacts are engaged.
    #[must_use]
    pub fn after(self, fact: &Fact, at: &Recording<'_>) -> Self {
        let mut state = self.seen_in(at.epoch);
        if at.is_before_reset(fact) {
            if let Fact::CallEnded { outcome, .. } = fact {
                state.end_earlier_call(*outcome, at);
            }
            return state;
        }
        match fact {
            Fact::CallEnded { outcome, .. } => state.end_call(*outcome, at),
            Fact::Transferred { seconds_before_transfer: seconds } => {
                state.longest_transfer_seconds = state.longest_transfer_seconds.max(*seconds);
                state.add(Flags::of_transfer(*seconds), at);
            }
            Fact::OptedOut { .. } => {
                state.refused_run = at.run;
                state.add(Flags::REFUSED, at);
            }
            Fact::Success => state.add(Flags::SUCCESS, at),
            Fact::LinkOpened { .. } => state.add(Flags::LINK_OPENED, at),
            Fact::TextSent => state.add(Flags::TEXTED, at),
            // A person who was just talked to is not called as well.
            Fact::CalledIn { .. } if at.fact_epoch.cycle == at.epoch.cycle => {
                state.is_calling_in = false;
                state.is_finished_otherwise = true;
                state.finish();
            }
            Fact::CalledIn { .. } => {}
        }
        state
    }

    fn add(&mut self, flags: Flags, at: &Recording<'_>) {
        self.flags = self.flags.with(flags);
        if at.fact_epoch.cycle == at.epoch.cycle {
            self.cycle_flags = self.cycle_flags.with(flags);
        }
    }

    fn end_call(&mut self, outcome: CallOutcome, at: &Recording<'_>) {
        let in_cycle = at.fact_epoch.cycle == at.epoch.cycle;
        if let Some(replaced) = at.replaces {
            return self.correct(replaced, outcome, in_cycle, at);
        }
        self.last_outcome = Some(outcome);
        self.last_call = at.call;
        // A correction of this end must not undo what finished the contact before.
        self.is_finished_otherwise |= in_cycle && self.finished;
        let next = match outcome {
            // No phone rang, so the attempt counts for nothing. It is counted as one only if the
            // contact came back too often.
            CallOutcome::Congested if !in_cycle => None,
            CallOutcome::Congested => at.give_backs.next_attempt(self.given_back, at.now),
            _ => None,
        };
        if let Some(next) = next {
            self.given_back += 1;
            self.wait(Some(next), at);
        } else if in_cycle {
            self.attempts += 1;
            self.cycle_attempts += 1;
            let next = at.retry.next_attempt(outcome, self.cycle_attempts, at.now);
            self.finished = self.finished || next.is_none();
            self.wait(next, at);
        } else if outcome != CallOutcome::Congested {
            self.attempts += 1;
        }
        self.end_earlier_call(outcome, at);
    }

    /// Records that an attempt ended otherwise than was recorded before. The attempt is counted
    /// already.
    fn correct(
        &mut self,
        replaced: CallOutcome,
        outcome: CallOutcome,
        in_cycle: bool,
        at: &Recording<'_>,
    ) {
        let is_last = self.last_call == at.call;
        if is_last {
            self.last_outcome = Some(outcome);
        }
        // A newer attempt with an unknown end keeps its wait.
        self.may_ring = self.may_ring && !(is_last && replaced == CallOutcome::Unknown);
        if !in_cycle {
            return;
        }
        if outcome.is_final() {
            self.is_finished_otherwise |= !is_last;
            self.finish();
        } else if replaced == CallOutcome::Answered && is_last && !self.is_finished_otherwise {
            // Only the answer had finished the contact.
            let next = at.retry.next_attempt(outcome, self.cycle_attempts, at.now);
            self.finished = next.is_none();
            self.due_at = next.max(self.busy_until());
        }
    }

    /// Schedules the next attempt after a known end.
    fn wait(&mut self, next: Option<Instant>, at: &Recording<'_>) {
        self.may_ring = false;
        // A call that the person began meanwhile may last longer.
        let calling_in = self.busy_until().filter(|until| *until > at.now);
        self.is_calling_in = calling_in.is_some();
        self.due_at = next.max(calling_in);
    }

    /// Records the end of a call from before a rerun or a reset, which counts for nothing in the
    /// new run. If the phone may still ring, no other call may follow at once, whatever is launched
    /// meanwhile.
    fn end_earlier_call(&mut self, outcome: CallOutcome, at: &Recording<'_>) {
        if outcome == CallOutcome::Unknown {
            self.due_at = self.due_at.max(at.retry.next_attempt(outcome, 0, at.now));
            self.may_ring = true;
        } else if self.may_ring && at.replaces.is_none() {
            // This same call had marked the phone as in use.
            self.may_ring = false;
            self.due_at = self.busy_until();
        }
    }

    /// Ends the attempts of the cycle. A wait that prevents a second ring stays, for the next
    /// cycle.
    fn finish(&mut self) {
        self.finished = true;
        self.due_at = self.busy_until();
    }
}

#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod tests;
