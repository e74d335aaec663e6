//! Campaigns by the thousand: copies of one that the service made, in its own tables. Tests and benchmarks share this.

use tokio_postgres::Client;
use uuid::Uuid;

/// Tables of a campaign that was launched and has no contacts.
pub const WITHOUT_CONTACTS: &[&str] = &["campaigns", "runs", "campaign_counters", "agenda"];
/// Tables of a campaign with contacts that nobody called.
pub const WITH_CONTACTS: &[&str] =
    &["campaigns", "runs", "campaign_counters", "agenda", "contact_groups", "contacts"];

/// Returns the id of a campaign by its resource name.
pub fn id_of(name: &str) -> Uuid {
    name.trim_start_matches("campaigns/").parse().unwrap()
}

/// Copies a campaign's rows in some tables to campaigns with these ids, all at once: the service may run, and would
/// mend a campaign without an entry in the agenda.
pub async fn copy_campaign(client: &Client, name: &str, copies: &[Uuid], tables: &[&str]) {
    client.batch_execute("BEGIN").await.unwrap();
    for table in tables {
        let columns =
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
            WHERE table_name = $1 AND column_name <> 'campaign_id'";
        let columns: String = client.query_one(columns, &[table]).await.unwrap().get(0);
        let sql = format!(
            "INSERT INTO {table} (campaign_id, {columns})
             SELECT copies.id, {columns} FROM {table}, unnest($2::uuid[]) copies(id) WHERE campaign_id = $1"
        );
        client.execute(&sql, &[&id_of(name), &copies]).await.unwrap();
    }
    client.batch_execute("COMMIT; ANALYZE").await.unwrap();
}
