//! Measures how long after an OK a phone may begin to ring whose call was authorised before. This is no promise, but
//! matters to people. It covers the worker's way from the grant to the provider, a frozen worker's nap included.

use super::book::{Attempt, Book, Books};
use super::findings::Verdict;
use super::told::rings;
use crate::journal::{Entry, Said};
use crate::provider::log::Entry as Told;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn measure(
    books: &Books,
    campaigns: &BTreeMap<usize, String>,
    entries: &[Entry],
    log: &[Told],
    verdict: &mut Verdict,
) {
    let mut by_campaign: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        if let Some(campaign) = campaigns.get(&entry.history) {
            by_campaign.entry(campaign).or_default().push(entry);
        }
    }
    for (at, create, book, attempt) in rings(books, log) {
        let said = by_campaign.get(create.campaign()).map(Vec::as_slice).unwrap_or_default();
        let stops = said.iter().filter(|entry| stopped(book, entry, attempt, at));
        if let Some(first) = stops.map(|entry| entry.answered_at).min() {
            let after = u64::try_from(at - first).unwrap_or(0);
            verdict.rang_late += 1;
            verdict.latest = verdict.latest.max(Duration::from_micros(after));
        }
    }
}

/// Whether an answer said that this call would not begin, had it not been authorised already.
fn stopped(book: &Book, entry: &Entry, attempt: &Attempt, rang_at: i64) -> bool {
    if entry.answered_at >= rang_at {
        return false;
    }
    match &entry.said {
        Said::Command { request_id, command: "PAUSE" | "CANCEL" } => {
            let at = book.audits.iter().position(|audit| audit.request_id == *request_id);
            let Some(at) = at else { return false };
            let starts = ["RESUME", "LAUNCH", "START"];
            let mut later = book.audits[at + 1..].iter();
            let next = later.find(|audit| starts.contains(&audit.command.as_str()));
            attempt.at <= book.audits[at].at && next.is_none_or(|next| next.at > rang_at)
        }
        Said::Fact { number, kind: 2, interaction_id, .. } => {
            let fact = book.facts.iter().find(|fact| fact.id == *interaction_id);
            book.number(attempt.position) == Some(number)
                && fact.is_some_and(|fact| attempt.at <= fact.at)
        }
        _ => false,
    }
}
