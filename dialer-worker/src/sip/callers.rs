//! Numbers shown to contacts: they take turns, have a daily limit, and rest when too few answer.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::identity::{CallerId, IdentityConfig};

/// Number shown if none is given.
const NOBODY: &str = "campaign";
const DAY: Duration = Duration::from_secs(86_400);
/// Calls that rang by which a number is judged.
const JUDGED_CALLS: usize = 100;

/// Numbers of all campaigns.
pub(super) struct Callers {
    calls_per_day: Option<u32>,
    min_answer_percent: Option<u32>,
    numbers: Mutex<Vec<Number>>,
}

struct Number {
    of: CallerId,
    /// Calls since `day_began`.
    calls: u32,
    day_began: Option<Instant>,
    last_used: Option<Instant>,
    /// Whether the last calls that rang were answered.
    answered: VecDeque<bool>,
    rests_until: Option<Instant>,
}

impl Callers {
    pub fn new(config: &IdentityConfig) -> Self {
        let mut all = config.sip_caller.clone();
        if all.iter().all(|of| of.campaign.is_some()) {
            all.push(CallerId { campaign: None, number: NOBODY.to_owned() });
        }
        let number = |of| Number {
            of,
            calls: 0,
            day_began: None,
            last_used: None,
            answered: VecDeque::new(),
            rests_until: None,
        };
        Self {
            calls_per_day: config.sip_caller_calls_per_day,
            min_answer_percent: config.sip_caller_min_answer_percent,
            numbers: Mutex::new(all.into_iter().map(number).collect()),
        }
    }

    /// Returns the first number for everybody. It stands for the worker itself.
    pub fn first(&self) -> String {
        let numbers = self.numbers();
        let first = numbers.iter().find(|number| number.of.campaign.is_none());
        first.map_or_else(|| NOBODY.to_owned(), |number| number.of.number.clone())
    }

    /// Takes the number for a contact's call: of those that may call, the one that waits longest.
    /// Returns `None` if all had their calls of the day.
    pub fn take(&self, contact: &str, now: Instant) -> Option<String> {
        let campaign = contact.split("/contacts/").next();
        let mut numbers = self.numbers();
        let has_own = numbers.iter().any(|number| number.of.campaign.as_deref() == campaign);
        let wanted = campaign.filter(|_| has_own);
        let limit = self.calls_per_day.unwrap_or(u32::MAX);
        let free: Vec<&mut Number> = numbers
            .iter_mut()
            .filter(|number| number.of.campaign.as_deref() == wanted)
            .filter_map(|number| {
                number.begin_day(now);
                (number.calls < limit).then_some(number)
            })
            .collect();
        // A number that rests is better than none.
        let number = free.into_iter().min_by_key(|number| (number.rests(now), number.last_used))?;
        number.calls += 1;
        number.last_used = Some(now);
        Some(number.of.number.clone())
    }

    /// Notes whether a call that rang was answered.
    pub fn rang(&self, shown: &str, is_answered: bool, now: Instant) {
        let Some(least) = self.min_answer_percent else { return };
        let mut numbers = self.numbers();
        for number in numbers.iter_mut().filter(|number| number.of.number == shown) {
            number.answered.push_back(is_answered);
            if number.answered.len() < JUDGED_CALLS {
                continue;
            }
            let answered = number.answered.iter().filter(|is_answered| **is_answered).count();
            if answered * 100 < least as usize * JUDGED_CALLS {
                warn!(caller = shown, answered, "a number rests for a day: too few answer it");
                number.rests_until = Some(now + DAY);
                number.answered.clear();
            } else {
                number.answered.pop_front();
            }
        }
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Vec<Number>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Number {
    fn begin_day(&mut self, now: Instant) {
        if self.day_began.is_none_or(|began| began + DAY <= now) {
            (self.day_began, self.calls) = (Some(now), 0);
        }
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::identity::NumberFormat;

    fn callers(numbers: &[&str], per_day: Option<u32>, percent: Option<u32>) -> Callers {
        Callers::new(&IdentityConfig {
            sip_caller: numbers.iter().map(|text| text.parse().expect("right")).collect(),
            sip_caller_calls_per_day: per_day,
            sip_caller_min_answer_percent: percent,
            sip_caller_name: None,
            sip_assert_identity: false,
            sip_number_format: NumberFormat::default(),
            sip_user_phone: false,
            sip_header: Vec::new(),
        })
    }

    #[test]
    fn numbers_of_a_campaign_take_turns() {
        let callers = callers(&["campaigns/a=+1", "campaigns/a=+2", "+3"], None, None);
        let now = Instant::now();
        let mut second = 0;
        let mut take = |contact| {
            second += 1;
            callers.take(contact, now + Duration::from_secs(second))
        };
        let taken: Vec<_> = (0..4).filter_map(|_| take("campaigns/a/contacts/x")).collect();
        assert_eq!(taken, ["+1", "+2", "+1", "+2"]);
        assert_eq!(take("campaigns/b/contacts/x").as_deref(), Some("+3"));
        assert_eq!(callers.first(), "+3");
    }

    #[test]
    fn a_number_has_its_calls_of_the_day_and_no_more() {
        let callers = callers(&["+1", "+2"], Some(2), None);
        let now = Instant::now();
        let taken: Vec<_> = (0..5).map(|_| callers.take("campaigns/a/contacts/x", now)).collect();
        assert_eq!(taken.iter().flatten().count(), 4);
        assert_eq!(taken[4], None);
        assert!(callers.take("campaigns/a/contacts/x", now + DAY).is_some());
    }

    #[test]
    fn a_number_that_nobody_answers_rests() {
        let callers = callers(&["+1", "+2"], None, Some(10));
        let now = Instant::now();
        for call in 0..JUDGED_CALLS {
            callers.rang("+1", call % 20 == 0, now);
            callers.rang("+2", call % 5 == 0, now);
        }
        let taken: Vec<_> =
            (0..3).filter_map(|_| callers.take("campaigns/a/contacts/x", now)).collect();
        assert_eq!(taken, ["+2", "+2", "+2"]);
        let next_day = now + DAY;
        assert_eq!(callers.take("campaigns/a/contacts/x", next_day).as_deref(), Some("+1"));
        for _ in 0..JUDGED_CALLS {
            callers.rang("+1", false, next_day);
            callers.rang("+2", false, next_day);
        }
        assert!(callers.take("campaigns/a/contacts/x", next_day).is_some(), "all of them rest");
    }

    #[test]
    fn somebody_calls_even_if_nobody_is_named() {
        let callers = callers(&[], None, None);
        assert_eq!(callers.take("campaigns/a/contacts/x", Instant::now()).as_deref(), Some(NOBODY));
    }
}
