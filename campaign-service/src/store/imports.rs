//! Progress of imports, and the problems in their rows.

use super::{Params, StoreError, StoreResult, Tx};
use campaign_domain::fingerprint::{Fingerprint, Hash, NO_ROWS};
use uuid::Uuid;

/// Progress of an import.
#[derive(Clone, Debug)]
pub struct Import {
    pub next_row: i64,
    pub created: i64,
    pub duplicates: i64,
    pub rejected: i64,
    /// Fingerprint of the committed rows.
    pub fingerprint: Fingerprint,
}

/// Row that created no contact.
#[derive(Clone, Debug)]
pub struct Problem {
    pub row: i64,
    pub field: String,
    pub reason: String,
}

/// Starts an import unless it is known, and locks it until commit. One stream at a time writes an
/// import.
pub async fn lock(tx: &Tx<'_>, campaign: Uuid, import_id: &str) -> StoreResult<Import> {
    let ensure =
        "INSERT INTO imports (campaign_id, import_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    tx.execute(ensure, &[&campaign, &import_id]).await?;
    let sql = format!(
        "SELECT {COLUMNS} FROM imports WHERE campaign_id = $1 AND import_id = $2 FOR UPDATE"
    );
    read(&tx.query_one(&sql, &[&campaign, &import_id]).await?)
}

/// Returns an import, if it is known.
pub async fn find(tx: &Tx<'_>, campaign: Uuid, import_id: &str) -> StoreResult<Option<Import>> {
    let sql = format!("SELECT {COLUMNS} FROM imports WHERE campaign_id = $1 AND import_id = $2");
    tx.query_opt(&sql, &[&campaign, &import_id]).await?.as_ref().map(read).transpose()
}

const COLUMNS: &str = "next_row, created, duplicates, rejected, chain, chain_rows, checkpoints";

fn read(row: &tokio_postgres::Row) -> StoreResult<Import> {
    let hashes = |bytes: &[u8]| -> StoreResult<Vec<Hash>> {
        let hash = |hash: &[u8]| {
            Hash::try_from(hash).map_err(|_| StoreError::Corrupt("hash of rows".to_owned()))
        };
        bytes.chunks(NO_ROWS.len()).map(hash).collect()
    };
    let all = hashes(row.get(4))?;
    Ok(Import {
        next_row: row.get(0),
        created: row.get(1),
        duplicates: row.get(2),
        rejected: row.get(3),
        fingerprint: Fingerprint {
            rows: row.get(5),
            all: all.first().copied().unwrap_or(NO_ROWS),
            firsts: hashes(row.get(6))?,
        },
    })
}

/// Writes back a locked import, with the problems of the rows just imported.
pub async fn save(
    tx: &Tx<'_>,
    campaign: Uuid,
    import_id: &str,
    import: &Import,
    problems: &[Problem],
) -> StoreResult<()> {
    let sql = "UPDATE imports SET next_row = $3, created = $4, duplicates = $5, rejected = $6,
            chain = $7, chain_rows = $8, checkpoints = $9
        WHERE campaign_id = $1 AND import_id = $2";
    let Import { next_row, created, duplicates, rejected, fingerprint } = import;
    let (all, firsts) = (fingerprint.all.as_slice(), fingerprint.firsts.concat());
    let counts: Params<'_> = &[
        &campaign,
        &import_id,
        next_row,
        created,
        duplicates,
        rejected,
        &all,
        &fingerprint.rows,
        &firsts,
    ];
    tx.execute(sql, counts).await?;
    let rows: Vec<i64> = problems.iter().map(|problem| problem.row).collect();
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let reasons: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
    let add = "INSERT INTO import_problems (campaign_id, import_id, row_number, field, reason)
        SELECT $1, $2, * FROM unnest($3::int8[], $4::text[], $5::text[])";
    tx.execute(add, &[&campaign, &import_id, &rows, &fields, &reasons]).await?;
    Ok(())
}

/// Returns the first problems of an import after a row, in order of row.
pub async fn problems(
    tx: &Tx<'_>,
    campaign: Uuid,
    import_id: &str,
    after_row: i64,
    limit: i64,
) -> StoreResult<Vec<Problem>> {
    let sql = "SELECT row_number, field, reason FROM import_problems
        WHERE campaign_id = $1 AND import_id = $2 AND row_number > $3
        ORDER BY row_number LIMIT $4";
    let rows = tx.query(sql, &[&campaign, &import_id, &after_row, &limit]).await?;
    Ok(rows
        .iter()
        .map(|row| Problem { row: row.get(0), field: row.get(1), reason: row.get(2) })
        .collect())
}
