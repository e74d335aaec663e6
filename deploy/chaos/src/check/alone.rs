//! P10: campaigns start, and stop, whatever the number of other campaigns, and whatever another replica does.

use super::book::Book;
use super::findings::Findings;
use crate::journal::{Entry, Said};
use std::time::Duration;

/// Longest time from the start of the schedule, or from the end of the faults, to the start of the run. A free replica
/// takes half a second; here two rounds share two cores.
const START_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn judge(book: &Book, entries: &[&Entry], healed_at: i64, findings: &mut Findings<'_>) {
    for entry in entries {
        match &entry.said {
            Said::Scheduled { start_at } => started(book, *start_at, healed_at, findings),
            Said::Unanswered { request_id, command } => findings.expect(false, "P10", || {
                let millis = (entry.answered_at - entry.asked_at) / 1_000;
                format!("{command} {request_id} has no answer after {millis} ms")
            }),
            _ => {}
        }
    }
}

fn started(book: &Book, start_at: i64, healed_at: i64, findings: &mut Findings<'_>) {
    let start = book.audits.iter().find(|audit| audit.command == "START");
    let from = start_at.max(healed_at);
    let limit = i64::try_from(START_LIMIT.as_micros()).unwrap_or(i64::MAX);
    let late = start.map(|start| start.at - from);
    findings.expect(late.is_some_and(|late| late <= limit), "P10", || match late {
        Some(late) => format!("started {} ms late", late / 1_000),
        None => "never started".to_owned(),
    });
}
