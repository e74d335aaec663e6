//! P6: no attempt is authorised under a lease that had expired or was gone, and no phone begins to ring long after.

use super::book::{Book, Books, Micros};
use super::findings::{Findings, Violation};
use super::told::rings;
use crate::provider::log::Entry;

/// Longest time that a request to begin a call may be under way after its lease was over. A frozen provider sleeps for
/// up to 3.6 seconds.
const RING_LIMIT: Micros = 5_000_000;

pub(super) fn judge(book: &Book, findings: &mut Findings<'_>) {
    for attempt in &book.attempts {
        let notes = book.leases.get(&attempt.lease).map(Vec::as_slice).unwrap_or_default();
        let end = end(book, attempt.lease);
        let late_by = attempt.at - end.unwrap_or(0);
        findings.expect(end.is_some() && late_by < 0, "P6", || {
            format!("{late_by} microseconds after the end of its lease: {attempt:?}")
        });
        let gone = notes.iter().find(|note| note.expires_at.is_none());
        let is_gone = gone.is_some_and(|note| !note.seen.sees(attempt.transaction));
        findings.expect(!is_gone, "P6", || format!("its lease was gone: {attempt:?}"));
    }
}

/// Judges by the provider's log.
pub(super) fn judge_rings(books: &Books, log: &[Entry], violations: &mut Vec<Violation>) {
    for (at, create, book, attempt) in rings(books, log) {
        let Some(end) = end(book, attempt.lease) else { continue };
        let late_by = at - end;
        Findings { campaign: create.campaign(), violations }.expect(
            late_by < RING_LIMIT,
            "P6",
            || format!("rang {late_by} microseconds after the end of its lease: {create:?}"),
        );
    }
}

/// Returns the latest end of a lease. An expired lease is never prolonged, so the latest end is the one that counted.
fn end(book: &Book, lease: i64) -> Option<Micros> {
    book.leases.get(&lease)?.iter().filter_map(|note| note.expires_at).max()
}
