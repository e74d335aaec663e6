//! Suppression lists, above all campaigns: each tenant's own, and the installation's, which holds
//! for everybody.

use super::App;
use super::contacts::come_back;
use super::error::{Error, Result};
use crate::store::audit::{self, Entry, Event};
use crate::store::notify::{ControlEvent, RemovalCause};
use crate::store::suppressions::{self, Suppression};
use crate::store::{Gate, Tx, campaigns, contacts, due};
use campaign_domain::access::{Caller, Reach, Role, Tenant};
use campaign_domain::campaign::Campaign;
use campaign_domain::lifecycle::State;
use campaign_domain::subscriber::{all_spellings, canonical};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Name of an entry in errors. An entry's own name is a phone number, and errors end in logs.
pub(super) const ENTRY: &str = "the suppression";
/// Most campaigns whose runs are waited for.
const MAX_CAMPAIGNS: i64 = 100_000;

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
fn source_of(campaign: Uuid) -> String {
    format!("opt-out in campaigns/{campaign}")
}

fn opt_out(source: &str) -> Listing<'_> {
    Listing { source, is_wish: true, actor: "service", reason: "opted out of every campaign" }
}

impl App {
    /// Adds numbers in all their spellings, and returns how many are new. After the return, no
    /// attempt on these numbers is authorised in the campaigns that the list holds for.
    pub async fn suppress(
        &self,
        tenant: &Tenant,
        phones: &[String],
        why: &Listing<'_>,
    ) -> Result<usize> {
        Ok(self.put_on_list(tenant, phones, why).await?.len())
    }

    /// Adds numbers. Returns the new ones, each in its canonical spelling.
    async fn put_on_list(
        &self,
        tenant: &Tenant,
        phones: &[String],
        why: &Listing<'_>,
    ) -> Result<BTreeSet<String>> {
        let phones = all_spellings(phones.iter().map(String::as_str));
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        // An erased number stays a hash, and is not put on the list.
        let phones = self.hold_erased(&tx, tenant, &phones, why.source).await?;
        let added = add(&tx, tenant, &phones, why).await?;
        tx.commit().await?;
        drop(connection);
        self.take_back(&tenant.suppresses(), &phones).await?;
        Ok(added)
    }

    /// Suppresses numbers that opted out of every campaign and are no contacts of campaign `id`.
    /// Returns the numbers that are new on the list.
    pub async fn suppress_strangers(
        &self,
        id: Uuid,
        phones: &[String],
    ) -> Result<BTreeSet<String>> {
        if phones.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (campaign, _) = self.get_campaign(id).await?;
        let source = source_of(id);
        let new = self.put_on_list(&campaign.tenant, phones, &opt_out(&source)).await?;
        let is_new = |phone: &&String| new.contains(canonical(phone).as_ref());
        Ok(phones.iter().filter(is_new).cloned().collect())
    }

    /// Revokes contacts whose opt-outs have put their numbers on the list. May be repeated. The
    /// opt-outs may be acknowledged only after this is done.
    pub(super) async fn take_back_contacts(&self, id: Uuid, positions: &[i64]) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let Some(campaign) = campaigns::find(&tx, id).await? else { return Ok(()) };
        let phones = contacts::phones(&tx, id, positions).await?;
        let phones = all_spellings(phones.iter().map(String::as_str));
        drop(tx);
        drop(connection);
        self.take_back(&campaign.tenant.suppresses(), &phones).await
    }

    /// Revokes numbers that were put on the list from the runs under way. After the return, no
    /// attempt on these numbers is authorised.
    pub(super) async fn take_back(&self, reach: &Reach, phones: &[String]) -> Result<()> {
        let phone_texts: Vec<&str> = phones.iter().map(String::as_str).collect();
        let mut connection = self.db.connect().await?;
        // An authorisation that read the old list is committed when its campaign's gate lets us
        // through. Every later one reads the new list.
        let tx = connection.begin(Gate::Open).await?;
        let held = suppressions::find_in_active_campaigns(&tx, reach, phones).await?;
        let states = [State::Running];
        let running = campaigns::ids_in_states(&tx, reach, &states, MAX_CAMPAIGNS).await?;
        drop(tx);
        for id in running.into_iter().chain(held.iter().map(|(id, _)| *id)).collect::<BTreeSet<_>>()
        {
            let tx = connection.begin(Gate::Exclusive(id)).await?;
            let found = contacts::find_by_phones(&tx, id, &phone_texts).await?;
            if found.is_empty() {
                continue;
            }
            let positions: Vec<i64> = found.iter().map(|(_, position, _)| *position).collect();
            // The list may have changed again before we passed this gate.
            let subjects = contacts::subjects(&tx, id, &positions).await?;
            let suppressed = subjects.iter().filter(|subject| subject.candidate.is_suppressed);
            let positions: Vec<i64> =
                suppressed.map(|subject| subject.candidate.position).collect();
            due::remove(&tx, id, &positions).await?;
            campaigns::bump_facts_revision(&tx, id).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Takes a number off the list in all its spellings, erased or not. Contacts with the number
    /// wait again in the runs under way. If the person asked for the suppression, only an admin may
    /// lift it.
    pub async fn unsuppress(
        &self,
        caller: &Caller,
        phone: &str,
        reason: &str,
    ) -> Result<Suppression> {
        let (tenant, who) = (&caller.tenant, (caller.actor.as_str(), reason));
        let phones = all_spellings([phone]);
        if self.is_erased(tenant, phone).await? {
            allow(caller, true)?;
        }
        self.note_lifting(tenant, phone, who.0, who.1).await?;
        let reach = tenant.suppresses();
        let mut connection = self.db.connect().await?;
        // In one transaction: the number is off the list and its contacts wait again, or neither.
        let tx = connection.begin(Gate::Open).await?;
        let waiting = hold_runs(&tx, &reach, &phones, &[]).await?;
        let mut removed = suppressions::delete(&tx, tenant, &phones).await?;
        let lifted = self.lift_erasure(&tx, tenant, phone).await?;
        allow(caller, lifted.is_some() || removed.iter().any(|entry| entry.is_wish))?;
        put_back(&tx, &waiting).await?;
        // The spelling asked for comes first, if the list has it.
        removed.sort_by_key(|entry| entry.phone != phone);
        // No permanent record may have the number of an erased person.
        let named = if lifted.is_some() { &[][..] } else { &phones };
        let Some(entry) = removed.into_iter().next().or(lifted) else {
            return Err(Error::NotFound(ENTRY.to_owned()));
        };
        log(&tx, tenant, ("UNSUPPRESS", who), 1, (named, &entry.source)).await?;
        tx.commit().await?;
        // A run launched in between may have passed the contact before the list changed.
        let tx = connection.begin(Gate::Open).await?;
        let late = hold_runs(&tx, &reach, &phones, &waiting).await?;
        put_back(&tx, &late).await?;
        tx.commit().await?;
        Ok(entry)
    }

    async fn is_erased(&self, tenant: &Tenant, phone: &str) -> Result<bool> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        Ok(self.erased_entry(&tx, tenant, phone).await?.is_some())
    }

    /// Lists the events of a tenant's list with the sources of the numbers. Newest first, with
    /// event numbers below `before`. Covers the whole list, or one phone number.
    pub async fn list_suppression_events(
        &self,
        tenant: &Tenant,
        phone: Option<&str>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<(Event, String)>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let log = audit::list_log(tenant);
        let events = match phone {
            Some(phone) => {
                let numbers = suppressions::events_of(&tx, tenant, phone, before, limit).await?;
                audit::some(&tx, log, &numbers).await?
            }
            None => audit::list(&tx, log, before, limit).await?,
        };
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        let mut sources = suppressions::sources(&tx, tenant, &numbers).await?;
        let with_source = |event: Event| {
            let source = sources.remove(&event.number).unwrap_or_default();
            (event, source)
        };
        Ok(events.into_iter().map(with_source).collect())
    }

    /// Returns the entry of a number, erased or not.
    pub async fn get_suppression(&self, tenant: &Tenant, phone: &str) -> Result<Suppression> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let found = match suppressions::find(&tx, tenant, phone).await? {
            Some(found) => Some(found),
            None => self.erased_entry(&tx, tenant, phone).await?,
        };
        found.ok_or_else(|| Error::NotFound(ENTRY.to_owned()))
    }

    /// Lists entries in order of number.
    pub async fn list_suppressions(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Suppression>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        Ok(suppressions::list(&tx, tenant, after, limit).await?)
    }
}

/// Rejects a caller that may not take a number off the list.
fn allow(caller: &Caller, is_wish: bool) -> Result<()> {
    if caller.may_unsuppress(is_wish) {
        return Ok(());
    }
    let what = "taking a number off the list whose owner opted out or was erased".to_owned();
    Err(Error::Forbidden { what, roles: vec![Role::Admin] })
}

/// Puts numbers on the list and notifies the workers that hold them. Returns the new numbers, each
/// in the canonical spelling of its subscriber. The caller must call `take_back` after the commit.
async fn add(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: &[String],
    why: &Listing<'_>,
) -> Result<BTreeSet<String>> {
    let added = suppressions::insert(tx, tenant, phones, why.source, why.is_wish).await?;
    tell(tx, tenant, phones).await?;
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
async fn log(
    tx: &Tx<'_>,
    tenant: &Tenant,
    (command, (actor, reason)): (&str, (&str, &str)),
    numbers: usize,
    (phones, source): (&[String], &str),
) -> Result<()> {
    let campaign = audit::list_log(tenant);
    tx.pass(campaign).await?;
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

/// Notifies the workers that hold some numbers that these are on the list.
pub(super) async fn tell(tx: &Tx<'_>, tenant: &Tenant, phones: &[String]) -> Result<()> {
    let reach = tenant.suppresses();
    for (campaign, position) in suppressions::find_in_active_campaigns(tx, &reach, phones).await? {
        let cause = RemovalCause::Suppressed;
        tx.notify_on_commit(ControlEvent::ContactRemoved { campaign, position, cause });
    }
    Ok(())
}

/// Puts the numbers of contacts that opted out of every campaign on the list of the campaign's
/// tenant. The caller must call `take_back_contacts` after the commit.
pub(super) async fn add_contacts(
    tx: &Tx<'_>,
    campaign: &Campaign,
    positions: &[i64],
) -> Result<()> {
    if !positions.is_empty() {
        let phones = contacts::phones(tx, campaign.id, positions).await?;
        let phones = all_spellings(phones.iter().map(String::as_str));
        let source = source_of(campaign.id);
        add(tx, &campaign.tenant, &phones, &opt_out(&source)).await?;
    }
    Ok(())
}

/// Finds the contacts with some numbers in runs under way, and passes the gates of their campaigns.
/// Leaves out `known` contacts.
async fn hold_runs(
    tx: &Tx<'_>,
    reach: &Reach,
    phones: &[String],
    known: &[(Uuid, i64)],
) -> Result<Vec<(Uuid, i64)>> {
    let mut found = suppressions::find_in_active_campaigns(tx, reach, phones).await?;
    found.retain(|found| !known.contains(found));
    for (id, _) in &found {
        tx.pass(*id).await?;
    }
    Ok(found)
}

/// Puts contacts that came back where their runs find them. The caller must hold the campaigns'
/// gates exclusively.
async fn put_back(tx: &Tx<'_>, contacts: &[(Uuid, i64)]) -> Result<()> {
    for (id, position) in contacts {
        if let Some(campaign) = campaigns::find(tx, *id).await? {
            come_back(tx, &campaign, *position).await?;
            tx.notify_on_commit(ControlEvent::Work { campaign: *id });
        }
    }
    Ok(())
}
