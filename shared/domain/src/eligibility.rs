//! Eligibility of a contact in a run. Leasing, authorising, previews, explanations and progress all
//! ask [`RunRules::judge`].

use crate::Instant;
use crate::facts::Flags;
use crate::history::ContactState;
use crate::settings::{Epoch, LaunchSettings};

/// Rules that decide about contacts in one run.
#[derive(Clone, Copy, Debug)]
pub struct RunRules {
    /// Number of the run.
    pub run: i32,
    /// Epoch of history and completions that count.
    pub epoch: Epoch,
    /// Settings of the launch.
    pub settings: LaunchSettings,
    /// First position that is not in the run; `None` when all are.
    pub position_limit: Option<i64>,
}

/// Contact as the rules see it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Number of the contact in the campaign.
    pub position: i64,
    /// Whether the number is on the suppression list.
    pub is_suppressed: bool,
    /// State as stored; the rules read it in their own epoch.
    pub state: ContactState,
}

/// Verdict of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The contact may be engaged now.
    Eligible,
    /// The contact may be engaged at this time.
    NotBefore(Instant),
    /// The contact is not engaged.
    Removed(Reason),
}

/// Reason why a contact is not engaged. A contact counts for the first reason that applies, in this
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Created after the launch.
    NotInRun,
    /// On the suppression list.
    Suppressed,
    /// Opted out.
    Refused,
    /// Transferred, beyond the bound.
    Transferred,
    /// Reached the campaign's goal.
    Success,
    /// Clicked a link.
    LinkOpened,
    /// Received a text.
    Texted,
    /// Reached, or out of attempts.
    Finished,
}

impl RunRules {
    /// Decides about one contact.
    #[must_use]
    pub fn judge(&self, candidate: &Candidate, now: Instant) -> Verdict {
        if self.position_limit.is_some_and(|limit| candidate.position >= limit) {
            return Verdict::Removed(Reason::NotInRun);
        }
        if candidate.is_suppressed {
            return Verdict::Removed(Reason::Suppressed);
        }
        let state = candidate.state.clone().seen_in(self.epoch);
        if self.excludes_refusal(&state) {
            return Verdict::Removed(Reason::Refused);
        }
        if let Some(reason) = self.excluded_by_history(&state) {
            return Verdict::Removed(reason);
        }
        if state.finished {
            return Verdict::Removed(Reason::Finished);
        }
        match state.due_at {
            Some(due_at) if due_at > now => Verdict::NotBefore(due_at),
            _ => Verdict::Eligible,
        }
    }

    /// Returns when a contact may be engaged; `None` when it is not any more.
    #[must_use]
    pub fn next_attempt(&self, candidate: &Candidate, now: Instant) -> Option<Instant> {
        match self.judge(candidate, now) {
            Verdict::Removed(_) => None,
            Verdict::Eligible => Some(now),
            Verdict::NotBefore(due_at) => Some(due_at),
        }
    }

    /// Decides about a contact that may be in a call of an older run, whose lease ends at `call_until`.
    #[must_use]
    pub fn judge_beside(
        &self,
        candidate: &Candidate,
        call_until: Option<Instant>,
        now: Instant,
    ) -> Verdict {
        match call_until {
            Some(lease_end) => Verdict::NotBefore(lease_end),
            None => self.judge(candidate, now),
        }
    }

    /// Whether a refusal excludes the contact. A refusal since the launch always does; an earlier
    /// one does unless the launch brought it back.
    fn excludes_refusal(&self, state: &ContactState) -> bool {
        let refused = state.flags.intersects(Flags::REFUSED);
        let since_launch = state.refused_run >= self.run;
        let brought_back = !self.settings.exclude.refused && !self.settings.rerun_all_contacts;
        refused && (since_launch || !brought_back)
    }

    fn excluded_by_history(&self, state: &ContactState) -> Option<Reason> {
        // A rerun overrides everything before its launch. The launch began the cycle.
        let flags = if self.settings.rerun_all_contacts { state.cycle_flags } else { state.flags };
        let exclude = &self.settings.exclude;
        let rules = [
            (true, exclude.transferred.flag(), Reason::Transferred),
            (exclude.success, Flags::SUCCESS, Reason::Success),
            (exclude.link_opened, Flags::LINK_OPENED, Reason::LinkOpened),
            (exclude.texted, Flags::TEXTED, Reason::Texted),
        ];
        rules
            .into_iter()
            .find(|(is_asked, flag, _)| *is_asked && flags.intersects(*flag))
            .map(|(_, _, reason)| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Fact;
    use crate::history::Recording;
    use crate::retry::{GiveBacks, RetryPolicy};
    use crate::settings::{Exclusions, TransferredExclusion};

    const NOW: Instant = Instant::UNIX_EPOCH;

    fn rules(settings: LaunchSettings) -> RunRules {
        let before = Epoch { generation: 3, cycle: 2 };
        RunRules { run: 7, epoch: settings.epoch_after(before, 7), settings, position_limit: None }
    }

    /// Returns a contact with these facts recorded during run 6, before the launch of run 7.
    fn with_facts(facts: &[Fact]) -> Candidate {
        let epoch = Epoch { generation: 3, cycle: 2 };
        let retry = RetryPolicy::default();
        let at = Recording {
            epoch,
            run: 6,
            fact_epoch: epoch,
            replaces: None,
            give_backs: GiveBacks { first_wait_seconds: 60 },
            call: None,
            retry: &retry,
            now: NOW,
        };
        let start = ContactState { epoch, ..ContactState::default() };
        let state = facts.iter().fold(start, |state, fact| state.after(fact, &at));
        Candidate { position: 0, is_suppressed: false, state }
    }

    fn opted_out() -> Fact {
        Fact::OptedOut { channel: String::new(), everywhere: false }
    }

    #[test]
    fn transfers_are_excluded_by_strict_bounds() {
        use TransferredExclusion::{AnyTime, Ignore, MoreThan60s, MoreThan90s, MoreThan120s};
        let seconds = [59, 60, 61, 90, 91, 120, 121];
        let expected = [
            (Ignore, [false, false, false, false, false, false, false]),
            (AnyTime, [true, true, true, true, true, true, true]),
            (MoreThan60s, [false, false, true, true, true, true, true]),
            (MoreThan90s, [false, false, false, false, true, true, true]),
            (MoreThan120s, [false, false, false, false, false, false, true]),
        ];
        for (transferred, row) in expected {
            let exclude = Exclusions { transferred, ..Exclusions::default() };
            let rules = rules(LaunchSettings { exclude, ..LaunchSettings::default() });
            for (seconds, is_excluded) in seconds.into_iter().zip(row) {
                let contact = with_facts(&[Fact::Transferred { seconds_before_transfer: seconds }]);
                let verdict = rules.judge(&contact, NOW);
                let expected = if is_excluded {
                    Verdict::Removed(Reason::Transferred)
                } else {
                    Verdict::Eligible
                };
                assert_eq!(verdict, expected, "{transferred:?} {seconds}");
            }
        }
    }

    #[test]
    fn refusals_come_back_only_when_asked_and_only_from_before_the_launch() {
        let not_refused = Exclusions { refused: false, ..Exclusions::default() };
        let bring_back = LaunchSettings { exclude: not_refused, ..LaunchSettings::default() };
        let refused = with_facts(&[opted_out()]);
        let removed = Verdict::Removed(Reason::Refused);
        assert_eq!(rules(LaunchSettings::default()).judge(&refused, NOW), removed);
        assert_eq!(rules(bring_back).judge(&refused, NOW), Verdict::Eligible);

        let rerun = LaunchSettings { rerun_all_contacts: true, ..bring_back };
        assert_eq!(rules(rerun).judge(&refused, NOW), removed);

        let mut since_launch = refused.clone();
        since_launch.state.refused_run = 7;
        assert_eq!(rules(bring_back).judge(&since_launch, NOW), removed);

        let reset = LaunchSettings { reset_contact_history: true, ..LaunchSettings::default() };
        assert_eq!(rules(reset).judge(&refused, NOW), Verdict::Eligible);
    }

    #[test]
    fn a_rerun_overrides_what_happened_before_its_launch_only() {
        let exclude = Exclusions { success: true, ..Exclusions::default() };
        let once = LaunchSettings { exclude, ..LaunchSettings::default() };
        let rerun = LaunchSettings { rerun_all_contacts: true, ..once };
        let contact = with_facts(&[Fact::Success]);
        let removed = Verdict::Removed(Reason::Success);
        assert_eq!(rules(once).judge(&contact, NOW), removed);
        assert_eq!(rules(rerun).judge(&contact, NOW), Verdict::Eligible);

        let mut since_launch = contact;
        since_launch.state = since_launch.state.seen_in(rules(rerun).epoch);
        since_launch.state.cycle_flags = Flags::SUCCESS;
        assert_eq!(rules(rerun).judge(&since_launch, NOW), removed);
    }

    #[test]
    fn suppression_and_the_end_of_the_list_come_first() {
        let mut rules = rules(LaunchSettings::default());
        rules.position_limit = Some(1);
        let mut contact = with_facts(&[opted_out()]);
        contact.is_suppressed = true;
        assert_eq!(rules.judge(&contact, NOW), Verdict::Removed(Reason::Suppressed));
        contact.position = 1;
        assert_eq!(rules.judge(&contact, NOW), Verdict::Removed(Reason::NotInRun));
    }

    fn due(seconds: i64) -> Candidate {
        let mut contact = with_facts(&[]);
        contact.state.due_at = Some(NOW + chrono::TimeDelta::seconds(seconds));
        contact
    }

    #[test]
    fn a_contact_is_due_at_its_time_not_before() {
        let rules = rules(LaunchSettings::default());
        let later = NOW + chrono::TimeDelta::seconds(1);
        assert_eq!(rules.judge(&due(1), NOW), Verdict::NotBefore(later));
        assert_eq!(rules.judge(&due(1), later), Verdict::Eligible);
        assert_eq!(rules.judge(&due(-1), NOW), Verdict::Eligible);
        assert_eq!(rules.next_attempt(&due(1), NOW), Some(later));
        assert_eq!(rules.next_attempt(&due(1), later), Some(later));
        assert_eq!(rules.next_attempt(&due(-1), NOW), Some(NOW), "not in the past");
        assert_eq!(rules.next_attempt(&with_facts(&[opted_out()]), NOW), None);
    }

    #[test]
    fn a_call_of_an_older_run_goes_before_every_rule() {
        let rules = rules(LaunchSettings::default());
        let refused = with_facts(&[opted_out()]);
        assert_eq!(rules.judge_beside(&refused, Some(NOW), NOW), Verdict::NotBefore(NOW));
        let removed = Verdict::Removed(Reason::Refused);
        assert_eq!(rules.judge_beside(&refused, None, NOW), removed);
    }

    #[test]
    fn an_exclusion_removes_its_own_contacts_only() {
        let none = Exclusions::default();
        let link = Fact::LinkOpened { link: String::new() };
        let cases = [
            (Exclusions { success: true, ..none }, Fact::Success, Reason::Success),
            (Exclusions { link_opened: true, ..none }, link, Reason::LinkOpened),
            (Exclusions { texted: true, ..none }, Fact::TextSent, Reason::Texted),
        ];
        for (exclude, _, reason) in &cases {
            let rules = rules(LaunchSettings { exclude: *exclude, ..LaunchSettings::default() });
            for (_, fact, its_reason) in &cases {
                let verdict = rules.judge(&with_facts(std::slice::from_ref(fact)), NOW);
                let removed = Verdict::Removed(*reason);
                let expected = if its_reason == reason { removed } else { Verdict::Eligible };
                assert_eq!(verdict, expected, "{fact:?} when {reason:?} is excluded");
            }
        }
    }
}
