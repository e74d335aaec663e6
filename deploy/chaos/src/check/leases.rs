//! P6: nothing is authorised under a lease that had run out, or was gone.

use super::Findings;
use super::book::Book;

pub(super) fn judge(book: &Book, findings: &mut Findings<'_>) {
    for attempt in &book.attempts {
        let notes = book.leases.get(&attempt.lease).map(Vec::as_slice).unwrap_or_default();
        let latest = notes.iter().filter_map(|note| note.expires_at).max();
        // A lease that ran out is never prolonged, so the latest end is the one that counted.
        let late_by = attempt.at - latest.unwrap_or(0);
        findings.expect(latest.is_some() && late_by < 0, "P6", || {
            format!("{late_by} microseconds after the end of its lease: {attempt:?}")
        });
        let gone = notes.iter().find(|note| note.expires_at.is_none());
        let is_gone = gone.is_some_and(|note| !note.seen.sees(attempt.transaction));
        findings.expect(!is_gone, "P6", || format!("its lease was gone: {attempt:?}"));
    }
}
