//! Campaigns and their runs.

use super::gate::LOCK_POSITIONS;
use super::run_counts::AUTHORIZED;
use super::{Connection, Statements, StoreError, StoreResult, Tx, classes, from_json, to_json};
use campaign_domain::Instant;
use campaign_domain::access::{Reach, Tenant};
use campaign_domain::campaign::{Campaign, Config};
use campaign_domain::lifecycle::State;
use campaign_domain::serving::Needs;
use campaign_domain::settings::{Epoch, LaunchSettings};
use campaign_domain::timing::Launch;
use tokio_postgres::Row;
use uuid::Uuid;

/// Number of launches that facts are compared with. A fact from before all of these launches counts
/// as one from before the first.
const MAX_LAUNCHES: i64 = 1_000;

const COLUMNS: &str = "c.campaign_id, c.tenant, c.state, c.config, c.worker_pool, c.channels, c.run, c.generation, c.cycle,
    r.settings, r.position_limit, coalesce(r.launch_traceparent, '') AS launch_traceparent, c.revision,
    c.created_at, c.updated_at, c.deleted_at IS NOT NULL AS is_deleted";
const FROM: &str =
    "FROM campaigns c LEFT JOIN runs r ON r.campaign_id = c.campaign_id AND r.run = c.run";

fn read(row: &Row) -> StoreResult<Campaign> {
    let state: &str = row.get("state");
    let settings: Option<serde_json::Value> = row.get("settings");
    let tenant: &str = row.get("tenant");
    // The version before writes the configuration without needs.
    let needs = Needs { worker_pool: row.get("worker_pool"), channels: row.get("channels") };
    Ok(Campaign {
        id: row.get("campaign_id"),
        tenant: Tenant::new(tenant).ok_or_else(|| StoreError::Corrupt(tenant.to_owned()))?,
        state: State::from_name(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?,
        config: Config { needs, ..from_json(row.get("config"))? },
        run: row.get("run"),
        epoch: Epoch { generation: row.get("generation"), cycle: row.get("cycle") },
        settings: settings.map(from_json).transpose()?,
        position_limit: row.get("position_limit"),
        launch_traceparent: row.get("launch_traceparent"),
        revision: row.get("revision"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        is_deleted: row.get("is_deleted"),
    })
}

/// Returns the campaign with this id, deleted or not.
pub async fn find(tx: &Statements<'_>, id: Uuid) -> StoreResult<Option<Campaign>> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE c.campaign_id = $1");
    tx.query_opt(&sql, &[&id]).await?.as_ref().map(read).transpose()
}

/// Returns whether a tenant has a campaign with this id, deleted or not.
pub async fn is_of(connection: &Connection, id: Uuid, tenant: &Tenant) -> StoreResult<bool> {
    let sql = "SELECT FROM campaigns WHERE campaign_id = $1 AND tenant = $2";
    Ok(connection.alone().query_opt(sql, &[&id, &tenant.name()]).await?.is_some())
}

/// Lists a tenant's campaigns that are not deleted with their contact counts, newest first, after
/// the last one of the previous page.
pub async fn list(
    tx: &Tx<'_>,
    tenant: &Tenant,
    after: Option<(Instant, Uuid)>,
    limit: i64,
) -> StoreResult<Vec<(Campaign, i64)>> {
    let (time, id) = after.unzip();
    let sql = format!(
        "SELECT {COLUMNS}, k.contacts
         {FROM} CROSS JOIN LATERAL (
            SELECT contacts FROM campaign_counters WHERE campaign_id = c.campaign_id LIMIT 1) k
         WHERE c.deleted_at IS NULL AND c.tenant = $4
           AND (c.created_at, c.campaign_id) < (COALESCE($1::timestamptz, 'infinity'),
               COALESCE($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
         ORDER BY c.tenant DESC, c.created_at DESC, c.campaign_id DESC LIMIT $3"
    );
    let rows = tx.query(&sql, &[&time, &id, &limit, &tenant.name()]).await?;
    rows.iter().map(|row| Ok((read(row)?, row.get("contacts")))).collect()
}

/// Lists at most `limit` active campaigns within reach that are in one of `states`.
pub async fn ids_in_states(
    tx: &Tx<'_>,
    reach: &Reach,
    states: &[State],
    limit: i64,
) -> StoreResult<Vec<Uuid>> {
    let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
    let sql = "SELECT campaign_id FROM campaigns
        WHERE state = ANY($1) AND state IN ('SCHEDULED', 'RUNNING', 'PAUSED')
            AND ($3::text IS NULL OR tenant = $3)
        ORDER BY campaign_id LIMIT $2";
    Ok(tx
        .query(sql, &[&names, &limit, &reach.tenant()])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

/// Counts the campaigns within reach, deleted or not.
pub async fn count(tx: &Tx<'_>, reach: &Reach) -> StoreResult<i64> {
    let sql = "SELECT count(*) FROM campaigns WHERE $1::text IS NULL OR tenant = $1";
    Ok(tx.query_one(sql, &[&reach.tenant()]).await?.get(0))
}

/// Adds a campaign with its counters. Returns whether the id was free.
pub async fn insert(tx: &Tx<'_>, campaign: &Campaign) -> StoreResult<bool> {
    let plan = campaign.plan(false);
    let sql = "INSERT INTO campaigns
            (campaign_id, state, config, start_time, end_time, revision, created_at, updated_at, tenant,
             worker_pool, channels)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    let added = tx
        .execute(
            sql,
            &[
                &campaign.id,
                &campaign.state.name(),
                &to_json(&campaign.config)?,
                &plan.start_time,
                &plan.end_time,
                &campaign.revision,
                &campaign.created_at,
                &campaign.tenant.name(),
                &campaign.config.needs.worker_pool,
                &campaign.config.needs.channels,
            ],
        )
        .await?;
    if added == 1 {
        let sql = "INSERT INTO campaign_counters (campaign_id) VALUES ($1)";
        tx.execute(sql, &[&campaign.id]).await?;
        classes::begin(tx, campaign.id).await?;
    }
    Ok(added == 1)
}

/// Writes back a campaign that a command changed.
pub async fn update(tx: &Tx<'_>, campaign: &Campaign) -> StoreResult<()> {
    let plan = campaign.plan(false);
    let deleted_at = campaign.is_deleted.then_some(campaign.updated_at);
    let sql =
        "UPDATE campaigns SET state = $2, config = $3, start_time = $4, end_time = $5, run = $6,
            generation = $7, cycle = $8, revision = $9, updated_at = $10, deleted_at = $11,
            worker_pool = $12, channels = $13
        WHERE campaign_id = $1";
    tx.execute(
        sql,
        &[
            &campaign.id,
            &campaign.state.name(),
            &to_json(&campaign.config)?,
            &plan.start_time,
            &plan.end_time,
            &campaign.run,
            &campaign.epoch.generation,
            &campaign.epoch.cycle,
            &campaign.revision,
            &campaign.updated_at,
            &deleted_at,
            &campaign.config.needs.worker_pool,
            &campaign.config.needs.channels,
        ],
    )
    .await?;
    Ok(())
}

/// Run as stored.
#[derive(Clone, Debug)]
pub struct Run {
    pub number: i32,
    pub settings: LaunchSettings,
    pub epoch: Epoch,
    pub launched_at: Instant,
    pub started_at: Option<Instant>,
    pub ended_at: Option<Instant>,
    pub authorized_attempts: i64,
}

/// Adds the run that a campaign was just launched into.
pub async fn insert_run(tx: &Tx<'_>, campaign: &Campaign) -> StoreResult<()> {
    let sql = "INSERT INTO runs
            (campaign_id, run, settings, generation, cycle, position_limit, launched_at,
             launch_traceparent, authorized_attempts)
        VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8, ''), 0)";
    tx.execute(
        sql,
        &[
            &campaign.id,
            &campaign.run,
            &to_json(&campaign.settings)?,
            &campaign.epoch.generation,
            &campaign.epoch.cycle,
            &campaign.position_limit,
            &campaign.updated_at,
            &campaign.launch_traceparent,
        ],
    )
    .await?;
    Ok(())
}

/// Records when the run first ran, and when it ended.
pub async fn mark_run(tx: &Tx<'_>, campaign: &Campaign) -> StoreResult<()> {
    let is_running = campaign.state == State::Running;
    let is_over = !campaign.state.is_active();
    let sql = "UPDATE runs SET
            started_at = CASE WHEN $3 THEN COALESCE(started_at, $5) ELSE started_at END,
            ended_at = CASE WHEN $4 THEN COALESCE(ended_at, $5) ELSE ended_at END
        WHERE campaign_id = $1 AND run = $2";
    tx.execute(sql, &[&campaign.id, &campaign.run, &is_running, &is_over, &campaign.updated_at])
        .await?;
    Ok(())
}

/// Lists runs with a number below `before`, newest first.
pub async fn list_runs(
    tx: &Tx<'_>,
    id: Uuid,
    before: Option<i32>,
    limit: i64,
) -> StoreResult<Vec<Run>> {
    let sql = format!(
        "SELECT r.run, r.settings, r.generation, r.cycle, r.launched_at, r.started_at, r.ended_at,
             {AUTHORIZED} AS authorized
         FROM runs r WHERE r.campaign_id = $1 AND r.run < COALESCE($2, 2147483647)
         ORDER BY r.run DESC LIMIT $3"
    );
    let rows = tx.query(&sql, &[&id, &before, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Run {
                number: row.get("run"),
                settings: from_json(row.get("settings"))?,
                epoch: Epoch { generation: row.get("generation"), cycle: row.get("cycle") },
                launched_at: row.get("launched_at"),
                started_at: row.get("started_at"),
                ended_at: row.get("ended_at"),
                authorized_attempts: row.get("authorized"),
            })
        })
        .collect()
}

/// Lists the last launches of a campaign, newest first.
pub async fn launches(tx: &Tx<'_>, id: Uuid) -> StoreResult<Vec<Launch>> {
    let sql = "SELECT run, launched_at, generation, cycle FROM runs WHERE campaign_id = $1
        ORDER BY campaign_id DESC, run DESC LIMIT $2";
    let rows = tx.query(sql, &[&id, &MAX_LAUNCHES]).await?;
    let read = |row: &Row| Launch {
        run: row.get(0),
        launched_at: row.get(1),
        epoch: Epoch { generation: row.get(2), cycle: row.get(3) },
    };
    Ok(rows.iter().map(read).collect())
}

/// Returns the epochs of some runs.
pub async fn run_epochs(tx: &Tx<'_>, id: Uuid, runs: &[i32]) -> StoreResult<Vec<(i32, Epoch)>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT run, generation, cycle FROM runs WHERE campaign_id = $1 AND run = ANY($2)";
    let rows = tx.query(sql, &[&id, &runs]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), Epoch { generation: row.get(1), cycle: row.get(2) }))
        .collect())
}

/// Counters of a campaign.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    pub next_position: i64,
    /// Contacts that are not deleted.
    pub contacts: i64,
}

/// Returns the counters as committed.
pub async fn counters(tx: &Tx<'_>, id: Uuid) -> StoreResult<Counters> {
    let sql = "SELECT next_position, contacts FROM campaign_counters WHERE campaign_id = $1";
    let row = tx.query_one(sql, &[&id]).await?;
    Ok(Counters { next_position: row.get(0), contacts: row.get(1) })
}

/// Adds `more` to the count of contacts: positive for contacts that came back, negative for deleted
/// ones.
pub async fn count_contacts(tx: &Tx<'_>, id: Uuid, more: i64) -> StoreResult<()> {
    let sql = "UPDATE campaign_counters SET contacts = contacts + $2 WHERE campaign_id = $1";
    tx.execute(sql, &[&id, &more]).await?;
    Ok(())
}

/// Returns the revision that contacts are judged at.
pub async fn facts_revision(tx: &Statements<'_>, id: Uuid) -> StoreResult<i64> {
    let sql = "SELECT revision FROM campaign_revisions WHERE campaign_id = $1
        ORDER BY campaign_id DESC, revision DESC LIMIT 1";
    Ok(tx.query_opt(sql, &[&id]).await?.map_or(0, |row| row.get(0)))
}

/// Raises the revision, so that everything that was judged is judged again. The caller must hold
/// the campaign's gate exclusively.
pub async fn bump_facts_revision(tx: &Tx<'_>, id: Uuid) -> StoreResult<()> {
    let before = facts_revision(tx, id).await?;
    let sql = "WITH forgotten AS (
            DELETE FROM campaign_revisions WHERE campaign_id = $1 AND revision = $2)
        INSERT INTO campaign_revisions (campaign_id, revision) VALUES ($1, $2 + 1)";
    tx.execute(sql, &[&id, &before]).await?;
    Ok(())
}

/// Locks the campaign's counters until commit, so that nobody else takes positions or adds groups.
/// Must come before the campaign's gate.
pub async fn lock_positions(tx: &Statements<'_>, id: Uuid) -> StoreResult<()> {
    tx.execute(LOCK_POSITIONS, &[&id]).await?;
    Ok(())
}

/// Takes positions for `count` new contacts and counts the contacts. Locks the counters until
/// commit. Returns the first position.
pub async fn take_positions(tx: &Tx<'_>, id: Uuid, count: i64) -> StoreResult<i64> {
    let sql = "UPDATE campaign_counters
        SET next_position = next_position + $2, contacts = contacts + $2
        WHERE campaign_id = $1 RETURNING next_position - $2";
    Ok(tx.query_one(sql, &[&id, &count]).await?.get(0))
}
