//! Outbox of facts that the service has not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use campaign_process::traces::TraceContext;
use campaign_proto::v1::interaction::Fact as ReportedFact;
use campaign_proto::v1::{
    CallEnded, Interaction, InteractionStatus, LinkOpened, OptedOut, Report, ReportAck, Success,
    TextSent, Transferred,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;

use crate::call::{CallEnd, CallId, Fact};

/// Number of waiting facts that triggers a report.
const FLUSH_INTERACTIONS: usize = 100;
/// Longest delay of the first waiting fact.
const FLUSH_DELAY: Duration = Duration::from_millis(20);

/// Fact in the outbox. `done` learns true if the fact is durable, false if the service rejected it.
#[derive(Debug)]
struct Entry {
    interaction: Interaction,
    /// Trace context of the fact's call.
    trace: TraceContext,
    done: Option<oneshot::Sender<bool>>,
}

/// Facts that the service has not acknowledged, in order.
#[derive(Debug)]
pub(crate) struct Outbox {
    limit: usize,
    waiting: VecDeque<Entry>,
    waiting_since: Option<Instant>,
    /// Entries sent on this stream, by report number.
    sent: BTreeMap<i64, Vec<Entry>>,
    last_report_number: i64,
    acknowledged: u64,
}

impl Outbox {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: VecDeque::new(),
            waiting_since: None,
            sent: BTreeMap::new(),
            last_report_number: 0,
            acknowledged: 0,
        }
    }

    /// Returns the number of facts without acknowledgement.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.sent.values().map(Vec::len).sum::<usize>()
    }

    /// Returns the number of facts that the service accepted.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether there is room for facts of further dials.
    pub fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    /// Whether facts from calls in progress still have room. This reserve is used after the room of
    /// `has_room`.
    pub fn has_reserve(&self) -> bool {
        self.len() < self.limit * 2
    }

    /// Whether reports on this stream await their acknowledgement.
    pub fn awaits_acks(&self) -> bool {
        !self.sent.is_empty()
    }

    pub fn push(&mut self, call: &CallId, interaction: Interaction, now: Instant) {
        self.push_for(call, interaction, None, now);
    }

    pub fn push_for(
        &mut self,
        call: &CallId,
        interaction: Interaction,
        done: Option<oneshot::Sender<bool>>,
        now: Instant,
    ) {
        self.waiting.push_back(Entry { interaction, trace: call.trace.clone(), done });
        self.waiting_since.get_or_insert(now);
    }

    /// Returns when the waiting facts must be sent.
    pub fn flush_at(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        let is_full = self.waiting.len() >= FLUSH_INTERACTIONS;
        Some(if is_full { since } else { since + FLUSH_DELAY })
    }

    /// Returns the next report, once it is due.
    pub fn next_report(&mut self, max_interactions: usize, now: Instant) -> Option<Report> {
        if self.flush_at()? > now {
            return None;
        }
        let count = self.waiting.len().min(max_interactions);
        let entries: Vec<_> = self.waiting.drain(..count).collect();
        let interactions = entries.iter().map(|entry| entry.interaction.clone()).collect();
        let traceparents = TraceContext::traceparents(entries.iter().map(|entry| &entry.trace));
        if self.waiting.is_empty() {
            self.waiting_since = None;
        }
        self.last_report_number += 1;
        let report_number = self.last_report_number;
        self.sent.insert(report_number, entries);
        Some(Report { report_number, interactions, traceparents })
    }

    /// Handles an acknowledgement. Each fact of the report is now durable, or rejected for good.
    pub fn acknowledge(&mut self, ack: &ReportAck) {
        let Some(entries) = self.sent.remove(&ack.report_number) else { return };
        self.acknowledged += entries.len() as u64;
        for (Entry { interaction, done, .. }, result) in entries.into_iter().zip(&ack.results) {
            let is_rejected = result.status() == InteractionStatus::Rejected;
            if let Some(done) = done {
                // The receiver may be gone.
                let _ = done.send(!is_rejected);
            }
            if is_rejected {
                self.acknowledged -= 1;
                error!(
                    contact = interaction.contact,
                    attempt_id = interaction.attempt_id,
                    interaction_id = interaction.interaction_id,
                    reason = result.message,
                    "the service rejected a fact; it is dropped"
                );
            }
        }
    }

    /// Ends the stream. Facts without acknowledgement are sent again, in the old order.
    pub fn end_stream(&mut self, now: Instant) {
        let sent = std::mem::take(&mut self.sent).into_values().flatten();
        self.waiting = sent.chain(self.waiting.drain(..)).collect();
        self.waiting_since = (!self.waiting.is_empty()).then_some(now);
    }
}

/// Returns the single report of a call's end. Its key is the attempt.
pub(crate) fn call_ended(call: &CallId, end: CallEnd) -> Interaction {
    let duration = end.duration.try_into().unwrap_or_default();
    let ended = CallEnded {
        outcome: end.outcome.to_api().into(),
        duration: Some(duration),
        detail: end.detail.to_api(),
        provisional: end.is_provisional,
    };
    interaction(call, String::new(), ReportedFact::CallEnded(ended))
}

/// Returns the report of any other fact. Its id derives from attempt and kind, so a repeat is the
/// same fact.
pub(crate) fn fact(call: &CallId, fact: Fact) -> Interaction {
    let (kind, fact) = match fact {
        Fact::Transferred { seconds_before_transfer } => {
            ("transferred", ReportedFact::Transferred(Transferred { seconds_before_transfer }))
        }
        Fact::OptedOut { channel, everywhere } => {
            // An opt-out of wider scope is not a repeat of the narrower one.
            let kind = if everywhere { "opted_out_everywhere" } else { "opted_out" };
            (kind, ReportedFact::OptedOut(OptedOut { channel, everywhere }))
        }
        Fact::Success => ("success", ReportedFact::Success(Success {})),
        Fact::TextSent => ("text_sent", ReportedFact::TextSent(TextSent {})),
        Fact::LinkOpened { link } => ("link_opened", ReportedFact::LinkOpened(LinkOpened { link })),
    };
    interaction(call, format!("{}/{kind}", call.attempt_id), fact)
}

fn interaction(call: &CallId, interaction_id: String, fact: ReportedFact) -> Interaction {
    Interaction {
        interaction_id,
        contact: call.contact.clone(),
        attempt_id: call.attempt_id.clone(),
        occur_time: Some(SystemTime::now().into()),
        fact: Some(fact),
        record_time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Outcome;
    use campaign_proto::v1::InteractionResult;

    fn call(slot: i32) -> CallId {
        CallId {
            lease: "campaigns/a/leases/1".to_owned(),
            slot,
            attempt_id: format!("1-1-{slot}"),
            contact: format!("campaigns/a/contacts/{slot}"),
            campaign: "campaigns/a".to_owned(),
            run: 1,
            trace: TraceContext::default(),
        }
    }

    fn filled(facts: i32, now: Instant) -> Outbox {
        let mut outbox = Outbox::new(150);
        for slot in 0..facts {
            let call = call(slot);
            outbox.push(&call, call_ended(&call, CallEnd::unanswered(Outcome::Busy)), now);
        }
        outbox
    }

    fn attempts(report: &Report) -> Vec<String> {
        report.interactions.iter().map(|fact| fact.attempt_id.clone()).collect()
    }

    fn ack(report: &Report, status: InteractionStatus) -> ReportAck {
        let result = InteractionResult { status: status.into(), ..Default::default() };
        let results = vec![result; report.interactions.len()];
        ReportAck { report_number: report.report_number, results }
    }

    #[test]
    fn a_few_facts_wait_for_more_and_many_do_not() {
        let now = Instant::now();
        let mut few = filled(FLUSH_INTERACTIONS as i32 - 1, now);
        assert_eq!(few.flush_at(), Some(now + FLUSH_DELAY));
        assert_eq!(few.next_report(1_000, now), None);
        let report = few.next_report(1_000, now + FLUSH_DELAY).expect("it is time");
        assert_eq!(report.interactions.len(), FLUSH_INTERACTIONS - 1);
        assert_eq!(few.flush_at(), None);
        assert!(filled(FLUSH_INTERACTIONS as i32, now).next_report(1_000, now).is_some());
    }

    #[test]
    fn a_report_is_never_larger_than_allowed_and_the_rest_follows_at_once() {
        let now = Instant::now();
        let later = now + FLUSH_DELAY;
        let mut outbox = filled(25, now);
        let sizes: Vec<_> = std::iter::from_fn(|| outbox.next_report(10, later))
            .map(|r| r.interactions.len())
            .collect();
        assert_eq!(sizes, [10, 10, 5]);
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order_on_the_next_stream() {
        let now = Instant::now();
        let later = now + FLUSH_DELAY;
        let mut outbox = filled(30, now);
        let reports: Vec<_> = std::iter::from_fn(|| outbox.next_report(10, later)).collect();
        outbox.acknowledge(&ack(&reports[1], InteractionStatus::Recorded));
        assert!(outbox.awaits_acks());
        outbox.push(&call(99), fact(&call(99), Fact::Success), later);
        outbox.end_stream(later);
        assert!(!outbox.awaits_acks());

        let again = outbox.next_report(1_000, later + FLUSH_DELAY).expect("it is time");
        let expected: Vec<_> = [&reports[0], &reports[2]].into_iter().flat_map(attempts).collect();
        assert_eq!(attempts(&again)[..20], expected);
        assert_eq!(again.interactions[20].interaction_id, "1-1-99/success");
        outbox.acknowledge(&ack(&reports[0], InteractionStatus::Recorded));
        assert_eq!(outbox.len(), 21, "an answer to an old number changes nothing");
        outbox.acknowledge(&ack(&again, InteractionStatus::Duplicate));
        assert_eq!((outbox.len(), outbox.acknowledged()), (0, 31));
    }

    #[test]
    fn rejected_facts_are_dropped_and_not_counted() {
        let now = Instant::now();
        let mut outbox = filled(2, now);
        let report = outbox.next_report(10, now + FLUSH_DELAY).expect("it is time");
        outbox.acknowledge(&ack(&report, InteractionStatus::Rejected));
        assert_eq!((outbox.len(), outbox.acknowledged()), (0, 0));
    }

    #[test]
    fn room_counts_what_waits_and_what_is_on_its_way() {
        let now = Instant::now();
        let mut outbox = filled(149, now);
        let _ = outbox.next_report(50, now);
        assert!(outbox.has_room());
        outbox.push(&call(0), fact(&call(0), Fact::TextSent), now);
        assert!(!outbox.has_room());
        assert!(outbox.has_reserve());
    }

    #[test]
    fn ids_follow_from_attempt_and_kind() {
        let kinds = [
            Fact::Transferred { seconds_before_transfer: 61 },
            Fact::OptedOut { channel: "call".to_owned(), everywhere: false },
            Fact::OptedOut { channel: "call".to_owned(), everywhere: true },
            Fact::Success,
            Fact::TextSent,
            Fact::LinkOpened { link: "https://example.com".to_owned() },
        ];
        let ids: Vec<_> =
            kinds.into_iter().map(|kind| fact(&call(5), kind).interaction_id).collect();
        let expected = [
            "transferred",
            "opted_out",
            "opted_out_everywhere",
            "success",
            "text_sent",
            "link_opened",
        ];
        assert_eq!(ids, expected.map(|kind| format!("1-1-5/{kind}")));
        let end = call_ended(&call(5), CallEnd::unanswered(Outcome::Failed));
        assert_eq!((end.interaction_id.as_str(), end.attempt_id.as_str()), ("", "1-1-5"));
    }
}
