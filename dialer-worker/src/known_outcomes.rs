//! Outcomes that the service at the other end of the stream records. During an upgrade it may be
//! older than the worker, and it would reject an outcome that it does not know. The attempt would then
//! have no end.

use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, Report};

/// Outcomes that a service records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownOutcomes {
    /// Bit for each outcome, by its number in the API.
    bits: u64,
}

impl KnownOutcomes {
    /// Reads the outcomes that a welcome names. A service that names none is older than this list.
    pub fn of(named: &[i32]) -> Self {
        let oldest = CallOutcome::Answered as i32..=CallOutcome::Unknown as i32;
        let known: Vec<i32> = if named.is_empty() { oldest.collect() } else { named.to_vec() };
        let bit = |number: &i32| 1_u64.checked_shl(u32::try_from(*number).ok()?);
        Self { bits: known.iter().filter_map(bit).fold(0, |bits, bit| bits | bit) }
    }

    fn has(self, outcome: CallOutcome) -> bool {
        self.bits & 1 << outcome as u32 != 0
    }

    /// Puts outcomes that the service does not know as the nearest ones that it knows.
    pub fn put(self, report: &mut Report) {
        for interaction in &mut report.interactions {
            if let Some(Fact::CallEnded(ended)) = &mut interaction.fact
                && !self.has(ended.outcome())
            {
                ended.set_outcome(nearest(ended.outcome()));
            }
        }
    }
}

/// Returns the nearest outcome that every service knows.
fn nearest(outcome: CallOutcome) -> CallOutcome {
    match outcome {
        CallOutcome::Rejected | CallOutcome::InvalidNumber | CallOutcome::Congested => {
            CallOutcome::Failed
        }
        CallOutcome::Cancelled => CallOutcome::NoAnswer,
        // A person answered. An older service does not call such a contact again.
        CallOutcome::Abandoned => CallOutcome::Answered,
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Outcome;
    use campaign_proto::v1::{CallEnded, Interaction, Success};

    fn sent(known: KnownOutcomes, outcome: CallOutcome) -> CallOutcome {
        let ended = CallEnded { outcome: outcome.into(), ..CallEnded::default() };
        let facts = [Fact::CallEnded(ended), Fact::Success(Success {})];
        let interactions =
            facts.map(|fact| Interaction { fact: Some(fact), ..Interaction::default() }).to_vec();
        let mut report = Report { interactions, ..Report::default() };
        known.put(&mut report);
        match &report.interactions[0].fact {
            Some(Fact::CallEnded(ended)) => ended.outcome(),
            other => panic!("another fact: {other:?}"),
        }
    }

    #[test]
    fn an_older_service_gets_outcomes_that_it_knows() {
        let older = KnownOutcomes::of(&[]);
        let got = Outcome::ALL.map(|outcome| sent(older, outcome.to_api()));
        use CallOutcome::{Answered, Busy, Failed, NoAnswer, Unknown, Voicemail};
        assert_eq!(
            got,
            [
                Answered, NoAnswer, Busy, Voicemail, Failed, Unknown, Failed, Failed, Failed,
                Answered, NoAnswer
            ]
        );
    }

    #[test]
    fn a_service_that_names_outcomes_gets_each_of_them() {
        let named: Vec<i32> = Outcome::ALL.map(|outcome| outcome.to_api().into()).to_vec();
        let newer = KnownOutcomes::of(&[&named[..], &[63, 64, 1_000, -1]].concat());
        for outcome in Outcome::ALL.map(Outcome::to_api) {
            assert_eq!(sent(newer, outcome), outcome);
        }
    }
}
