//! P2 and P5 by the provider's own log: the phones that rang, and the events that the provider reported.

use super::book::{Attempt, Book, Books};
use super::erased::Erasures;
use super::findings::{Findings, Violation};
use crate::provider::log::{Create, Entry, Event, What};
use std::collections::BTreeMap;

/// Call, by the provider's account.
#[derive(Debug)]
struct Rung<'a> {
    create: &'a Create,
    at: i64,
    events: Vec<(i64, &'a Event)>,
    /// Kinds of events, and the worker's answers.
    told: Vec<(&'a str, u16)>,
}

/// Names of the outcomes as told, in the order in which they are stored.
const OUTCOME_NAMES: [&str; 11] = [
    "answered",
    "no_answer",
    "busy",
    "voicemail",
    "failed",
    "unknown",
    "rejected",
    "invalid_number",
    "congested",
    "abandoned",
    "cancelled",
];

impl Rung<'_> {
    /// Whether the call was placed by SIP. Then a worker that was killed leaves an unknown end.
    fn is_signalled(&self) -> bool {
        self.create.callback_url.is_empty()
    }

    /// Returns the outcomes that may be recorded for the one that an event told.
    fn outcomes<'a>(&self, told: &'a str) -> Vec<&'a str> {
        let is_machine = self.events.iter().any(|(_, event)| event.kind() == "machine");
        match told {
            // A verdict on the voice may come too late.
            "answered" if is_machine => vec!["voicemail", "answered"],
            // The worker may have given up at the same time.
            _ if self.is_signalled() => vec![told, "unknown", "cancelled"],
            // Twilio's look-ups do not tell what the carrier answered.
            "invalid_number" | "congested" | "rejected" => vec![told, "failed"],
            told => vec![told],
        }
    }

    fn ended_at(&self) -> Option<i64> {
        self.events.iter().find(|(_, event)| event.is_end()).map(|(at, _)| *at)
    }
}

/// Judges the provider's log. Returns how many phones rang.
pub(super) fn judge(
    books: &Books,
    log: &[Entry],
    erasures: &Erasures<'_>,
    violations: &mut Vec<Violation>,
) -> usize {
    let rungs = read(log, violations);
    let mut by_number: BTreeMap<&str, Vec<&Rung<'_>>> = BTreeMap::new();
    for rung in rungs.values() {
        let campaign = rung.create.campaign();
        let mut findings = Findings { campaign, violations };
        match books.by_campaign.get(campaign) {
            Some(book) => call(book, rung, &mut findings),
            None => findings.expect(false, "P2", || format!("a call of no campaign: {rung:?}")),
        }
        by_number.entry(&rung.create.to).or_default().push(rung);
    }
    for calls in by_number.values_mut() {
        calls.sort_by_key(|rung| rung.at);
        for pair in calls.windows(2) {
            let campaign = pair[1].create.campaign();
            let is_over = pair[0].ended_at().is_some_and(|ended_at| ended_at <= pair[1].at);
            let (first, second) = (&pair[0].create, &pair[1].create);
            // Nothing is known of a re-admitted person, not even that the person is on a call.
            let is_another = first.contact != second.contact && erasures.is_lifted(&second.to);
            let mut findings = Findings { campaign, violations };
            findings.expect(is_over || is_another, "P2", || {
                format!("two calls at a time: {:?}, then {:?}", pair[0], pair[1])
            });
        }
    }
    rungs.len()
}

/// Reads calls by key.
fn read<'a>(log: &'a [Entry], violations: &mut Vec<Violation>) -> BTreeMap<&'a str, Rung<'a>> {
    let mut rungs: BTreeMap<&str, Rung<'_>> = BTreeMap::new();
    for entry in log {
        match &entry.what {
            What::Rang(create) => {
                let rung = Rung { create, at: entry.at, events: Vec::new(), told: Vec::new() };
                let first = rungs.insert(&create.key, rung);
                let campaign = create.campaign();
                let mut findings = Findings { campaign, violations };
                findings.expect(first.is_none(), "P2", || format!("rang twice: {first:?}"));
            }
            What::Repeated(create) => {
                let first = rungs.get(create.key.as_str()).map(|rung| rung.create);
                // Another worker's callback address does not make another call.
                let is_same = first.is_some_and(|first| {
                    (&first.to, &first.contact) == (&create.to, &create.contact)
                });
                let campaign = create.campaign();
                let mut findings = Findings { campaign, violations };
                findings
                    .expect(is_same, "P2", || format!("one key for two: {first:?}, {create:?}"));
            }
            What::Happened(event) => {
                if let Some(rung) = rungs.get_mut(event.key.as_str()) {
                    rung.events.push((entry.at, event));
                }
            }
            What::Told { key, kind, status } => {
                if let Some(rung) = rungs.get_mut(key.as_str()) {
                    rung.told.push((kind, *status));
                }
            }
            What::HungUp { .. } => {}
        }
    }
    rungs
}

/// Returns the phones that began to ring, and when, of attempts that were authorised.
pub(super) fn rings<'a>(
    books: &'a Books,
    log: &'a [Entry],
) -> impl Iterator<Item = (i64, &'a Create, &'a Book, &'a Attempt)> {
    log.iter().filter_map(|entry| {
        let What::Rang(create) = &entry.what else { return None };
        let book = books.by_campaign.get(create.campaign())?;
        Some((entry.at, create, book, attempt_of(book, &create.attempt_id)?))
    })
}

/// Finds an attempt by its name: the run, the lease and the slot.
fn attempt_of<'a>(book: &'a Book, attempt_id: &str) -> Option<&'a Attempt> {
    let mut parts = attempt_id.split('-');
    let run: i32 = parts.next()?.parse().ok()?;
    let lease: i64 = parts.next()?.parse().ok()?;
    let slot: i32 = parts.next()?.parse().ok()?;
    let wanted = (run, lease, slot);
    book.attempts.iter().find(|attempt| (attempt.run, attempt.lease, attempt.slot) == wanted)
}

fn call(book: &Book, rung: &Rung<'_>, findings: &mut Findings<'_>) {
    let create = rung.create;
    let Some(attempt) = attempt_of(book, &create.attempt_id) else {
        findings.expect(false, "P2", || format!("rang without being authorised: {create:?}"));
        return;
    };
    findings.expect(attempt.at <= rung.at, "P2", || {
        format!("rang at {} before it was authorised: {attempt:?}", rung.at)
    });
    let is_its = book.number(attempt.position) == Some(create.to.as_str());
    findings.expect(is_its, "P2", || format!("the wrong number: {create:?} for {attempt:?}"));
    // Facts from before a reset are not kept if they arrive after it. Except: opt-outs. Nothing of an erased person is
    // kept.
    let is_of_now = book.generation_of(attempt.run) == book.generation;
    let is_erased = book.erased.contains(&attempt.position);
    for (_, event) in &rung.events {
        let answers = rung.told.iter().filter(|(kind, _)| *kind == event.kind());
        let answers: Vec<u16> = answers.map(|(_, status)| *status).collect();
        let is_taken = answers.iter().any(|status| (200..300).contains(status));
        // A trunk's signalling is answered before anything is recorded.
        findings.expect(is_taken || rung.is_signalled(), "P5", || {
            format!("never acknowledged ({answers:?}): {event:?}")
        });
        if is_taken && !is_erased && (is_of_now || event.kind() == "opted_out") {
            recorded(book, attempt, rung, event, findings);
        }
    }
}

/// P5: an event that the provider reported and the worker acknowledged is in history, as it was reported.
fn recorded(
    book: &Book,
    attempt: &Attempt,
    rung: &Rung<'_>,
    event: &Event,
    findings: &mut Findings<'_>,
) {
    let kind: i16 = match event.kind() {
        "ended" => {
            let told = event.body["outcome"].as_str().unwrap_or_default();
            let is_its = |lease, slot| (lease, slot) == (attempt.lease, attempt.slot);
            let last = book.ends.iter().rfind(|end| is_its(end.lease, end.slot));
            let recorded =
                last.and_then(|end| OUTCOME_NAMES.get(usize::from(end.outcome)).copied());
            let is_right = recorded.is_some_and(|outcome| rung.outcomes(told).contains(&outcome));
            findings.expect(is_right, "P5", || {
                format!("{attempt:?} ended as {told} and is recorded as {recorded:?}: {rung:?}")
            });
            return;
        }
        "transferred" => 1,
        "opted_out" => 2,
        "success" => 3,
        "link_opened" => 4,
        "text_sent" => 5,
        _ => return,
    };
    let times = book
        .facts
        .iter()
        .filter(|fact| fact.kind == kind && fact.attempt == Some((attempt.lease, attempt.slot)))
        .count();
    findings.expect(times == 1, "P5", || {
        format!("{} of {attempt:?} is in history {times} times", event.kind())
    });
}
