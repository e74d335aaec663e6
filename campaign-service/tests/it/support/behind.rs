//! Looks and changes behind the service's back, in its database.

use super::copying::id_of;
use super::{TestDb, eventually};
use tokio_postgres::{Client, GenericClient};

/// Returns the key of a campaign's gate, an advisory lock, as in `store`.
pub fn gate_key(name: &str) -> i64 {
    id_of(name).as_u64_pair().1.cast_signed()
}

/// Holds the gate of a campaign alone, outside the service, until dropped.
pub async fn hold_gate(db: &TestDb, name: &str) -> Client {
    let client = db.client().await;
    client.batch_execute("BEGIN").await.unwrap();
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&gate_key(name)]).await.unwrap();
    client
}

/// Returns something while a statement on the client's database waits for a lock of a kind, as `pg_locks` names it.
pub async fn waits(client: &impl GenericClient, kind: &str) -> Option<()> {
    let sql = "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
        WHERE a.datname = current_database() AND NOT l.granted AND l.locktype = $1";
    let waiting: i64 = client.query_one(sql, &[&kind]).await.unwrap().get(0);
    (waiting > 0).then_some(())
}

/// Waits until all other connections to the database are gone. A connection reports its counts at its end at the
/// latest, so PostgreSQL's statistics are complete then.
pub async fn until_alone(client: &Client) {
    eventually("the other connections end", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let others: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        (others == 0).then_some(())
    })
    .await;
}

/// Returns the rows written and read in tables of the database so far, once its service is gone.
pub async fn rows_touched(db: &TestDb) -> (i64, i64) {
    let client = db.client().await;
    until_alone(&client).await;
    let sql = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::int8,
            sum(COALESCE(idx_tup_fetch, 0) + seq_tup_read)::int8 FROM pg_stat_user_tables";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}
