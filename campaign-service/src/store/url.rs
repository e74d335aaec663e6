//! `DATABASE_URL` in PostgreSQL's own format: libpq's connection URIs and strings. Each parameter
//! works, or is rejected by its name.

use super::tls::Tls;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

/// Longest wait for one of several hosts, so that the next host has its turn.
const HOST_LIMIT: Duration = Duration::from_secs(2);
/// Time within which a dead network is noticed, approximately, whether or not something was sent.
const TCP_LIMIT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;

/// Parameters that are passed on as they are.
const PASSED_ON: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
    "sslmode",
];

/// Address of the database, and how to connect to it.
#[derive(Clone, Debug)]
pub struct DatabaseUrl {
    pub config: Config,
    /// TLS settings; `None` for an unencrypted connection.
    pub tls: Option<Tls>,
    /// Search path; `None` for the database's own.
    pub search_path: Option<String>,
}

/// Parameter and its value.
type Param = (String, String);

impl DatabaseUrl {
    /// Reads a URL, or a string of `key=value` pairs.
    ///
    /// # Errors
    /// If the text cannot be used as it is. The error names the parameter and says what to do, but
    /// shows no value that may be secret.
    pub fn read(
        text: &str,
        ca_file: Option<&Path>,
        connect_limit: Duration,
    ) -> Result<Self, String> {
        let (base, params) = split(text)?;
        let mut wish = Wish { ca_file: ca_file.map(Path::to_path_buf), ..Wish::default() };
        let mut passed = Vec::new();
        for (name, value) in params {
            if let Some(param) = wish.take(name, value)? {
                passed.push(param);
            }
        }
        let tls = wish.tls()?;
        passed
            .push(("sslmode".to_owned(), tls.as_ref().map_or("disable", |_| "require").to_owned()));
        let mut config: Config = join(base, &passed).parse().map_err(|error| {
            format!("the database URL cannot be read: {error}{}", reason(&error))
        })?;
        let gives = |name: &str| passed.iter().any(|(given, _)| given == name);
        if !gives("application_name") {
            config.application_name(wish.application_name.as_deref().unwrap_or("campaign-service"));
        }
        let has_several_hosts = config.get_hosts().len() > 1 || config.get_hostaddrs().len() > 1;
        if !gives("connect_timeout") {
            let host_limit = if has_several_hosts { HOST_LIMIT } else { connect_limit };
            config.connect_timeout(host_limit.min(connect_limit));
        }
        if !gives("keepalives_idle") {
            config.keepalives_idle(KEEPALIVE_IDLE);
        }
        if !gives("keepalives_interval") {
            config.keepalives_interval(KEEPALIVE_INTERVAL);
        }
        if !gives("keepalives_retries") {
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        config.tcp_user_timeout(wish.tcp_user_timeout.unwrap_or(TCP_LIMIT));
        // Usually one of several hosts is a standby, and the service writes.
        let wants_writable = has_several_hosts && !wish.takes_any;
        if wish.wants_writable || wants_writable {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Self { config, tls, search_path: wish.search_path })
    }
}

/// Returns why a value cannot be read. The error's own text does not say.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map(|source| format!(" ({source})")).unwrap_or_default()
}

/// Settings from parameters that are not passed on.
#[derive(Default)]
struct Wish {
    ca_file: Option<PathBuf>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    sslcert: Option<PathBuf>,
    sslkey: Option<PathBuf>,
    search_path: Option<String>,
    application_name: Option<String>,
    tcp_user_timeout: Option<Duration>,
    wants_writable: bool,
    takes_any: bool,
}

impl Wish {
    /// Takes a parameter, or returns it to be passed on.
    fn take(&mut self, name: String, value: String) -> Result<Option<Param>, String> {
        let refuse = |what: &str| Err(format!("the database URL's {name} {what}"));
        match name.as_str() {
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value),
            "sslcert" => self.sslcert = Some(value.into()),
            "sslkey" => self.sslkey = Some(value.into()),
            "search_path" if !value.trim().is_empty() => self.search_path = Some(value),
            "search_path" => return refuse("must name a schema"),
            "fallback_application_name" => self.application_name = Some(value),
            "client_encoding" => {
                let plain = value.replace('-', "").to_ascii_lowercase();
                if !["utf8", "unicode", "auto"].contains(&plain.as_str()) {
                    return refuse("must be UTF8: the service speaks no other encoding");
                }
            }
            "target_session_attrs" => match value.as_str() {
                "any" => self.takes_any = true,
                // A primary that accepts no writes is of no use either.
                "read-write" | "primary" => self.wants_writable = true,
                _ => return refuse("must be read-write, primary or any: the service writes"),
            },
            "tcp_user_timeout" => match value.parse() {
                // In libpq, 0 means the system's default. Here, 0 means `TCP_LIMIT`.
                Ok(0) => {}
                Ok(millis) => self.tcp_user_timeout = Some(Duration::from_millis(millis)),
                Err(_) => return refuse("must be a number of milliseconds"),
            },
            "gssencmode" if value != "require" => {}
            "gssencmode" => {
                return refuse("must be disable or prefer: use TLS (sslmode=verify-full)");
            }
            "ssl" => return refuse("is not a parameter of PostgreSQL; say sslmode=verify-full"),
            passed if PASSED_ON.contains(&passed) => return Ok(Some((name, value))),
            _ => {
                return refuse(
                    "is not supported; leave it out, or set it for the role: ALTER ROLE … SET …",
                );
            }
        }
        Ok(None)
    }

    /// Returns the TLS settings, or `None` for an unencrypted connection.
    fn tls(&self) -> Result<Option<Tls>, String> {
        let is_system = self.sslrootcert.as_deref() == Some("system");
        let mode = match self.sslmode.as_deref() {
            // `sslrootcert=system` implies `sslmode=verify-full`, like in libpq.
            None if is_system => "verify-full",
            None => "prefer",
            Some(mode) => mode,
        };
        let verifies_name = match mode {
            "disable" | "allow" | "prefer" => {
                let given = [
                    (self.ca_file.is_some(), "--database-ca-file"),
                    (self.sslrootcert.is_some(), "sslrootcert"),
                    (self.sslcert.is_some(), "sslcert"),
                    (self.sslkey.is_some(), "sslkey"),
                ];
                return match given.into_iter().find(|(is_given, _)| *is_given) {
                    None => Ok(None),
                    Some((_, what)) => Err(format!(
                        "{what} does nothing unless the database URL says sslmode=require, verify-ca or verify-full"
                    )),
                };
            }
            "require" | "verify-full" => true,
            "verify-ca" if is_system => {
                return Err("the database URL's sslrootcert=system needs sslmode=verify-full: anybody can have a \
                            certificate of the authorities that the system trusts"
                    .to_owned());
            }
            "verify-ca" => false,
            _ => {
                return Err("the database URL's sslmode must be disable, allow, prefer, require, verify-ca or \
                            verify-full"
                    .to_owned());
            }
        };
        let roots = match (&self.ca_file, &self.sslrootcert) {
            (Some(_), Some(_)) => {
                return Err(
                    "give either --database-ca-file or the database URL's sslrootcert".to_owned()
                );
            }
            (Some(file), None) => Some((file.clone(), "--database-ca-file")),
            (None, Some(_)) if is_system => None,
            (None, Some(file)) => Some((file.into(), "the database URL's sslrootcert")),
            (None, None) => None,
        };
        let identity = match (&self.sslcert, &self.sslkey) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err("the database URL's sslcert and sslkey need each other".to_owned()),
        };
        Tls::new(roots, identity, verifies_name).map(Some)
    }
}

/// Splits a text into the part before the parameters, and the parameters. A string of pairs has
/// only parameters.
fn split(text: &str) -> Result<(&str, Vec<Param>), String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Ok(("", pairs(text)?));
    }
    let Some((base, query)) = text.split_once('?') else { return Ok((text, Vec::new())) };
    let name = |text: &str| if is_name(text) { Ok(text.to_owned()) } else { Err(wrong_form()) };
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(String::from).map_err(|_| "the database URL is not UTF-8".to_owned())
    };
    let mut params = Vec::new();
    for param in query.split('&').filter(|param| !param.is_empty()) {
        let (given, value) = param.split_once('=').unwrap_or((param, ""));
        params.push((name(given)?, decode(value)?));
    }
    Ok((base, params))
}

/// Reads `key=value key='value with spaces'`; a backslash escapes what follows it.
fn pairs(text: &str) -> Result<Vec<Param>, String> {
    let mut params = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(params);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=') {
            name.push(c);
        }
        chars.next().ok_or_else(wrong_form)?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let is_quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next().ok_or_else(wrong_form)?),
                Some('\'') if is_quoted => break,
                Some(c) if !is_quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if is_quoted => return Err(wrong_form()),
                None => break,
            }
        }
        let name = name.trim_end();
        if !is_name(name) {
            return Err(wrong_form());
        }
        params.push((name.to_owned(), value));
    }
}

/// Returns whether a text can be a parameter's name. Any other text may be part of a password, and
/// is not shown.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn wrong_form() -> String {
    "the database URL must be as in postgres://user:password@host:5432/database?parameter=value; write special \
     characters in a password as in %3F"
        .to_owned()
}

/// Joins a base and parameters again: the inverse of [`split`].
fn join(base: &str, params: &[Param]) -> String {
    if base.is_empty() {
        let quote = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let pairs = params.iter().map(|(name, value)| format!("{name}='{}'", quote(value)));
        return pairs.collect::<Vec<_>>().join(" ");
    }
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    // Names are ASCII: unknown names were rejected.
    let params = params.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    format!("{base}?{}", params.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
mod tests {
    use super::*;
    use tokio_postgres::config::{Host, SslMode};

    const LIMIT: Duration = Duration::from_secs(5);

    fn read(text: &str) -> Result<DatabaseUrl, String> {
        DatabaseUrl::read(text, None, LIMIT)
    }

    #[test]
    fn options_and_search_path_are_kept_and_not_mixed_up_with_ours() {
        let url = read("postgres://u:p@h/d?options=-c%20geqo%3Doff&search_path=dialer%2C%20public")
            .unwrap();
        assert_eq!(url.config.get_options(), Some("-c geqo=off"));
        assert_eq!(url.search_path.as_deref(), Some("dialer, public"));
        assert_eq!(url.config.get_application_name(), Some("campaign-service"));
        let pairs = read(r"host=h user=u password='hush''hush' dbname=d").unwrap_err();
        assert!(!pairs.contains("hush"), "{pairs}");
        let pairs =
            read(r"host = h user=u password='it\'s' options='-c geqo=off' search_path=s").unwrap();
        assert_eq!(pairs.config.get_password(), Some(b"it's".as_slice()));
        assert_eq!(pairs.config.get_options(), Some("-c geqo=off"));
        assert_eq!(pairs.search_path.as_deref(), Some("s"));
    }

    #[test]
    fn every_sslmode_works_or_is_refused_by_name() {
        let folder = std::env::temp_dir();
        for clear in ["disable", "allow", "prefer"] {
            let url = read(&format!("postgres://h/d?sslmode={clear}")).unwrap();
            assert!(url.tls.is_none() && url.config.get_ssl_mode() == SslMode::Disable, "{clear}");
            let refused =
                read(&format!("postgres://h/d?sslmode={clear}&sslrootcert=x")).unwrap_err();
            assert!(refused.contains("sslrootcert"), "{refused}");
        }
        assert!(read("postgres://h/d").unwrap().tls.is_none());
        let file = folder.join("no-such-file.pem");
        for verified in ["require", "verify-ca", "verify-full"] {
            let text = format!("postgres://h/d?sslmode={verified}&sslrootcert={}", file.display());
            let refused = read(&text).unwrap_err();
            assert!(
                refused.contains("sslrootcert") && refused.contains("no-such-file"),
                "{refused}"
            );
        }
        for (text, word) in [
            ("postgres://h/d?sslmode=on", "verify-full"),
            ("postgres://h/d?sslmode=verify-ca&sslrootcert=system", "verify-full"),
            ("postgres://h/d?sslmode=require&sslcert=x", "sslkey"),
        ] {
            assert!(read(text).unwrap_err().contains(word), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        for (param, name) in [
            ("passfile=x", "passfile"),
            ("service=x", "service"),
            ("ssl=true", "sslmode=verify-full"),
            ("pgbouncer=true", "pgbouncer"),
            ("client_encoding=LATIN1", "client_encoding"),
            ("target_session_attrs=standby", "target_session_attrs"),
            ("target_session_attrs=read-only", "target_session_attrs"),
            ("tcp_user_timeout=soon", "tcp_user_timeout"),
            ("gssencmode=require", "gssencmode"),
            ("channel_binding=maybe", "channel_binding"),
            ("keepalives_idle=x", "keepalives_idle"),
        ] {
            let refused = read(&format!("postgres://u:secret@h/d?{param}")).unwrap_err();
            assert!(refused.contains(name) && !refused.contains("secret"), "{refused}");
        }
        for fine in ["client_encoding=utf-8", "gssencmode=prefer", "channel_binding=prefer"] {
            read(&format!("postgres://h/d?{fine}")).unwrap();
        }
    }

    #[test]
    fn of_several_hosts_one_that_writes_is_taken_unless_the_url_says_otherwise() {
        let attrs = |text| read(text).unwrap().config.get_target_session_attrs();
        assert_eq!(attrs("postgres://h/d"), TargetSessionAttrs::Any);
        assert_eq!(attrs("postgres://h,i/d"), TargetSessionAttrs::ReadWrite);
        assert_eq!(attrs("postgres://h,i/d?target_session_attrs=any"), TargetSessionAttrs::Any);
        assert_eq!(
            attrs("postgres://h/d?target_session_attrs=primary"),
            TargetSessionAttrs::ReadWrite
        );
        let url = read("postgres://h:1,i:2/d?connect_timeout=3&tcp_user_timeout=4000").unwrap();
        assert_eq!(url.config.get_hosts(), [Host::Tcp("h".into()), Host::Tcp("i".into())]);
        assert_eq!(url.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(url.config.get_tcp_user_timeout(), Some(&Duration::from_secs(4)));
    }
}
