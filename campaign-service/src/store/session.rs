//! The settings of every session. Defaults of the server, the database and the role are for others: a default
//! must not break a promise. They are set by a statement after connecting, so that PgBouncer takes them.

use std::time::Duration;
use tokio_postgres::Client;

/// Settings that do not depend on the configuration. Those that a server does not know yet are left out.
///
/// Each statement has one good plan, whatever its arguments (so pages begin at COALESCE of the last row and the
/// end of all, a bound for the index): planned once, as planning many takes longer than running them. A plan made
/// while a table was small is kept when it has grown: it must not read the table from end to end. Nothing here is
/// worth compiling.
const SETTINGS: [(&str, &str); 16] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // A statement that asks for rows which a policy hides fails, instead of finding fewer.
    ("row_security", "off"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "60000"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("client_connection_check_interval", "1000"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
];

/// What sessions are prepared with.
#[derive(Clone, Debug)]
pub struct Session {
    sql: String,
}

impl Session {
    /// For sessions whose statements may run this long, with names looked up in this path (`None`: as the
    /// database has it).
    pub fn new(statement_timeout: Duration, search_path: Option<&str>) -> Self {
        let timeout = statement_timeout.as_millis();
        let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
        settings.extend(search_path.map(|path| ("search_path", path)));
        let values: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("({}, {})", literal(name), literal(value)))
            .collect();
        // Names are compared without case: "DateStyle" is how the server spells one of them.
        // First, as the default may be too short even for this.
        let sql = format!(
            "SET statement_timeout = {timeout}; SELECT set_config(name, value, false) FROM (
                SELECT s.name, w.value FROM (VALUES {}) w(name, value)
                JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = w.name
                UNION ALL SELECT 'synchronous_commit', {DURABLE}) s",
            values.join(", ")
        );
        Self { sql }
    }

    /// Sets what has to be set on a new connection.
    pub async fn prepare(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&self.sql).await
    }
}

/// Value of `synchronous_commit` that waits for the disk: as much as the server waits for by default, but never less.
pub const DURABLE: &str = "CASE pg_catalog.current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END";

/// A text as SQL writes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
