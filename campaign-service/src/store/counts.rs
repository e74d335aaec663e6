//! Contacts counted by what the rules look at, so that the rules judge a class instead of each contact.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::eligibility::Candidate;
use campaign_domain::history::{ContactState, Flags};
use campaign_domain::lease::Slot;
use campaign_domain::settings::Epoch;
use uuid::Uuid;

/// Contacts that the rules cannot tell apart.
#[derive(Clone, Debug)]
pub struct Class {
    /// One that stands for all: due times are now or the far future.
    pub candidate: Candidate,
    /// The slot that holds it in a lease, leased or authorised.
    pub slot: Option<Slot>,
    pub contacts: i64,
}

/// What tells classes apart.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub epoch: Epoch,
    pub run: i32,
    pub position_limit: Option<i64>,
}

/// The classes of a campaign's contacts that are not deleted. Reads the whole list once.
pub async fn classes(tx: &Tx<'_>, campaign: Uuid, view: View) -> StoreResult<Vec<Class>> {
    // Slot bytes 0 and 1 are leased and authorised: domain type Slot.
    let sql = "WITH held AS (
            SELECT u.position, max(get_byte(l.slots, u.ordinal::int - 1)) AS slot
            FROM leases l, unnest(l.positions) WITH ORDINALITY AS u(position, ordinal)
            WHERE l.campaign_id = $1 AND (get_byte(l.slots, u.ordinal::int - 1) = 1
                OR l.run = $6 AND get_byte(l.slots, u.ordinal::int - 1) = 0)
            GROUP BY u.position),
        states AS (
            SELECT position, flags, refused_run,
                CASE WHEN cycle = $3 THEN cycle_flags ELSE 0 END::int2 AS cycle_flags,
                cycle = $3 AND finished AS finished,
                COALESCE(cycle = $3 AND due_at > $5, false) AS is_later
            FROM contact_states WHERE campaign_id = $1 AND generation = $2)
        SELECT c.position >= $4 AS is_beyond, x.phone IS NOT NULL AS is_suppressed, h.slot,
            s.flags, s.refused_run, s.cycle_flags, s.finished, s.is_later, count(*) AS contacts
        FROM contacts c
        LEFT JOIN states s ON s.position = c.position
        LEFT JOIN suppressions x ON x.phone = c.phone
        LEFT JOIN held h ON h.position = c.position
        WHERE c.campaign_id = $1 AND c.deleted_at IS NULL
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8";
    let Epoch { generation, cycle } = view.epoch;
    let limit = view.position_limit.unwrap_or(i64::MAX);
    let rows = tx.query(sql, &[&campaign, &generation, &cycle, &limit, &tx.now, &view.run]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let is_later = row.get::<_, Option<bool>>("is_later").unwrap_or(false);
            let state = ContactState {
                epoch: view.epoch,
                flags: Flags(row.get::<_, Option<i16>>("flags").unwrap_or(0)),
                cycle_flags: Flags(row.get::<_, Option<i16>>("cycle_flags").unwrap_or(0)),
                refused_run: row.get::<_, Option<i32>>("refused_run").unwrap_or(0),
                finished: row.get::<_, Option<bool>>("finished").unwrap_or(false),
                due_at: is_later.then_some(Instant::MAX_UTC),
                ..ContactState::default()
            };
            let position = if row.get("is_beyond") { limit } else { 0 };
            let is_suppressed = row.get("is_suppressed");
            let slot: Option<i32> = row.get("slot");
            Class {
                candidate: Candidate { position, is_suppressed, state },
                slot: slot.map(|byte| if byte == 0 { Slot::Leased } else { Slot::Authorized }),
                contacts: row.get("contacts"),
            }
        })
        .collect())
}

/// Totals of what happened, over contacts that are not deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryTotals {
    pub attempts: i64,
    pub refused: i64,
    pub transferred: i64,
    pub success: i64,
    pub link_opened: i64,
    pub texted: i64,
}

/// The totals of one history generation.
pub async fn history_totals(
    tx: &Tx<'_>,
    campaign: Uuid,
    generation: i32,
) -> StoreResult<HistoryTotals> {
    let sql = "SELECT COALESCE(sum(s.attempts), 0)::int8,
            count(*) FILTER (WHERE s.flags & $3 <> 0), count(*) FILTER (WHERE s.flags & $4 <> 0),
            count(*) FILTER (WHERE s.flags & $5 <> 0), count(*) FILTER (WHERE s.flags & $6 <> 0),
            count(*) FILTER (WHERE s.flags & $7 <> 0)
        FROM contact_states s JOIN contacts c USING (campaign_id, position)
        WHERE s.campaign_id = $1 AND s.generation = $2 AND c.deleted_at IS NULL";
    let flags =
        [Flags::REFUSED, Flags::TRANSFERRED, Flags::SUCCESS, Flags::LINK_OPENED, Flags::TEXTED]
            .map(|flag| flag.0);
    let [refused, transferred, success, link_opened, texted] = &flags;
    let row = tx
        .query_one(
            sql,
            &[&campaign, &generation, refused, transferred, success, link_opened, texted],
        )
        .await?;
    Ok(HistoryTotals {
        attempts: row.get(0),
        refused: row.get(1),
        transferred: row.get(2),
        success: row.get(3),
        link_opened: row.get(4),
        texted: row.get(5),
    })
}
