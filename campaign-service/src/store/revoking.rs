//! Numbers over many campaigns: where they are contacts, and how they leave the runs under way. Each
//! statement is about many campaigns at once.

use super::{StoreResult, Tx};
use campaign_domain::access::Reach;
use uuid::Uuid;

/// SQL subquery `c` with the campaigns that have a contact, deleted or not, with one of the numbers
/// `$1`. OFFSET keeps one index probe per number.
const WITH_NUMBERS: &str = "(SELECT DISTINCT found.campaign_id
        FROM (SELECT DISTINCT phone FROM unnest($1::text[]) AS t(phone)) p CROSS JOIN LATERAL (
            SELECT campaign_id FROM contacts WHERE phone = p.phone OFFSET 0) found) c";

/// Lists the campaigns within reach that have a run under way and a contact with one of these
/// numbers, in order of id.
pub async fn active_campaigns_with(
    tx: &Tx<'_>,
    reach: &Reach,
    phones: &[String],
) -> StoreResult<Vec<Uuid>> {
    let sql = format!(
        "SELECT a.campaign_id FROM {WITH_NUMBERS} JOIN campaigns a USING (campaign_id)
         WHERE a.state IN ('SCHEDULED', 'RUNNING', 'PAUSED') AND ($2::text IS NULL OR a.tenant = $2)
         ORDER BY a.campaign_id"
    );
    let rows = tx.query(&sql, &[&phones, &reach.tenant()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Lists the campaigns within reach, deleted or not, that have a contact with a number, in order of
/// id.
pub async fn campaigns_with(tx: &Tx<'_>, reach: &Reach, phone: &str) -> StoreResult<Vec<Uuid>> {
    let sql = format!(
        "SELECT a.campaign_id FROM {WITH_NUMBERS} JOIN campaigns a USING (campaign_id)
         WHERE $2::text IS NULL OR a.tenant = $2 ORDER BY a.campaign_id"
    );
    let rows = tx.query(&sql, &[&[phone].as_slice(), &reach.tenant()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Raises the revisions of some campaigns, so that everything that was judged is judged again. The
/// caller must hold the campaigns' gates exclusively.
pub async fn judge_again(tx: &Tx<'_>, campaigns: &[Uuid]) -> StoreResult<()> {
    let sql = "WITH before AS MATERIALIZED (
            SELECT w.id, COALESCE((SELECT revision FROM campaign_revisions WHERE campaign_id = w.id
                ORDER BY campaign_id DESC, revision DESC LIMIT 1), 0) AS revision
            FROM unnest($1::uuid[]) AS w(id)),
        forgotten AS (DELETE FROM campaign_revisions r USING before b
            WHERE r.campaign_id = b.id AND r.revision = b.revision)
        INSERT INTO campaign_revisions (campaign_id, revision) SELECT id, revision + 1 FROM before";
    tx.execute(sql, &[&campaigns]).await?;
    Ok(())
}

/// Takes contacts with suppressed numbers off the due lists of some campaigns. Returns the campaigns
/// whose lists changed.
///
/// A number that left the suppression list meanwhile stays due. The entries of the list are locked
/// until commit, so that a re-admission puts its contacts back after this, and not before.
pub async fn take_off_due_lists(
    tx: &Tx<'_>,
    campaigns: &[Uuid],
    phones: &[String],
) -> StoreResult<Vec<Uuid>> {
    let sql = "WITH waiting AS MATERIALIZED (
            SELECT a.campaign_id, a.tenant FROM unnest($1::uuid[]) AS w(id)
            JOIN campaigns a ON a.campaign_id = w.id
            CROSS JOIN LATERAL (SELECT FROM due_contacts WHERE campaign_id = w.id LIMIT 1) d),
        listed AS MATERIALIZED (
            SELECT phone, tenant FROM suppressions
            WHERE phone = ANY($2) AND EXISTS (SELECT FROM waiting)
            ORDER BY phone, tenant FOR KEY SHARE),
        gone AS (DELETE FROM due_contacts WHERE ctid = ANY (ARRAY(
            SELECT d.place FROM waiting w JOIN listed x ON x.tenant IN ('', w.tenant)
            CROSS JOIN LATERAL (SELECT position FROM contacts
                WHERE campaign_id = w.campaign_id AND phone = x.phone LIMIT 1) c
            CROSS JOIN LATERAL (SELECT ctid AS place FROM due_contacts
                WHERE campaign_id = w.campaign_id AND position = c.position LIMIT 1) d))
            RETURNING campaign_id)
        SELECT DISTINCT campaign_id FROM gone";
    let rows = tx.query(sql, &[&campaigns, &phones]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Returns the contacts with some numbers that workers hold in some campaigns, to be dialled or in a
/// call: the positions in each campaign. `numbers` are E.164 without the plus sign.
pub async fn held(
    tx: &Tx<'_>,
    campaigns: &[Uuid],
    numbers: &[i64],
) -> StoreResult<Vec<(Uuid, Vec<i64>)>> {
    let sql =
        "SELECT l.campaign_id, array_agg(DISTINCT s.position) FROM unnest($1::uuid[]) AS w(id)
        JOIN leases l ON l.campaign_id = w.id
        CROSS JOIN LATERAL unnest(l.positions, l.numbers)
            WITH ORDINALITY AS s(position, number, ordinal)
        JOIN (SELECT DISTINCT number FROM unnest($2::int8[]) AS t(number)) n USING (number)
        WHERE get_byte(l.slots, s.ordinal::int - 1) < 2
        GROUP BY l.campaign_id ORDER BY l.campaign_id";
    let rows = tx.query(sql, &[&campaigns, &numbers]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Lists the campaigns whose positions are locked at this moment: transactions under way may be adding
/// contacts there. A row's `xmax` names the transaction that has the row locked.
pub async fn adding_now(tx: &Tx<'_>) -> StoreResult<Vec<Uuid>> {
    let sql = "SELECT campaign_id FROM campaign_counters
        WHERE xmax IN (SELECT x::xid FROM pg_snapshot_xip(pg_current_snapshot()) AS t(x))";
    Ok(tx.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
