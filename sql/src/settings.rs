//! What a client may SET and SHOW. Only `statement_timeout` and `application_name` change anything here; the rest is
//! kept so that clients read back what they wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{SqlError, sqlstate};

/// The Postgres release whose behaviour clients may expect.
pub const SERVER_VERSION: &str = "16.6";
const SERVER_VERSION_NUM: &str = "160006";

/// What `version()` answers: clients parse the number behind the first word.
pub fn version_text() -> String {
    format!(
        "PostgreSQL {SERVER_VERSION} (Pilaster {}) on {}-{}, 64-bit",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

/// Names in lower case with their value in a new session. Names and defaults: PostgreSQL 16 `guc_tables.c`.
const DEFAULTS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("constraint_exclusion", "partition"),
    ("datestyle", "ISO, MDY"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", ""),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("enable_seqscan", "on"),
    ("escape_string_warning", "on"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("jit", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("password_encryption", "scram-sha-256"),
    ("plan_cache_mode", "auto"),
    ("quote_all_identifiers", "off"),
    ("row_security", "on"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", SERVER_VERSION_NUM),
    ("session_authorization", "pilaster"),
    ("ssl", "off"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronize_seqscans", "on"),
    ("synchronous_commit", "on"),
    ("tcp_keepalives_idle", "0"),
    ("timezone", "UTC"),
    ("transaction_deferrable", "off"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "on"),
    ("transaction_timeout", "0"),
    ("vacuum_freeze_min_age", "50000000"),
    ("wal_level", "replica"),
    ("work_mem", "4MB"),
    ("xmloption", "content"),
];

/// Fixed by what the server is.
const READ_ONLY: &[&str] = &[
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "server_encoding",
    "server_version",
    "server_version_num",
    "ssl",
    "wal_level",
];

const MAX_VALUE_BYTES: usize = 4096;
const MAX_OWN_SETTINGS: usize = 100;

/// One session's settings and identity.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Differences from the defaults; keys in lower case.
    changed: BTreeMap<String, String>,
    pub user: String,
    /// As the client named it when connecting.
    pub database: String,
    /// Number of the connection, what `pg_backend_pid()` answers.
    pub backend_pid: i32,
}

/// What to tell the client about an accepted SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    Quietly,
    /// Accepted, but it has no effect; the text says so.
    WithoutEffect(String),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            changed: BTreeMap::new(),
            user: "pilaster".to_owned(),
            database: crate::catalog::DATABASE.to_owned(),
            backend_pid: 0,
        }
    }
}

impl Settings {
    /// A new session's, on connection `pid`.
    pub fn of_backend(pid: i32) -> Settings {
        Settings { backend_pid: pid, ..Settings::default() }
    }

    /// The value of `name`, in any case.
    ///
    /// # Errors
    /// `42704` for a name nobody knows.
    pub fn get(&self, name: &str) -> Result<String, SqlError> {
        let key = name.to_lowercase();
        if let Some(value) = self.changed.get(&key) {
            return Ok(value.clone());
        }
        if key == "session_authorization" || key == "role" {
            return Ok(self.user.clone());
        }
        DEFAULTS
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| (*value).to_owned())
            .ok_or_else(|| unknown(name))
    }

    /// All settings with their values, ascending.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend(self.changed.clone());
        all
    }

    /// # Errors
    /// `42704` unknown name, `22023` a value that cannot be, `55P02` a setting that is fixed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Applied, SqlError> {
        let key = name.to_lowercase();
        if value.len() > MAX_VALUE_BYTES || key.len() > 128 {
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, format!("value of \"{key}\" is too long")));
        }
        if key.starts_with("datafusion.") {
            return Err(SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set parameter \"{key}\""),
            ));
        }
        if READ_ONLY.contains(&key.as_str()) {
            return Err(SqlError::new(
                sqlstate::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{key}\" cannot be changed"),
            ));
        }
        let known = DEFAULTS.iter().any(|(known, _)| *known == key) || key == "role";
        // As in Postgres, a name with a dot is the client's own.
        if !known && !key.contains('.') {
            return Err(unknown(name));
        }
        if !known && self.changed.len() >= MAX_OWN_SETTINGS {
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, "too many settings"));
        }
        let invalid = || {
            SqlError::new(sqlstate::INVALID_PARAMETER, format!("invalid value for parameter \"{key}\": \"{value}\""))
        };
        let mut applied = Applied::Quietly;
        match key.as_str() {
            "statement_timeout" => {
                parse_duration(value).ok_or_else(invalid)?;
            }
            "client_encoding" => {
                let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                if !matches!(plain.to_ascii_lowercase().as_str(), "utf8" | "unicode" | "sqlascii") {
                    return Err(invalid());
                }
                self.changed.insert(key, "UTF8".to_owned());
                return Ok(Applied::Quietly);
            }
            "standard_conforming_strings" if !is_on(value) => return Err(invalid()),
            "default_transaction_read_only" | "transaction_read_only" if !is_on(value) => {
                applied = Applied::WithoutEffect("this server only reads: transactions stay read-only".to_owned());
            }
            "timezone" if !is_utc(value) => {
                applied = Applied::WithoutEffect(format!(
                    "time zone \"{value}\" is ignored: times are read and shown in UTC"
                ));
            }
            _ => {}
        }
        if applied == Applied::Quietly {
            self.changed.insert(key, value.to_owned());
        }
        Ok(applied)
    }

    /// Back to the default.
    ///
    /// # Errors
    /// `42704` for a name nobody knows.
    pub fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        let key = name.to_lowercase();
        self.get(&key)?;
        self.changed.remove(&key);
        Ok(())
    }

    pub fn reset_all(&mut self) {
        self.changed.clear();
    }

    /// The session's own limit on a statement's time; `None` where it sets none.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.changed.get("statement_timeout").and_then(|value| parse_duration(value)).filter(|limit| !limit.is_zero())
    }
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(sqlstate::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t")
}

fn is_utc(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "utc"
            | "gmt"
            | "etc/utc"
            | "etc/gmt"
            | "zulu"
            | "z"
            | "0"
            | "+00"
            | "00:00"
            | "+00:00"
            | "default"
            | "local"
            | "gmt0"
            | "uct"
            | "universal"
    )
}

/// `1500`, `1500ms`, `2s`, `1min`, `1h`, `1d`: a bare number is milliseconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let unit_ms = match text[split..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_and_dangerous_ones_refused() {
        let mut settings = Settings::default();
        assert_eq!(settings.get("Server_Version").unwrap(), SERVER_VERSION);
        assert_eq!(settings.set("statement_timeout", "2s"), Ok(Applied::Quietly));
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(2)));
        settings.reset("statement_timeout").unwrap();
        assert_eq!(settings.statement_timeout(), None);
        assert!(matches!(settings.set("TimeZone", "Europe/Berlin"), Ok(Applied::WithoutEffect(_))));
        assert_eq!(settings.get("timezone").unwrap(), "UTC");
        let refused = |settings: &mut Settings, name, value| settings.set(name, value).unwrap_err().sqlstate;
        assert_eq!(refused(&mut settings, "datafusion.execution.batch_size", "1"), "42501");
        assert_eq!(refused(&mut settings, "server_version", "1"), "55P02");
        assert_eq!(refused(&mut settings, "nonsense", "1"), "42704");
        assert_eq!(refused(&mut settings, "statement_timeout", "soon"), "22023");
        assert_eq!(refused(&mut settings, "client_encoding", "LATIN1"), "22023");
        assert_eq!(settings.set("my.own", "x"), Ok(Applied::Quietly));
        assert_eq!(settings.get("my.own").unwrap(), "x");
    }
}
