//! Campaigns by the thousand: copies of one that the service made, in its own tables.

use tokio_postgres::Client;
use uuid::Uuid;

/// Tables of a campaign without contacts.
const EMPTY: &[&str] = &["campaigns", "runs", "campaign_counters", "agenda"];
/// Tables of a campaign with contacts that nobody called.
const WITH_CONTACTS: &[&str] = &["contacts", "contact_groups"];

pub fn id_of(name: &str) -> Uuid {
    name.trim_start_matches("campaigns/").parse().unwrap()
}

/// Copies a campaign without its contacts. Returns the ids of the copies.
pub async fn copy(client: &Client, name: &str, copies: usize) -> Vec<Uuid> {
    copy_tables(client, name, copies, EMPTY).await
}

/// Copies a campaign with its contacts. Returns the ids of the copies.
pub async fn copy_with_contacts(client: &Client, name: &str, copies: usize) -> Vec<Uuid> {
    copy_tables(client, name, copies, &[EMPTY, WITH_CONTACTS].concat()).await
}

async fn copy_tables(client: &Client, name: &str, copies: usize, tables: &[&str]) -> Vec<Uuid> {
    let ids: Vec<Uuid> = (0..copies).map(|_| Uuid::new_v4()).collect();
    for table in tables {
        let columns =
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
            WHERE table_name = $1 AND column_name <> 'campaign_id'";
        let columns: String = client.query_one(columns, &[table]).await.unwrap().get(0);
        let sql = format!(
            "INSERT INTO {table} (campaign_id, {columns})
             SELECT copies.id, {columns} FROM {table}, unnest($2::uuid[]) copies(id)
             WHERE campaign_id = $1"
        );
        client.execute(&sql, &[&id_of(name), &ids]).await.unwrap();
    }
    client.batch_execute("ANALYZE").await.unwrap();
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
