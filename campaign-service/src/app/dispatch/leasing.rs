//! Leases: giving, renewing and releasing them.

use super::Dispatch;
use super::batch::{LeaseKey, Leased, Want};
use super::picking::Picking;
use crate::app::error::Result;
use crate::app::present;
use crate::app::returning::give_back;
use crate::store::leases::{self, Lease};
use crate::store::{Durability, Gate, Tx, campaigns, troubles};
use campaign_domain::Instant;
use campaign_domain::access::Tenant;
use campaign_domain::lease::Slot;
use campaign_domain::roster::Yield;
use campaign_domain::serving::Abilities;
use futures_util::future::try_join_all;
use tokio::try_join;
use uuid::Uuid;

impl Dispatch {
    /// Leases contacts of a campaign to some workers, in one transaction.
    pub async fn lease(&self, id: Uuid, mut wants: Vec<Want>) -> Result<Leased> {
        let mut connection = self.db.connect().await?;
        // A lease that a crash of the database forgets was never given: its contacts wait as before.
        let opening = connection.open(Gate::Shared(id), Durability::Relaxed).await?;
        let (now, campaign, revision) = try_join!(
            biased;
            opening.pass(),
            campaigns::find(&opening, id),
            campaigns::facts_revision(&opening, id),
        )?;
        let tx = opening.at(now);
        let campaign = present(campaign, id)?;
        let Some(schedule) = &campaign.config.schedule else { return Ok(Leased::nothing()) };
        if !campaign.is_dialling(tx.now) {
            return Ok(Leased::nothing());
        }
        let most = self.limits.max_batch_contacts.min(campaign.config.pacing.lease_limit());
        // The pool or the channels may have changed since the campaign was offered.
        let needs = &campaign.config.needs;
        let mut unmet = None;
        for want in &mut wants {
            want.contacts = want.contacts.min(most);
            if !want.abilities.meet(needs) {
                want.contacts = 0;
                unmet = Some(needs.clone());
            }
        }
        let want: usize = wants.iter().map(|want| want.contacts).sum();
        if want == 0 && unmet.is_some() {
            return Ok(Leased { batches: Vec::new(), left: Yield::More, unmet });
        }
        let mut picking =
            Picking::new(&tx, &campaign, revision, schedule, want, &self.past_runs).await?;
        picking.take_due().await?;
        let has_more = picking.take_ahead(self.limits.max_scan_contacts).await?;
        let mut batches = picking.make_leases(&wants, self.limits.lease_ttl);
        if let Some(links) = self.links.as_ref().filter(|_| !campaign.config.link_url.is_empty()) {
            for leased in batches.iter_mut().flatten().flat_map(|batch| &mut batch.contacts) {
                leased.link = links.link(id, leased.contact.position);
            }
        }
        let inserted = async {
            let leases = batches.iter_mut().flatten().map(|batch| &mut batch.lease);
            try_join_all(leases.map(|lease| leases::insert(&tx, lease))).await?;
            Ok(())
        };
        try_join!(picking.save(), inserted)?;
        tx.commit().await?;
        let handed: usize = batches.iter().flatten().map(|batch| batch.contacts.len()).sum();
        let left = if has_more || handed >= want { Yield::More } else { Yield::NoMore };
        Ok(Leased { batches, left, unmet })
    }

    /// Records a worker's report about its provider on a stream: why the provider fails, or that it
    /// works.
    pub async fn note_provider(
        &self,
        worker_id: &str,
        tenant: &Tenant,
        stream: Uuid,
        abilities: &Abilities,
        trouble: Option<&str>,
    ) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin_relaxed(Gate::Open).await?;
        match trouble {
            Some(reason) => {
                troubles::put(&tx, worker_id, tenant, stream, abilities, reason).await?;
            }
            None => troubles::remove(&tx, worker_id, stream).await?,
        }
        tx.commit().await?;
        Ok(())
    }

    /// Renews leases. Returns the run and new end of each lease, or `None` for a lost one.
    pub async fn renew(&self, keys: &[LeaseKey]) -> Result<Vec<Option<(i32, Instant)>>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let expires_at = tx.now + self.limits.lease_ttl;
        let mut renewed = vec![None; keys.len()];
        // All renewals follow one order, so that they cannot deadlock.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|index| (keys[*index].campaign, keys[*index].number));
        for index in order {
            let key = keys[index];
            let run = leases::renew(&tx, key.campaign, key.number, key.token, expires_at).await?;
            renewed[index] = run.map(|run| (run, expires_at));
        }
        tx.commit().await?;
        Ok(renewed)
    }

    /// Gives back contacts that were not authorised; all of them if `slots` is empty. Returns how
    /// many.
    pub async fn release(&self, key: LeaseKey, slots: &[usize]) -> Result<usize> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Shared(key.campaign)).await?;
        let Some(mut lease) = lock_held(&tx, key).await? else { return Ok(0) };
        let slots =
            if slots.is_empty() { lease.slots.in_state(Slot::Leased) } else { slots.to_vec() };
        let released = give_back(&tx, &mut lease, &slots).await?;
        leases::save_slots(&tx, key.campaign, &[&lease]).await?;
        tx.commit().await?;
        Ok(released)
    }
}

/// Locks the lease that a key names, and returns it if the key is right and the lease has not
/// expired.
async fn lock_held(tx: &Tx<'_>, key: LeaseKey) -> Result<Option<Lease>> {
    let lease = leases::lock(tx, key.campaign, &[key.number]).await?.pop();
    Ok(lease.filter(|lease| lease.token == key.token && lease.terms().is_in_force(tx.now)))
}
