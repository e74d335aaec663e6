//! Planned course of a simulated call.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::call::{EndDetail, Fact, Outcome, Party};

/// Probabilities of outcomes and facts, each from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Odds {
    /// Share of all calls. All other shares of calls are of the rest.
    pub congested: f64,
    /// Share of all calls. The outcomes may sum to less than 1; the rest has failed.
    pub answered: f64,
    /// Share of all calls.
    pub no_answer: f64,
    /// Share of all calls.
    pub busy: f64,
    /// Share of all calls.
    pub voicemail: f64,
    /// Share of all calls.
    pub rejected: f64,
    /// Share of all calls.
    pub invalid_number: f64,
    /// Share of all calls.
    pub abandoned: f64,
    /// Share of answered calls.
    pub transferred: f64,
    /// Share of answered calls.
    pub opted_out: f64,
    /// Share of answered calls.
    pub success: f64,
    /// Share of answered calls.
    pub text_sent: f64,
    /// Share of texts sent.
    pub link_opened: f64,
}

impl Default for Odds {
    fn default() -> Self {
        Self {
            congested: 0.0,
            answered: 0.55,
            no_answer: 0.20,
            busy: 0.08,
            voicemail: 0.12,
            rejected: 0.005,
            invalid_number: 0.01,
            abandoned: 0.005,
            transferred: 0.20,
            opted_out: 0.04,
            success: 0.25,
            text_sent: 0.30,
            link_opened: 0.40,
        }
    }
}

/// Course of one call, in simulated seconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub outcome: Outcome,
    /// Seconds from dial to answer, or to the end.
    pub ring_seconds: f64,
    /// Seconds from answer to end.
    pub talk_seconds: f64,
    /// Facts in order, each with its seconds after the answer.
    pub facts: Vec<(f64, Fact)>,
    /// Seconds from the end of the call to the opening of the link.
    pub link_opened_after_seconds: Option<f64>,
}

impl Plan {
    pub fn new(seed: u64, attempt_id: &str, odds: &Odds) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ fingerprint(attempt_id));
        let outcome = outcome(&mut random, odds);
        let ring_seconds = match outcome {
            Outcome::Answered => random.random_range(3.0..20.0),
            Outcome::Voicemail => random.random_range(15.0..25.0),
            Outcome::NoAnswer => 30.0,
            Outcome::Abandoned => random.random_range(3.0..20.0),
            Outcome::Busy | Outcome::Rejected => 2.0,
            _ => 1.0,
        };
        let unanswered = Self {
            outcome,
            ring_seconds,
            talk_seconds: 0.0,
            facts: Vec::new(),
            link_opened_after_seconds: None,
        };
        match outcome {
            Outcome::Answered => unanswered.with_talk(&mut random, odds),
            Outcome::Voicemail => Self { talk_seconds: 20.0, ..unanswered },
            Outcome::Abandoned => Self { talk_seconds: 2.0, ..unanswered },
            _ => unanswered,
        }
    }

    fn with_talk(mut self, random: &mut StdRng, odds: &Odds) -> Self {
        self.talk_seconds = random.random_range(20.0..120.0);
        if random.random_bool(odds.transferred) {
            // Values on either side of 60, 90 and 120 s, which launch settings distinguish.
            let seconds_before_transfer = random.random_range(45..=150);
            let at = f64::from(seconds_before_transfer);
            self.talk_seconds = at + random.random_range(30.0..60.0);
            self.facts.push((at, Fact::Transferred { seconds_before_transfer }));
        }
        let talk_seconds = self.talk_seconds;
        if random.random_bool(odds.success) {
            self.facts.push((talk_seconds * 0.8, Fact::Success));
        }
        if random.random_bool(odds.text_sent) {
            self.facts.push((talk_seconds * 0.9, Fact::TextSent));
            if random.random_bool(odds.link_opened) {
                self.link_opened_after_seconds = Some(random.random_range(5.0..600.0));
            }
        }
        if random.random_bool(odds.opted_out) {
            self.facts.push((
                talk_seconds,
                Fact::OptedOut { channel: "call".to_owned(), everywhere: false },
            ));
        }
        self.facts.sort_by(|(at, _), (other, _)| at.total_cmp(other));
        self
    }
}

fn outcome(random: &mut StdRng, odds: &Odds) -> Outcome {
    let outcomes = [
        (odds.answered, Outcome::Answered),
        (odds.no_answer, Outcome::NoAnswer),
        (odds.busy, Outcome::Busy),
        (odds.voicemail, Outcome::Voicemail),
        (odds.rejected, Outcome::Rejected),
        (odds.invalid_number, Outcome::InvalidNumber),
        (odds.abandoned, Outcome::Abandoned),
    ];
    if odds.congested > 0.0 && random.random_bool(odds.congested.min(1.0)) {
        return Outcome::Congested;
    }
    let mut left: f64 = random.random();
    for (odds, outcome) in outcomes {
        if left < odds {
            return outcome;
        }
        left -= odds;
    }
    Outcome::Failed
}

/// Returns the details that a SIP trunk tells about such an end.
pub(super) fn detail(outcome: Outcome) -> EndDetail {
    let (code, cause, reason) = match outcome {
        Outcome::Busy => (486, 17, "Busy Here"),
        Outcome::Rejected => (607, 21, "Unwanted"),
        Outcome::InvalidNumber => (404, 1, "Not Found"),
        Outcome::Congested => (503, 34, "Service Unavailable"),
        _ => return EndDetail::default(),
    };
    let is_persons = matches!(outcome, Outcome::Busy | Outcome::Rejected);
    EndDetail {
        code: Some(code),
        cause: Some(cause),
        reason: Some(reason.to_owned()),
        hung_up_by: Some(if is_persons { Party::Contact } else { Party::Provider }),
        ..EndDetail::default()
    }
}

/// Returns the FNV-1a hash. It is the same in every build, which the standard library does not
/// promise for its own hashes.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPTS: i32 = 20_000;

    fn plans(seed: u64) -> Vec<Plan> {
        let odds = Odds::default();
        (0..ATTEMPTS).map(|slot| Plan::new(seed, &format!("1-1-{slot}"), &odds)).collect()
    }

    #[test]
    fn a_plan_follows_from_seed_and_attempt() {
        assert_eq!(plans(7), plans(7));
        assert_ne!(plans(7), plans(8));
    }

    #[test]
    fn shares_are_as_the_odds_say() {
        let plans = plans(1);
        let share = |wanted: &dyn Fn(&Plan) -> bool, of: usize| {
            plans.iter().filter(|plan| wanted(plan)).count() as f64 / of as f64
        };
        let answered = plans.iter().filter(|plan| plan.outcome == Outcome::Answered).count();
        let texted = plans.iter().filter(|plan| has(plan, |fact| *fact == Fact::TextSent)).count();
        let shares = [
            (0.55, share(&|plan| plan.outcome == Outcome::Answered, plans.len())),
            (0.20, share(&|plan| plan.outcome == Outcome::NoAnswer, plans.len())),
            (0.08, share(&|plan| plan.outcome == Outcome::Busy, plans.len())),
            (0.12, share(&|plan| plan.outcome == Outcome::Voicemail, plans.len())),
            (0.03, share(&|plan| plan.outcome == Outcome::Failed, plans.len())),
            (0.20, share(&|plan| transfer(plan).is_some(), answered)),
            (0.04, share(&|plan| has(plan, |f| matches!(f, Fact::OptedOut { .. })), answered)),
            (0.25, share(&|plan| has(plan, |fact| *fact == Fact::Success), answered)),
            (0.30, texted as f64 / answered as f64),
            (0.40, share(&|plan| plan.link_opened_after_seconds.is_some(), texted)),
        ];
        for (expected, share) in shares {
            assert!((expected - share).abs() < 0.02, "{share} is not about {expected}");
        }
    }

    #[test]
    fn transfers_come_at_all_times_and_facts_within_the_call() {
        let plans = plans(1);
        for (from, to) in [(45, 60), (61, 90), (91, 120), (121, 150)] {
            let count =
                plans.iter().filter_map(transfer).filter(|s| (from..=to).contains(s)).count();
            assert!(count > 100, "{count} transfers from {from} to {to} s");
        }
        for plan in plans {
            assert!(plan.facts.is_sorted_by(|(at, _), (other, _)| at <= other));
            assert!(plan.facts.iter().all(|(at, _)| *at <= plan.talk_seconds));
        }
    }

    #[test]
    fn every_outcome_that_a_provider_tells_is_simulated() {
        let odds = Odds { congested: 0.1, ..Odds::default() };
        let plan = |slot| Plan::new(1, &format!("1-1-{slot}"), &odds);
        let plans: Vec<Plan> = (0..ATTEMPTS).map(plan).collect();
        let told = Outcome::ALL.into_iter().filter(|outcome| {
            // Only the worker knows of these two.
            !matches!(outcome, Outcome::Unknown | Outcome::Cancelled)
        });
        for outcome in told {
            let count = plans.iter().filter(|plan| plan.outcome == outcome).count();
            assert!(count > 50, "{count} of {ATTEMPTS} calls are {outcome:?}");
        }
    }

    fn has(plan: &Plan, wanted: impl Fn(&Fact) -> bool) -> bool {
        plan.facts.iter().any(|(_, fact)| wanted(fact))
    }

    fn transfer(plan: &Plan) -> Option<i32> {
        plan.facts.iter().find_map(|(_, fact)| match fact {
            Fact::Transferred { seconds_before_transfer } => Some(*seconds_before_transfer),
            _ => None,
        })
    }
}
