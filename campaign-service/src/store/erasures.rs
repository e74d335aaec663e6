//! Erased people, identified by keyed hashes of their numbers.

use super::{Params, Statements, StoreError, StoreResult, Tx};
use crate::eraser::{KeyId, PersonHash};
use campaign_domain::Instant;
use campaign_domain::access::Tenant;
use tokio_postgres::Row;
use uuid::Uuid;

/// Person to erase.
#[derive(Clone, Debug)]
pub struct Erasure {
    pub tenant: Tenant,
    pub hash: PersonHash,
    pub phone: String,
    pub actor: String,
    pub reason: String,
    /// Time at which the erasure was recorded. Another erasure after a re-admission has another
    /// time.
    pub noted_at: Instant,
}

/// Lists the keys that people were erased under. Returns none if nobody was ever erased.
pub async fn key_ids(tx: &Statements<'_>) -> StoreResult<Vec<KeyId>> {
    let rows = tx.query("SELECT key_id FROM erasure_key", &[]).await?;
    let read = |row: &Row| {
        let corrupt = |_| StoreError::Corrupt("the id of an erasure key".to_owned());
        row.get::<_, &[u8]>(0).try_into().map_err(corrupt)
    };
    rows.iter().map(read).collect()
}

/// Records that people are erased under a key. Locks the table until commit, so that nobody records
/// another key meanwhile. A transaction that waited reads all keys afterwards.
pub async fn pin_key(tx: &Tx<'_>, key_id: &KeyId) -> StoreResult<()> {
    tx.execute("LOCK TABLE erasure_key IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
    let sql = "INSERT INTO erasure_key (key_id) VALUES ($1) ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&key_id.as_slice()]).await?;
    Ok(())
}

/// Records that a person is to be erased. The number stays until [`finish`]. Returns when the
/// erasure was first recorded.
pub async fn begin(tx: &Tx<'_>, erasure: &Erasure) -> StoreResult<Instant> {
    let sql = "INSERT INTO erasures (tenant, hash, erased_at, actor, reason, phone)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant, hash) DO UPDATE SET phone = excluded.phone
        RETURNING erased_at";
    let params: Params<'_> = &[
        &erasure.tenant.name(),
        &erasure.hash.as_slice(),
        &erasure.noted_at,
        &erasure.actor,
        &erasure.reason,
        &erasure.phone,
    ];
    Ok(tx.query_one(sql, params).await?.get(0))
}

/// Returns whether an erasure is still to be done. Others may have finished the erasure, and the
/// person may have been re-admitted since.
pub async fn is_under_way(tx: &Tx<'_>, erasure: &Erasure) -> StoreResult<bool> {
    let sql = "SELECT FROM erasures
        WHERE tenant = $1 AND hash = $2 AND erased_at = $3 AND phone IS NOT NULL";
    let (tenant, hash) = (erasure.tenant.name(), erasure.hash.as_slice());
    Ok(tx.query_opt(sql, &[&tenant, &hash, &erasure.noted_at]).await?.is_some())
}

/// Forgets the number of an erased person wherever the tenant's suppressions hold, and takes the
/// number off the lists there. If another tenant's list had the number, that tenant gets an erasure
/// of its own. Returns whether the erasure was under way. If the erasure was not under way, the
/// caller must not commit.
pub async fn finish(tx: &Tx<'_>, erasure: &Erasure) -> StoreResult<bool> {
    let (tenant, hash) = (erasure.tenant.name(), erasure.hash.as_slice());
    let reach = erasure.tenant.suppresses();
    let unlist = "WITH gone AS (
            DELETE FROM suppressions WHERE phone = $1 AND ($2::text IS NULL OR tenant = $2)
            RETURNING tenant)
        INSERT INTO erasures (tenant, hash, erased_at, actor, reason)
        SELECT tenant, $3, $4, $5, $6 FROM gone WHERE tenant <> $7 ON CONFLICT DO NOTHING";
    let (phone, actor, reason) = (&erasure.phone, &erasure.actor, &erasure.reason);
    let params: Params<'_> = &[phone, &reach.tenant(), &hash, &tx.now, actor, reason, &tenant];
    tx.execute(unlist, params).await?;
    let forget =
        "DELETE FROM suppression_events WHERE phone = $1 AND ($2::text IS NULL OR tenant = $2)";
    tx.execute(forget, &[phone, &reach.tenant()]).await?;
    let forget =
        "DELETE FROM relisted_numbers WHERE phone = $1 AND ($2::text IS NULL OR tenant = $2)";
    tx.execute(forget, &[phone, &reach.tenant()]).await?;
    let sql = "UPDATE erasures SET phone = NULL
        WHERE tenant = $1 AND hash = $2 AND erased_at = $3 AND phone IS NOT NULL";
    Ok(tx.execute(sql, &[&tenant, &hash, &erasure.noted_at]).await? == 1)
}

/// Lists unfinished erasures that began before a time, oldest first.
pub async fn under_way(tx: &Tx<'_>, before: Instant, limit: i64) -> StoreResult<Vec<Erasure>> {
    let sql = "SELECT tenant, hash, phone, actor, reason, erased_at FROM erasures
        WHERE phone IS NOT NULL AND erased_at < $1 ORDER BY erased_at LIMIT $2";
    let read = |row: &Row| {
        let corrupt = || StoreError::Corrupt("an erasure".to_owned());
        Ok(Erasure {
            tenant: Tenant::new(row.get("tenant")).ok_or_else(corrupt)?,
            hash: row.get::<_, &[u8]>("hash").try_into().map_err(|_| corrupt())?,
            phone: row.get("phone"),
            actor: row.get("actor"),
            reason: row.get("reason"),
            noted_at: row.get("erased_at"),
        })
    };
    tx.query(sql, &[&before, &limit]).await?.iter().map(read).collect()
}

/// Returns which of these people a tenant's campaigns may not know: the tenant or the installation
/// erased them.
pub async fn find(
    tx: &Tx<'_>,
    tenant: &Tenant,
    hashes: &[PersonHash],
) -> StoreResult<Vec<PersonHash>> {
    let hashes: Vec<&[u8]> = hashes.iter().map(PersonHash::as_slice).collect();
    let sql = "SELECT DISTINCT hash FROM erasures WHERE tenant IN ('', $1) AND hash = ANY($2)";
    let rows = tx.query(sql, &[&tenant.name(), &hashes]).await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, &[u8]>(0).try_into().ok()).collect())
}

/// Records for one more tenant that people are erased who were erased before.
pub async fn hold(
    tx: &Tx<'_>,
    tenant: &Tenant,
    hashes: &[PersonHash],
    reason: &str,
) -> StoreResult<()> {
    let hashes: Vec<&[u8]> = hashes.iter().map(PersonHash::as_slice).collect();
    let sql = "INSERT INTO erasures (tenant, hash, erased_at, actor, reason)
        SELECT $1, hash, $3::timestamptz, '', $4 FROM unnest($2::bytea[]) AS t(hash) ORDER BY hash
        ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&tenant.name(), &hashes, &tx.now, &reason]).await?;
    Ok(())
}

/// Record of a person's erasure.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    pub erased_at: Instant,
    /// Whether the erasure is not yet done everywhere.
    pub is_under_way: bool,
}

/// Locks a tenant's erasure of a person until commit, and returns it. The person may have any of
/// `hashes`.
pub async fn lock(
    tx: &Tx<'_>,
    tenant: &Tenant,
    hashes: &[PersonHash],
) -> StoreResult<Option<Noted>> {
    let hashes: Vec<&[u8]> = hashes.iter().map(PersonHash::as_slice).collect();
    let sql = "SELECT erased_at, phone IS NOT NULL AS is_under_way FROM erasures
        WHERE tenant = $1 AND hash = ANY($2) ORDER BY hash FOR UPDATE";
    let rows = tx.query(sql, &[&tenant.name(), &hashes]).await?;
    let erased_at = rows.iter().map(|row| row.get("erased_at")).max();
    let is_under_way = rows.iter().any(|row| row.get("is_under_way"));
    Ok(erased_at.map(|erased_at| Noted { erased_at, is_under_way }))
}

/// Deletes a tenant's erasure of a person, so that the tenant may know the person again.
pub async fn delete(tx: &Tx<'_>, tenant: &Tenant, hashes: &[PersonHash]) -> StoreResult<()> {
    let hashes: Vec<&[u8]> = hashes.iter().map(PersonHash::as_slice).collect();
    let sql = "DELETE FROM erasures WHERE tenant = $1 AND hash = ANY($2)";
    tx.execute(sql, &[&tenant.name(), &hashes]).await?;
    Ok(())
}

/// Lists campaigns that may know a person again once a tenant lifts its erasure, with the person's
/// hash in their logs. The last entry about the person in such a campaign's log is an erasure.
/// Except: campaigns for which another tenant's erasure holds.
pub async fn campaigns_to_tell(
    tx: &Tx<'_>,
    tenant: &Tenant,
    hashes: &[PersonHash],
    limit: i64,
) -> StoreResult<Vec<(Uuid, String)>> {
    let sql = "SELECT DISTINCT ON (a.campaign_id) a.campaign_id, a.details ->> 'person' AS person,
            a.command, c.tenant
        FROM audit_events a JOIN campaigns c USING (campaign_id)
        WHERE a.command IN ('ERASE', 'LIFT_ERASURE')
            AND a.details ->> 'person' IN (SELECT encode(hash, 'hex') FROM unnest($2::bytea[]) AS t(hash))
            AND ($3::text IS NULL OR c.tenant = $3)
        ORDER BY a.campaign_id, a.event_number DESC";
    let sql = format!(
        "SELECT l.campaign_id, l.person FROM ({sql}) l
        WHERE l.command = 'ERASE' AND NOT EXISTS (SELECT FROM erasures o
            WHERE o.hash = ANY($2) AND o.tenant IN ('', l.tenant) AND o.tenant <> $1)
        ORDER BY l.campaign_id LIMIT $4"
    );
    let hashes: Vec<&[u8]> = hashes.iter().map(PersonHash::as_slice).collect();
    let reach = tenant.suppresses();
    let params: Params<'_> = &[&tenant.name(), &hashes, &reach.tenant(), &limit];
    Ok(tx.query(&sql, params).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
