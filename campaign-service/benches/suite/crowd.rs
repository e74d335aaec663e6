//! Campaigns by the thousand: copies of one that the service made.

#[path = "../../tests/it/support/copying.rs"]
mod copying;

use copying::{WITH_CONTACTS, WITHOUT_CONTACTS, copy_campaign};
use tokio_postgres::Client;
use uuid::Uuid;

pub use copying::id_of;

/// Copies a campaign without its contacts. Returns the ids of the copies.
pub async fn copy(client: &Client, name: &str, copies: usize) -> Vec<Uuid> {
    copy_to_new(client, name, copies, WITHOUT_CONTACTS).await
}

/// Copies a campaign with its contacts. Returns the ids of the copies.
pub async fn copy_with_contacts(client: &Client, name: &str, copies: usize) -> Vec<Uuid> {
    copy_to_new(client, name, copies, WITH_CONTACTS).await
}

async fn copy_to_new(client: &Client, name: &str, copies: usize, tables: &[&str]) -> Vec<Uuid> {
    let ids: Vec<Uuid> = (0..copies).map(|_| Uuid::new_v4()).collect();
    copy_campaign(client, name, &ids, tables).await;
    ids
}

/// Waits until a campaign has nobody to hand out, and nobody looks.
pub async fn asleep(client: &Client, name: &str) {
    let sql = "SELECT work_at IS NULL FROM agenda WHERE campaign_id = $1";
    while !client.query_one(sql, &[&id_of(name)]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Gives scheduled copies their starts, evenly over `seconds`, the first after `wait_seconds`.
pub async fn spread_starts(client: &Client, ids: &[Uuid], wait_seconds: f64, seconds: f64) {
    let sql = "WITH starts AS (
            SELECT id, clock_timestamp() + make_interval(secs => $2::float8 + $3::float8 * (n - 1) / cardinality($1)) AS at
            FROM unnest($1::uuid[]) WITH ORDINALITY AS t(id, n)),
        changed AS (UPDATE campaigns c SET start_time = s.at, config = jsonb_set(config,
            '{schedule,start_time}', to_jsonb(to_char(s.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')))
            FROM starts s WHERE c.campaign_id = s.id)
        UPDATE agenda a SET clock_at = s.at FROM starts s WHERE a.campaign_id = s.id";
    client.execute(sql, &[&ids, &wait_seconds, &seconds]).await.unwrap();
}

/// Returns how late each of these campaigns began, in milliseconds, once all have begun.
pub async fn lateness(client: &Client, ids: &[Uuid]) -> Vec<f64> {
    let left = "SELECT count(*) FROM campaigns WHERE campaign_id = ANY($1) AND state = 'SCHEDULED'";
    while client.query_one(left, &[&ids]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let sql =
        "SELECT extract(epoch FROM r.started_at - c.start_time)::float8 * 1000 FROM campaigns c
        JOIN runs r USING (campaign_id, run) WHERE c.campaign_id = ANY($1)";
    let rows = client.query(sql, &[&ids]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
