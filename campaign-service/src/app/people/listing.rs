//! Entries on suppression lists. A caller that writes entries owes a revocation of the numbers, and
//! gets its answer only from that.

use super::erased::SOURCE;
use super::revoking::PendingRevocation;
use crate::app::error::Result;
use crate::store::audit::{self, Entry};
use crate::store::erasures::{self, Erasure};
use crate::store::{Tx, contacts, gates, suppressions};
use campaign_domain::access::Tenant;
use campaign_domain::campaign::Campaign;
use campaign_domain::subscriber::{all_spellings, canonical};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// Reason why numbers are put on a list.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    pub source: &'a str,
    /// Whether the people asked for the suppression.
    pub is_wish: bool,
    pub actor: &'a str,
    pub reason: &'a str,
}

/// Returns the source of entries of people who opted out in a campaign.
pub(super) fn source_of(campaign: Uuid) -> String {
    format!("opt-out in campaigns/{campaign}")
}

pub(super) fn opt_out(source: &str) -> Listing<'_> {
    Listing { source, is_wish: true, actor: "service", reason: "opted out of every campaign" }
}

/// Puts numbers on a list. Returns the new numbers, each in the canonical spelling of its
/// subscriber.
pub(super) async fn put(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: Vec<String>,
    why: &Listing<'_>,
) -> Result<PendingRevocation<BTreeSet<String>>> {
    let new = insert(tx, tenant, &phones, why).await?;
    Ok(PendingRevocation::new(tenant, phones, new))
}

/// Puts the numbers of people who are to be erased on a list, with the records of their erasures.
/// All numbers must be of one tenant's list.
pub(super) async fn put_erased(
    tx: &Tx<'_>,
    tenant: &Tenant,
    people: Vec<Erasure>,
) -> Result<Vec<PendingRevocation<Erasure>>> {
    // The list comes before the record, in the same order as when a number is taken off the list.
    for person in &people {
        suppressions::put(tx, tenant, &person.phone, SOURCE).await?;
    }
    let mut begun = Vec::with_capacity(people.len());
    for mut person in people {
        person.noted_at = erasures::begin(tx, &person).await?;
        begun.push(PendingRevocation::of(person));
    }
    Ok(begun)
}

/// Opt-outs of every campaign that one transaction records, by contacts of one campaign.
pub struct OptOuts<'a> {
    campaign: &'a Campaign,
    /// Numbers of the contacts, by position. Erased contacts have no number.
    phones: HashMap<i64, String>,
    /// Numbers that are to be put on the list.
    new: Vec<String>,
}

/// Hides the numbers.
impl std::fmt::Debug for OptOuts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OptOuts").finish_non_exhaustive()
    }
}

impl<'a> OptOuts<'a> {
    /// Reads the numbers of contacts that may have opted out.
    pub async fn read(tx: &Tx<'_>, campaign: &'a Campaign, positions: &[i64]) -> Result<Self> {
        let phones = if positions.is_empty() {
            HashMap::new()
        } else {
            contacts::phones(tx, campaign.id, positions).await?.into_iter().collect()
        };
        Ok(Self { campaign, phones, new: Vec::new() })
    }

    /// Keeps the answer to a fact back, if the fact is an opt-out of the contact at `position`. A
    /// new opt-out joins the list. An opt-out recorded before is revoked too: its reporter may have
    /// got no answer.
    pub fn answer<T>(
        &mut self,
        position: Option<i64>,
        is_new: bool,
        answer: T,
    ) -> PendingRevocation<T> {
        let phone = position.and_then(|position| self.phones.get(&position));
        if is_new {
            self.new.extend(phone.cloned());
        }
        let phones = all_spellings(phone.map(String::as_str));
        PendingRevocation::new(&self.campaign.tenant, phones, answer)
    }

    /// Puts the numbers of new opt-outs on the list of the campaign's tenant, in all their
    /// spellings.
    pub async fn save(&self, tx: &Tx<'_>) -> Result<()> {
        if !self.new.is_empty() {
            let phones = all_spellings(self.new.iter().map(String::as_str));
            let source = source_of(self.campaign.id);
            // The answers carry the revocation.
            insert(tx, &self.campaign.tenant, &phones, &opt_out(&source)).await?;
        }
        Ok(())
    }
}

/// Writes entries, and returns the new numbers. The caller owes a revocation.
async fn insert(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: &[String],
    why: &Listing<'_>,
) -> Result<BTreeSet<String>> {
    let added = suppressions::insert(tx, tenant, phones, why.source, why.is_wish).await?;
    let new = added.iter().filter(|added| !added.was_listed);
    let new: BTreeSet<String> = new.map(|added| canonical(&added.phone).into_owned()).collect();
    if !added.is_empty() {
        let changed: Vec<String> = added.into_iter().map(|added| added.phone).collect();
        let what = ("SUPPRESS", (why.actor, why.reason));
        log(tx, tenant, what, new.len(), (&changed, why.source)).await?;
    }
    Ok(new)
}

/// Records a change of a tenant's list in the list's own audit log, and the numbers concerned
/// beside the log. Must come last in a transaction: everybody who changes the list waits for the
/// log's gate, which this passes.
pub(super) async fn log(
    tx: &Tx<'_>,
    tenant: &Tenant,
    (command, (actor, reason)): (&str, (&str, &str)),
    numbers: usize,
    (phones, source): (&[String], &str),
) -> Result<()> {
    let campaign = audit::list_log(tenant);
    gates::pass(tx, &[campaign]).await?;
    let entry = Entry {
        campaign,
        actor,
        reason,
        command,
        before: None,
        after: None,
        run: 0,
        request_id: "",
        details: json!({ "numbers": numbers }),
    };
    let number = audit::insert(tx, &entry).await?;
    Ok(suppressions::note_numbers(tx, tenant, number, phones, source).await?)
}
