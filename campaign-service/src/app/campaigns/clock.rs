//! The clock's commands: scheduled starts, ends, and lists that are done. And the check of the
//! agenda, from which the clock and the dispatcher learn what is due.

use super::Campaigns;
use super::lifecycle::{Invocation, apply};
use crate::app::error::{Error, Result};
use crate::app::outlook::next_work;
use crate::store::{Gate, Tx, agenda, campaigns, due, groups, leases};
use campaign_domain::Instant;
use campaign_domain::access::Caller;
use campaign_domain::agenda::{Entry, entry, is_late, next_end};
use campaign_domain::campaign::Campaign;
use campaign_domain::lifecycle::{Command, State, transition};
use chrono::TimeDelta;
use uuid::Uuid;

/// Time between looks whether a list with leases is done. The end of the last lease asks for a look
/// by itself, unless two leases end at the same moment.
const RECHECK_INTERVAL: TimeDelta = TimeDelta::seconds(5);

impl Campaigns {
    /// Lets the clock act on a campaign: its scheduled start, its end, or its list being done. Any
    /// replica may call this at any time; the gate and the state machine let it happen once.
    pub async fn advance_by_clock(&self, id: Uuid) -> Result<()> {
        let mut connection = self.db.connect().await?;
        // The first look keeps nobody waiting, because mostly there is nothing to do.
        let tx = connection.begin(Gate::Open).await?;
        let seen = agenda::find(&tx, id).await?.and_then(|entry| entry.clock_at);
        let campaign = campaigns::find(&tx, id).await?;
        let campaign = campaign.ok_or_else(|| Error::NotFound(format!("campaigns/{id}")))?;
        if due_command(&tx, &campaign).await?.is_none() {
            if let Some(seen) = seen {
                let clock_at = next_look(&tx, &campaign).await?;
                agenda::put_off_clock(&tx, id, seen, clock_at).await?;
                tx.commit().await?;
            }
            return Ok(());
        }
        drop(tx);
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let Some(before) = campaigns::find(&tx, id).await? else { return Ok(()) };
        if let Some((command, reason)) = due_command(&tx, &before).await? {
            let caller = Caller { actor: "service".to_owned(), ..Caller::default() };
            let invocation =
                Invocation { caller, reason: reason.to_owned(), ..Invocation::default() };
            apply(tx, &invocation, &before, command, false).await?;
        }
        Ok(())
    }

    /// Checks the agenda's entry of a campaign, and mends an entry that is late. Returns whether it
    /// was.
    pub async fn mend_agenda(&self, id: Uuid) -> Result<bool> {
        let mut connection = self.db.connect().await?;
        // The first look passes no gate. What looks late may be work that is being committed.
        let tx = connection.begin(Gate::Open).await?;
        if late_entry(&tx, id).await?.is_none() {
            return Ok(false);
        }
        drop(tx);
        let tx = connection.begin(Gate::Open).await?;
        if !agenda::try_alone(&tx, id).await? {
            return Ok(false);
        }
        let Some((campaign, right)) = late_entry(&tx, id).await? else { return Ok(false) };
        agenda::set(&tx, &campaign, right).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Returns the campaign and its right entry, if the entry in the agenda is late.
async fn late_entry(tx: &Tx<'_>, id: Uuid) -> Result<Option<(Campaign, Option<Entry>)>> {
    let Some(campaign) = campaigns::find(tx, id).await? else { return Ok(None) };
    let known = agenda::find(tx, id).await?;
    let right = match entry(&campaign, tx.now) {
        // A running campaign may sleep until its next work.
        Some(right) if campaign.state == State::Running => {
            let work_at = next_work(tx, &campaign).await?;
            // A list that may have contacts at some time is not done.
            let may_be_done = right.ends_when_done && work_at.is_none();
            let is_done = may_be_done && is_list_done(tx, &campaign).await?;
            let clock_at = if is_done { Some(tx.now) } else { next_end(&campaign) };
            Some(Entry { work_at, clock_at, ..right })
        }
        right => right,
    };
    Ok(is_late(known, right, tx.now).then_some((campaign, right)))
}

/// Returns the command that the clock has for a campaign now, and why.
async fn due_command(tx: &Tx<'_>, campaign: &Campaign) -> Result<Option<(Command, &'static str)>> {
    let plan = campaign.plan(campaign.is_live_forever());
    let allows = |command| transition(campaign.state, command, &plan, tx.now).is_ok();
    if campaign.is_deleted {
        return Ok(None);
    }
    if allows(Command::Start) {
        return Ok(Some((Command::Start, "the start time has come")));
    }
    if !allows(Command::Complete) {
        return Ok(None);
    }
    if plan.has_ended(tx.now) {
        return Ok(Some((Command::Complete, "the end time has come")));
    }
    let is_done = is_list_done(tx, campaign).await?;
    Ok(is_done.then_some((Command::Complete, "the list is done")))
}

/// Returns when the clock looks at a campaign again for which it has no command now.
async fn next_look(tx: &Tx<'_>, campaign: &Campaign) -> Result<Option<Instant>> {
    if campaign.state != State::Running {
        return Ok(entry(campaign, tx.now).and_then(|entry| entry.clock_at));
    }
    let end = next_end(campaign);
    let has_leases = !campaign.is_live_forever() && leases::any(tx, campaign.id).await?;
    let again = has_leases.then(|| tx.now + RECHECK_INTERVAL);
    Ok(end.into_iter().chain(again).min())
}

/// Returns whether nobody is left to engage: ahead of the frontiers, waiting for a retry, or in a
/// lease.
async fn is_list_done(tx: &Tx<'_>, campaign: &Campaign) -> Result<bool> {
    let (id, run) = (campaign.id, campaign.run);
    if leases::any(tx, id).await? || due::any(tx, id, run).await? {
        return Ok(false);
    }
    let groups = groups::all(tx, id, run, campaign.position_limit).await?;
    Ok(!groups.iter().any(|group| group.first_ahead.is_some()))
}
