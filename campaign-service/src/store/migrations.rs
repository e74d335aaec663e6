//! The schema, as an append-only list of migrations.

use super::{Db, StoreResult};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Several replicas may migrate at once; this lock lets one do it and the others wait.
const MIGRATION_LOCK: i64 = 0x63_61_6d_70_61_69_67_6e;

/// Brings the schema up to date; returns how many migrations were applied.
///
/// # Errors
/// When the database is away, or holds a schema that is not ours. The text says which.
pub async fn migrate(db: &Db) -> Result<usize, String> {
    let mut connection = db.connect().await.map_err(|error| error.to_string())?;
    let client: &mut tokio_postgres::Client = connection.client_mut();
    let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
    client.batch_execute(&lock).await.map_err(|error| error.to_string())?;
    // A newer version's migrations are not ours to judge: after a roll back we run on its schema.
    let runner = embedded::migrations::runner().set_abort_missing(false);
    let report = runner.run_async(client).await;
    let unlock = format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})");
    client.batch_execute(&unlock).await.map_err(|error| error.to_string())?;
    let report = report.map_err(|error| format!("a migration failed: {error}"))?;
    Ok(report.applied_migrations().len())
}

/// Schemas that hold our tables though the search path does not name them.
pub(super) async fn out_of_path(db: &Db) -> StoreResult<Vec<String>> {
    let connection = db.connect().await?;
    let sql = "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'refinery_schema_history' AND to_regclass('refinery_schema_history') IS NULL";
    Ok(connection.alone().query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Whether the schema has all that this program needs. A newer one does: migrations keep the version
/// before them working.
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
