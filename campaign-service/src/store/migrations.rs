//! Database schema, as an append-only list of migrations.

use super::{Db, StoreResult};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Advisory lock for migrations. If several replicas migrate at once, one does it and the others
/// wait.
const MIGRATION_LOCK: i64 = 0x63_61_6d_70_61_69_67_6e;

/// Brings the schema up to date. Returns how many migrations were applied.
///
/// # Errors
/// If the database is unavailable, or holds a schema that is not ours. The text says which.
pub async fn migrate(db: &Db) -> Result<usize, String> {
    let mut connection = db.connect().await.map_err(|error| error.to_string())?;
    let client: &mut tokio_postgres::Client = connection.client_mut();
    let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
    client.batch_execute(&lock).await.map_err(|error| error.to_string())?;
    // Migrations of a newer version are accepted: after a rollback, this version runs on the newer
    // schema.
    let runner = embedded::migrations::runner().set_abort_missing(false);
    let report = runner.run_async(client).await;
    let unlock = format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})");
    client.batch_execute(&unlock).await.map_err(|error| error.to_string())?;
    let report = report.map_err(|error| format!("a migration failed: {error}"))?;
    Ok(report.applied_migrations().len())
}

/// Lists schemas that hold our tables although the search path does not name them.
pub(super) async fn out_of_path(db: &Db) -> StoreResult<Vec<String>> {
    let connection = db.connect().await?;
    let sql = "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'refinery_schema_history' AND to_regclass('refinery_schema_history') IS NULL";
    Ok(connection.alone().query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Returns whether the schema has everything that this program needs. A newer schema does, because
/// migrations keep the previous version working.
pub async fn is_current(db: &Db) -> StoreResult<bool> {
    let connection = db.connect().await?;
    let newest = embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0);
    let table = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
    if !connection.alone().query_one(table, &[]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    let version = "SELECT COALESCE(max(version), 0)::int8 FROM refinery_schema_history";
    let applied: i64 = connection.alone().query_one(version, &[]).await?.get(0);
    Ok(applied >= i64::from(newest))
}
