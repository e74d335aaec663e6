//! The judge: compares the provider's log, the answers to clients and the database with the promises. The judge has
//! rules of its own, written again here in the simplest way.

mod acknowledged;
mod alone;
mod attempts;
mod book;
mod erased;
mod findings;
mod late;
mod leases;
mod printed;
mod rules;
mod runs;
mod told;

use crate::Result;
use crate::journal::{Entry, Journal};
use crate::provider::log as provider;
use erased::Erasures;
use findings::Findings;
pub use findings::{Verdict, Violation};
use std::collections::BTreeMap;
use std::path::Path;

/// Circumstances of a round.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Whether the previous version took part.
    pub is_mixed: bool,
    /// End of all faults, in microseconds since 1970.
    pub healed_at: i64,
}

/// Judges all campaigns of a round, whose programs left their logs in the folder.
///
/// # Errors
/// When the database or a log cannot be read.
pub async fn judge(
    database: &tokio_postgres::Client,
    journal: &Journal,
    log: &[provider::Entry],
    folder: &Path,
    Circumstances { is_mixed, healed_at }: Circumstances,
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
        alone::judge(book, &said, healed_at, &mut findings);
        acknowledged::judge((&books, book), &said, &erasures, &mut findings);
        erased::judge((&books, book), &said, (&erasures, &left), &mut findings);
    }
    late::measure(&books, &campaigns, entries, log, &mut verdict);
    // The previous version may still dial so late.
    if !is_mixed {
        leases::judge_rings(&books, log, &mut verdict.violations);
    }
    verdict.rang = told::judge(&books, log, &erasures, &mut verdict.violations);
    printed::judge(folder, &journal.errors(), &mut verdict.violations)?;
    verdict.violations.sort();
    Ok(verdict)
}
