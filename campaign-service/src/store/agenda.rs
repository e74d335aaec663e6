//! Agenda: when each active campaign next needs the clock, and when it may have contacts to hand
//! out.
//!
//! An entry may be early, which costs a look, and must never be late. A transaction that adds work
//! makes the entry earlier. Only [`settle`] makes it later, while nobody can add work. So a campaign
//! that is awake anyway is read and not written.

use super::{Connection, StoreError, StoreResult, Tx, gates};
use campaign_domain::Instant;
use campaign_domain::access::Tenant;
use campaign_domain::agenda::Entry;
use campaign_domain::campaign::Campaign;
use campaign_domain::roster::Offer;
use campaign_domain::serving::Needs;
use tokio_postgres::Row;
use uuid::Uuid;

/// Writes the entry of a campaign after a command, or deletes it. The caller must hold the
/// campaign's gate exclusively.
pub async fn set(tx: &Tx<'_>, campaign: &Campaign, entry: Option<Entry>) -> StoreResult<()> {
    let Some(entry) = entry else {
        tx.execute("DELETE FROM agenda WHERE campaign_id = $1", &[&campaign.id]).await?;
        return Ok(());
    };
    let sql = "INSERT INTO agenda (campaign_id, tenant, weight, clock_at, work_at, ends_when_done,
            worker_pool, channels)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (campaign_id) DO UPDATE SET weight = excluded.weight, clock_at = excluded.clock_at,
            work_at = excluded.work_at, ends_when_done = excluded.ends_when_done,
            worker_pool = excluded.worker_pool, channels = excluded.channels";
    tx.execute(
        sql,
        &[
            &campaign.id,
            &campaign.tenant.name(),
            &campaign.config.pacing.weight,
            &entry.clock_at,
            &entry.work_at,
            &entry.ends_when_done,
            &campaign.config.needs.worker_pool,
            &campaign.config.needs.channels,
        ],
    )
    .await?;
    Ok(())
}

/// Lets a campaign be looked into for contacts from `work_at` on. Must come last in a transaction,
/// because it may lock the entry until commit. The caller must share the gate or hold it, or have
/// the positions locked.
pub async fn wake(tx: &Tx<'_>, campaign: Uuid, work_at: Instant) -> StoreResult<()> {
    let sql = "UPDATE agenda SET work_at = $2
        WHERE campaign_id = $1 AND (work_at IS NULL OR work_at > $2)";
    tx.execute(sql, &[&campaign, &work_at]).await?;
    Ok(())
}

/// Lets the clock look whether the lists of some campaigns are done. Must come last in a transaction,
/// as [`wake`]. Writes even if the clock is about to look, because that look may be too early.
pub async fn check_done(tx: &Tx<'_>, campaigns: &[Uuid]) -> StoreResult<()> {
    if campaigns.is_empty() {
        return Ok(());
    }
    // Rows are locked in one order, so that no two transactions deadlock.
    let sql = "WITH locked AS MATERIALIZED (
            SELECT campaign_id FROM agenda WHERE campaign_id = ANY($1) AND ends_when_done
            ORDER BY campaign_id FOR NO KEY UPDATE)
        UPDATE agenda a SET clock_at = $2 FROM locked l WHERE a.campaign_id = l.campaign_id";
    tx.execute(sql, &[&campaigns, &tx.now]).await?;
    Ok(())
}

/// Lets the clock look whether the list of a campaign is done, if the campaign has no lease. Of two
/// transactions that end the last two leases at once, neither may see this: the clock looks again
/// by itself while there are leases.
pub async fn check_done_without_leases(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<()> {
    let sql = "UPDATE agenda SET clock_at = $2 WHERE campaign_id = $1 AND ends_when_done
        AND (SELECT l.lease FROM leases l WHERE l.campaign_id = $1
            ORDER BY l.campaign_id DESC, l.lease DESC LIMIT 1) IS NULL";
    tx.execute(sql, &[&campaign, &tx.now]).await?;
    Ok(())
}

/// Passes the campaign's gate exclusively and locks its positions, unless that means a wait.
/// Returns whether it did.
pub async fn try_alone(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<bool> {
    if gates::try_pass(tx, &[campaign]).await?.is_empty() {
        return Ok(false);
    }
    let sql = "SELECT FROM campaign_counters WHERE campaign_id = $1 FOR UPDATE SKIP LOCKED";
    Ok(tx.query_opt(sql, &[&campaign]).await?.is_some())
}

/// Lets a campaign sleep until `work_at`. If that is never, the clock looks whether the list is
/// done. The caller must have [`try_alone`].
pub async fn settle(tx: &Tx<'_>, campaign: Uuid, work_at: Option<Instant>) -> StoreResult<()> {
    let sql = "UPDATE agenda SET work_at = $2::timestamptz,
            clock_at = CASE WHEN $2::timestamptz IS NULL AND ends_when_done THEN $3 ELSE clock_at END
        WHERE campaign_id = $1";
    tx.execute(sql, &[&campaign, &work_at, &tx.now]).await?;
    Ok(())
}

/// Puts off the clock's next look at a campaign that it had nothing to do for. Whatever came
/// meanwhile stays.
pub async fn put_off_clock(
    tx: &Tx<'_>,
    campaign: Uuid,
    seen: Instant,
    clock_at: Option<Instant>,
) -> StoreResult<()> {
    let sql = "UPDATE agenda SET clock_at = $3 WHERE campaign_id = $1 AND clock_at = $2";
    tx.execute(sql, &[&campaign, &seen, &clock_at]).await?;
    Ok(())
}

/// Place in the agenda after an entry: its time and campaign.
pub type Place = (Instant, Uuid);

/// Lists campaigns that are due for the clock, after a place, in order of time.
pub async fn clock_due(tx: &Tx<'_>, after: Option<Place>, limit: i64) -> StoreResult<Vec<Place>> {
    let (time, id) = after.unzip();
    let sql = "SELECT clock_at, campaign_id FROM agenda
        WHERE clock_at <= $3 AND (clock_at, campaign_id) > (COALESCE($1::timestamptz, '-infinity'),
            COALESCE($2, '00000000-0000-0000-0000-000000000000'::uuid))
        ORDER BY clock_at, campaign_id LIMIT $4";
    let rows = tx.query(sql, &[&time, &id, &tx.now, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Lists campaigns that may have contacts to hand out, after a place, in order of time. Returns the
/// place of the last one, if there may be more. Reads the campaign only for an entry of a version
/// that knew no pools.
pub async fn work_due(
    connection: &Connection,
    after: Option<Place>,
    limit: i64,
) -> StoreResult<(Vec<Offer>, Option<Place>)> {
    let (time, id) = after.unzip();
    let sql = "SELECT a.campaign_id, a.tenant, a.weight, a.work_at,
            COALESCE(a.worker_pool, c.worker_pool, ''), COALESCE(a.channels, c.channels, '{}')
        FROM agenda a LEFT JOIN LATERAL (SELECT worker_pool, channels FROM campaigns
            WHERE campaign_id = a.campaign_id AND a.worker_pool IS NULL LIMIT 1) c ON true
        WHERE a.work_at <= clock_timestamp()
            AND (a.work_at, a.campaign_id) > (COALESCE($1::timestamptz, '-infinity'),
                COALESCE($2, '00000000-0000-0000-0000-000000000000'::uuid))
        ORDER BY a.work_at, a.campaign_id LIMIT $3";
    let rows = connection.alone().query(sql, &[&time, &id, &limit]).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let place = rows.last().filter(|_| is_full).map(|row| (row.get(3), row.get(0)));
    Ok((rows.iter().map(offer).collect::<StoreResult<_>>()?, place))
}

fn offer(row: &Row) -> StoreResult<Offer> {
    let tenant: &str = row.get(1);
    let tenant = Tenant::new(tenant).ok_or_else(|| StoreError::Corrupt(tenant.to_owned()))?;
    let needs = Needs { worker_pool: row.get(4), channels: row.get(5) };
    Ok(Offer { campaign: row.get(0), tenant, weight: row.get(2), needs })
}

/// Returns the entry of a campaign; `None` if there is none.
pub async fn find(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Option<Entry>> {
    let sql = "SELECT clock_at, work_at, ends_when_done FROM agenda WHERE campaign_id = $1";
    let row = tx.query_opt(sql, &[&campaign]).await?;
    Ok(row.map(|row| Entry {
        clock_at: row.get(0),
        work_at: row.get(1),
        ends_when_done: row.get(2),
    }))
}

/// Lists campaigns that are scheduled or running, or have an entry, in order of id after `after`.
pub async fn all_after(tx: &Tx<'_>, after: Uuid, limit: i64) -> StoreResult<Vec<Uuid>> {
    let sql = "(SELECT campaign_id FROM campaigns
            WHERE campaign_id > $1 AND state IN ('SCHEDULED', 'RUNNING')
            ORDER BY campaign_id LIMIT $2)
        UNION (SELECT campaign_id FROM agenda WHERE campaign_id > $1 ORDER BY campaign_id LIMIT $2)
        ORDER BY campaign_id LIMIT $2";
    let rows = tx.query(sql, &[&after, &limit]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Lists campaigns that have or will have contacts to hand out, in order of time.
pub async fn with_work(tx: &Tx<'_>, limit: i64) -> StoreResult<Vec<Uuid>> {
    let sql = "SELECT campaign_id FROM agenda WHERE work_at IS NOT NULL
        ORDER BY work_at, campaign_id LIMIT $1";
    let rows = tx.query(sql, &[&limit]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
