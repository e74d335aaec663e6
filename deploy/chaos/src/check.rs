//! The judge: what the provider did, what clients were told, and what is in the database, must fit
//! together as the promises say. It has rules of its own, written down again here in the simplest way.

mod acknowledged;
mod attempts;
mod book;
mod erased;
mod late;
mod leases;
mod printed;
mod rules;
mod runs;
mod told;

use crate::Result;
use crate::journal::{Entry, Journal};
use crate::provider::log as provider;
use book::Book;
use erased::Erasures;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// P1 to P7, or privacy.
    pub promise: &'static str,
    /// Of which campaign; or in which log.
    pub campaign: String,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.promise, self.campaign, self.what)
    }
}

/// What was found in a round.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// None, it is hoped.
    pub violations: Vec<Violation>,
    /// Attempts that were authorised.
    pub authorized: usize,
    /// Phones that rang.
    pub rang: usize,
    /// Facts in history.
    pub facts: usize,
    /// People who were erased and not let in again.
    pub erased: usize,
    /// Phones that began to ring after an OK to a stop or a refusal, authorised before it.
    pub rang_late: usize,
    /// The longest time after such an OK.
    pub latest: Duration,
}

/// The findings about one campaign.
struct Findings<'a> {
    campaign: &'a str,
    violations: &'a mut Vec<Violation>,
}

impl Findings<'_> {
    /// Notes a violation unless it is as promised.
    fn expect(&mut self, is_kept: bool, promise: &'static str, what: impl FnOnce() -> String) {
        if !is_kept {
            let campaign = self.campaign.to_owned();
            self.violations.push(Violation { promise, campaign, what: what() });
        }
    }
}

/// Judges all campaigns of a round, whose programs left their logs in the folder; in a mixed one a version
/// before took part.
///
/// # Errors
/// When the database or a log cannot be read.
pub async fn judge(
    database: &tokio_postgres::Client,
    journal: &Journal,
    log: &[provider::Entry],
    folder: &Path,
    is_mixed: bool,
) -> Result<Verdict> {
    let entries = &journal.entries();
    let mut books = book::load(database).await?;
    let mut verdict = Verdict::default();
    let mut campaigns = BTreeMap::new();
    for entry in entries {
        if let crate::journal::Said::Created { campaign } = &entry.said {
            campaigns.insert(entry.history, campaign.clone());
            books.by_campaign.entry(campaign.clone()).or_default();
        }
    }
    for (campaign, book) in &books.by_campaign {
        let mut findings = Findings { campaign, violations: &mut verdict.violations };
        runs::judge(book, &mut findings);
        attempts::judge(book, &mut findings);
        leases::judge(book, &mut findings);
        verdict.authorized += book.attempts.len();
        verdict.facts += book.facts.len();
    }
    let erasures = Erasures::read(entries, is_mixed);
    let left = erased::left_of(database, &erasures).await?;
    verdict.erased = erasures.for_good().count();
    for (history, campaign) in &campaigns {
        let Some(book) = books.by_campaign.get(campaign) else { continue };
        let mut findings = Findings { campaign, violations: &mut verdict.violations };
        let said: Vec<&Entry> = entries.iter().filter(|entry| entry.history == *history).collect();
        acknowledged::judge((&books, book), &said, &erasures, &mut findings);
        erased::judge((&books, book), &said, (&erasures, &left), &mut findings);
    }
    late::measure(&books, &campaigns, entries, log, &mut verdict);
    // A version before may still dial so late.
    if !is_mixed {
        leases::judge_rings(&books, log, &mut verdict.violations);
    }
    verdict.rang = told::judge(&books, log, &erasures, &mut verdict.violations);
    printed::judge(folder, &journal.errors(), &mut verdict.violations)?;
    verdict.violations.sort();
    Ok(verdict)
}

/// The campaign and attempt that a key of the provider's names.
fn campaign_of(key: &str) -> &str {
    key.split('.').next().unwrap_or_default()
}

/// Of one campaign: what each run, contact and attempt left behind.
fn attempts_of(book: &Book, position: i64) -> impl Iterator<Item = &book::Attempt> {
    book.attempts.iter().filter(move |attempt| attempt.position == position)
}
