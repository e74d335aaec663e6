//! Check that the schema could be distributed by campaign: the rules of Citus, applied to the catalogue of a migrated
//! database. `deploy/scale/README.md` says what else a distribution would take.

use crate::support::TestDb;
use tokio_postgres::Client;

/// Place of a table in a distributed database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Split over the nodes by campaign; all such tables are split alike.
    Campaign,
    /// Split by number, apart from the tables by campaign: a number belongs to many campaigns.
    Number,
    /// Whole on every node: small, and read with every campaign.
    Everywhere,
    /// Whole on one node: its rows belong to no campaign.
    OneNode,
}

impl Place {
    /// Returns the column that decides, and its type. Tables that are split alike must have the same type.
    fn key(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Campaign => Some(("campaign_id", "uuid")),
            Self::Number => Some(("number", "bigint")),
            Self::Everywhere | Self::OneNode => None,
        }
    }
}

const TABLES: &[(&str, Place)] = &[
    ("agenda", Place::Campaign),
    ("audit_events", Place::Campaign),
    ("audit_heads", Place::Campaign),
    ("authorizations", Place::Campaign),
    ("call_reports", Place::Campaign),
    ("campaign_counters", Place::Campaign),
    ("campaign_paces", Place::Campaign),
    ("campaign_revisions", Place::Campaign),
    ("campaigns", Place::Campaign),
    ("class_checks", Place::Campaign),
    ("class_counts", Place::Campaign),
    ("class_deltas", Place::Campaign),
    ("class_waits", Place::Campaign),
    ("clusters", Place::OneNode),
    ("contact_groups", Place::Campaign),
    ("contacts", Place::Campaign),
    ("due_contacts", Place::Campaign),
    ("erasure_key", Place::Everywhere),
    ("erasures", Place::Everywhere),
    ("frontiers", Place::Campaign),
    ("history_purges", Place::Campaign),
    ("import_problems", Place::Campaign),
    ("imports", Place::Campaign),
    ("interactions", Place::Campaign),
    ("leases", Place::Campaign),
    ("number_attempts", Place::Number),
    ("number_attempts_by_tenant", Place::Number),
    ("provider_troubles", Place::Everywhere),
    ("recounts", Place::Campaign),
    ("refinery_schema_history", Place::OneNode),
    ("relisted_numbers", Place::Everywhere),
    ("requests", Place::Campaign),
    ("run_attempts", Place::Campaign),
    ("runs", Place::Campaign),
    ("state_blocks", Place::Campaign),
    ("suppression_events", Place::Everywhere),
    ("suppressions", Place::Everywhere),
];

/// Triggers that Citus accepts only with `citus.enable_unsafe_triggers`. This one only rejects, so it touches no
/// other node.
const TRIGGERS: &[&str] = &["audit_events_only_grow"];

/// Columns whose values can be compared only with those of the same node.
const OF_ONE_NODE: &[(&str, &str)] =
    &[("audit_events", "snapshot"), ("authorizations", "transaction_id")];

/// Returns the parts of the schema that could not be distributed.
async fn problems(client: &Client) -> Vec<String> {
    let mut problems = Vec::new();
    let tables = names(client, "AND NOT c.relispartition").await;
    for (table, kind) in &tables {
        let Some(place) = place(table) else {
            problems.push(format!("{table} is not in the table of this test"));
            continue;
        };
        if !["r", "p"].contains(&kind.as_str()) {
            problems.push(format!("{table} is no table"));
        }
        problems.extend(columns(client, table, place).await);
        problems.extend(keys(client, table, place).await);
        problems.extend(others(client, table).await);
    }
    for (table, _) in TABLES {
        if !tables.iter().any(|(found, _)| found == table) {
            problems.push(format!("{table} is not there"));
        }
    }
    for (partition, _) in names(client, "AND c.relispartition AND c.relkind = 'p'").await {
        problems.push(format!("{partition} is a partition with partitions"));
    }
    problems.extend(references(client).await);
    problems
}

fn place(table: &str) -> Option<Place> {
    TABLES.iter().find(|(name, _)| *name == table).map(|(_, place)| *place)
}

/// Returns the names of tables, views and other relations that hold rows, each with its kind.
async fn names(client: &Client, which: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT c.relname::text, c.relkind::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace
             AND c.relkind IN ('r', 'p', 'f', 'm', 'v') {which} ORDER BY 1"
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Checks a table's columns. The key exists and is never null. Numbers that every node gives out leave room for the
/// node's own. Columns that only one node understands are listed in `OF_ONE_NODE`.
async fn columns(client: &Client, table: &str, place: Place) -> Vec<String> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, NULL), a.attnotnull,
            a.attidentity <> '' OR COALESCE(pg_get_expr(d.adbin, d.adrelid) ~ 'nextval', false)
        FROM pg_attribute a
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = client.query(sql, &[&table]).await.unwrap();
    let mut problems = Vec::new();
    let mut has_key = false;
    for row in rows {
        let (name, kind): (String, String) = (row.get(0), row.get(1));
        let (is_required, is_counted): (bool, bool) = (row.get(2), row.get(3));
        has_key |= is_required && place.key() == Some((&name, &kind));
        if place != Place::OneNode && is_counted && kind != "bigint" {
            problems.push(format!("{table}.{name} counts in {kind}; nodes need bigint"));
        }
        let is_of_one_node = ["xid", "xid8", "pg_snapshot", "pg_lsn"].contains(&kind.as_str());
        if is_of_one_node && !OF_ONE_NODE.contains(&(table, &name)) {
            problems.push(format!("{table}.{name} means nothing on another node"));
        }
    }
    if let Some((key, kind)) = place.key()
        && !has_key
    {
        problems.push(format!("{table} has no {key} {kind} NOT NULL"));
    }
    problems
}

/// Checks that every unique key contains the distribution column, so that one node can enforce it.
async fn keys(client: &Client, table: &str, place: Place) -> Vec<String> {
    let Some((key, _)) = place.key() else { return Vec::new() };
    let sql = "SELECT i.indexrelid::regclass::text FROM pg_index i
        WHERE i.indrelid = to_regclass($1) AND (i.indisunique OR i.indisexclusion) AND NOT EXISTS (
            SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
            WHERE k.n <= i.indnkeyatts AND a.attname = $2)";
    let rows = client.query(sql, &[&table, &key]).await.unwrap();
    let wrong = |index: String| format!("{index} of {table} is unique without {key}");
    rows.iter().map(|row| wrong(row.get(0))).collect()
}

/// Returns parts of a table that Citus does not copy to other nodes.
async fn others(client: &Client, table: &str) -> Vec<String> {
    let sql = "SELECT 'trigger ' || tgname FROM pg_trigger
            WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgname <> ALL ($2)
        UNION ALL SELECT 'rule ' || rulename FROM pg_rewrite WHERE ev_class = to_regclass($1)
        UNION ALL SELECT 'policy ' || polname FROM pg_policy WHERE polrelid = to_regclass($1)
        UNION ALL SELECT 'parent ' || inhparent::regclass FROM pg_inherits WHERE inhrelid = to_regclass($1)";
    let rows = client.query(sql, &[&table, &TRIGGERS]).await.unwrap();
    rows.iter().map(|row| format!("{table} has {}", row.get::<_, String>(0))).collect()
}

/// Checks that every reference leads to a table that is whole everywhere, or stays within its campaign.
async fn references(client: &Client) -> Vec<String> {
    let sql = "SELECT c.conname::text, f.relname::text, t.relname::text, ARRAY(
            SELECT a.attname || '=' || b.attname FROM unnest(c.conkey, c.confkey) AS k(ours, theirs)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.ours
            JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = k.theirs)
        FROM pg_constraint c JOIN pg_class f ON f.oid = c.conrelid JOIN pg_class t ON t.oid = c.confrelid
        WHERE c.contype = 'f' AND c.conparentid = 0";
    let mut problems = Vec::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (name, from, to): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let pairs: Vec<String> = row.get(3);
        let (from, to) = (place(&from), place(&to));
        let stays = from == to
            && from.is_some_and(|place| match place.key() {
                Some((key, _)) => pairs.contains(&format!("{key}={key}")),
                None => true,
            });
        let is_whole = to == Some(Place::Everywhere) && from != Some(Place::OneNode);
        if !stays && !is_whole {
            problems.push(format!("{name} leads to another node"));
        }
    }
    problems
}

#[tokio::test]
async fn every_table_could_be_distributed() {
    let db = TestDb::new().await;
    assert_eq!(problems(&db.client().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_could_not_be_distributed_is_found() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for (change, problem) in [
        (
            "CREATE TABLE orders (campaign_id uuid NOT NULL)",
            "orders is not in the table of this test",
        ),
        ("CREATE VIEW orders AS SELECT 1", "orders is not in the table of this test"),
        ("DROP TABLE imports", "imports is not there"),
        (
            "CREATE UNIQUE INDEX one ON contacts (phone)",
            "one of contacts is unique without campaign_id",
        ),
        (
            "CREATE UNIQUE INDEX one ON contacts (phone) INCLUDE (campaign_id)",
            "one of contacts is unique without campaign_id",
        ),
        (
            "ALTER TABLE authorizations ADD COLUMN id bigserial PRIMARY KEY",
            "authorizations_pkey of authorizations is unique without campaign_id",
        ),
        (
            "ALTER TABLE number_attempts DROP CONSTRAINT number_attempts_pkey, ADD COLUMN region text PRIMARY KEY",
            "number_attempts_pkey of number_attempts is unique without number",
        ),
        (
            "ALTER TABLE authorizations ALTER campaign_id DROP NOT NULL",
            "authorizations has no campaign_id uuid NOT NULL",
        ),
        (
            "ALTER TABLE authorizations ALTER campaign_id TYPE text",
            "authorizations has no campaign_id uuid NOT NULL",
        ),
        (
            "ALTER TABLE imports ADD COLUMN n serial",
            "imports.n counts in integer; nodes need bigint",
        ),
        ("ALTER TABLE imports ADD COLUMN seen xid8", "imports.seen means nothing on another node"),
        (
            "CREATE TRIGGER late BEFORE DELETE ON leases FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
            "leases has trigger late",
        ),
        ("CREATE RULE quiet AS ON DELETE TO leases DO INSTEAD NOTHING", "leases has rule quiet"),
        ("CREATE POLICY own ON leases USING (true)", "leases has policy own"),
        (
            "ALTER TABLE imports ADD COLUMN other uuid CONSTRAINT of_another REFERENCES campaigns",
            "of_another leads to another node",
        ),
        (
            "ALTER TABLE contacts ADD COLUMN called bigint CONSTRAINT called REFERENCES number_attempts",
            "called leads to another node",
        ),
    ] {
        client.batch_execute(&format!("BEGIN; {change}")).await.unwrap();
        assert_eq!(problems(&client).await, [problem], "{change}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    for harmless in [
        "ALTER TABLE imports ADD CONSTRAINT own FOREIGN KEY (campaign_id) REFERENCES campaigns",
        "ALTER TABLE imports ADD COLUMN n bigserial",
        "CREATE INDEX by_phone ON contacts (phone)",
    ] {
        client.batch_execute(&format!("BEGIN; {harmless}")).await.unwrap();
        assert_eq!(problems(&client).await, Vec::<String>::new(), "{harmless}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}
