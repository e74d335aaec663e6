//! First answers to requests that carried a `request_id`.

use super::{StoreResult, Tx, from_json, to_json};
use campaign_domain::Instant;
use campaign_domain::campaign::Campaign;
use uuid::Uuid;

/// First answer under a request id, with the fingerprint of the request.
#[derive(Debug)]
pub struct FirstAnswer {
    pub fingerprint: Uuid,
    pub response: Campaign,
}

/// Returns the first answer to a request id, if there was one.
pub async fn find(tx: &Tx<'_>, id: Uuid, request_id: &str) -> StoreResult<Option<FirstAnswer>> {
    let sql =
        "SELECT fingerprint, response FROM requests WHERE campaign_id = $1 AND request_id = $2";
    let Some(row) = tx.query_opt(sql, &[&id, &request_id]).await? else { return Ok(None) };
    Ok(Some(FirstAnswer { fingerprint: row.get(0), response: from_json(row.get(1))? }))
}

/// Stores the first answer to a request id.
pub async fn insert(
    tx: &Tx<'_>,
    request_id: &str,
    fingerprint: Uuid,
    response: &Campaign,
) -> StoreResult<()> {
    let sql = "INSERT INTO requests (campaign_id, request_id, fingerprint, response, created_at)
        VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, &[&response.id, &request_id, &fingerprint, &to_json(response)?, &tx.now])
        .await?;
    Ok(())
}

/// Deletes at most `limit` answers from before a time. Returns how many.
pub async fn delete_older(tx: &Tx<'_>, than: Instant, limit: i64) -> StoreResult<u64> {
    let sql = "DELETE FROM requests WHERE (campaign_id, request_id) IN
        (SELECT campaign_id, request_id FROM requests WHERE created_at < $1 LIMIT $2
         FOR UPDATE SKIP LOCKED)";
    tx.execute(sql, &[&than, &limit]).await
}
