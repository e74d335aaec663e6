//! Settings of every session. No default of the server, the database or the role may break a
//! promise. The settings are set by a statement after connecting, so that PgBouncer accepts them.

use std::time::Duration;
use tokio_postgres::Client;

/// Longest wait for a connection with everything that it needs.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longest time of a transaction, as a multiple of the longest time of a statement.
const TRANSACTION_STATEMENTS: u128 = 2;
/// Settings that do not depend on the configuration. Settings that a server does not know yet are
/// left out.
///
/// Each statement has one good plan for all arguments, and is planned once, because planning often
/// takes longer than running. So pages begin at COALESCE of the last row and the end of all, a
/// bound for the index. A plan made for a small table is kept when the table has grown, so it must
/// not read the table from end to end. No statement is worth compiling.
const SETTINGS: [(&str, &str); 19] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // A statement that asks for rows which a policy hides fails, instead of finding fewer.
    ("row_security", "off"),
    ("lock_timeout", "0"),
    // A replica that hangs in a transaction holds locks, also without a gate. Whoever waits for one
    // waits no longer than this.
    ("idle_in_transaction_session_timeout", "4000"),
    ("idle_session_timeout", "0"),
    ("client_connection_check_interval", "1000"),
    // No limit above holds in the middle of a request whose rest never comes. The session of a
    // network that died ends in about 20 seconds.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "2"),
    ("tcp_user_timeout", "20000"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
];

/// Statement that prepares sessions.
#[derive(Clone, Debug)]
pub struct Session {
    sql: String,
}

impl Session {
    /// Creates settings for sessions whose statements may run for `statement_timeout`. Names are
    /// looked up in `search_path`; `None` means the database's own.
    pub fn new(statement_timeout: Duration, search_path: Option<&str>) -> Self {
        let timeout = statement_timeout.as_millis();
        // The limit of a transaction holds in the middle of a request too, for instance behind a proxy
        // that stays. PostgreSQL has it since version 17.
        let transaction_timeout = (timeout * TRANSACTION_STATEMENTS).to_string();
        let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
        settings.push(("transaction_timeout", &transaction_timeout));
        settings.extend(search_path.map(|path| ("search_path", path)));
        let values: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("({}, {})", literal(name), literal(value)))
            .collect();
        // Names are compared without case, because the server spells one of them "DateStyle".
        // `statement_timeout` comes first, because the default may be too short even for this
        // statement.
        let sql = format!(
            "SET statement_timeout = {timeout}; SELECT set_config(name, value, false) FROM (
                SELECT s.name, w.value FROM (VALUES {}) w(name, value)
                JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = w.name
                UNION ALL SELECT 'synchronous_commit', {DURABLE}) s",
            values.join(", ")
        );
        Self { sql }
    }

    /// Applies the settings to a new connection.
    pub async fn prepare(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&self.sql).await
    }
}

/// Value of `synchronous_commit` that waits for the disk: the server's default, but never less than
/// `on`.
pub const DURABLE: &str = "CASE pg_catalog.current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END";

/// Quotes a text as an SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
