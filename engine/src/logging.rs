//! Log lines in the form of Prometheus's: `time=… level=INFO source=main.rs:12 msg="…" key=value`, or the same as JSON.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Logfmt,
    Json,
}

/// Starts logging to standard error. Only the first call of a process has an effect.
pub fn start(level: &str, format: Format) {
    let level = match level {
        "debug" => "debug",
        "warn" => "warn",
        "error" => "error",
        _ => "info",
    };
    // Libraries below us say more at these levels than a log of a server should hold.
    let filter = tracing_subscriber::EnvFilter::new(format!(
        "{level},hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn,datafusion=warn,pgwire=warn,sqlparser=warn,object_store=warn"
    ));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Lines { format })
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lines {
    format: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or("unknown");
        let mut pairs = vec![
            ("time".to_owned(), rfc3339_millis(SystemTime::now())),
            ("level".to_owned(), level.to_owned()),
            ("source".to_owned(), format!("{file}:{}", metadata.line().unwrap_or(0))),
            ("msg".to_owned(), fields.message),
        ];
        pairs.append(&mut fields.pairs);
        writeln!(writer, "{}", line(self.format, &pairs))
    }
}

fn line(format: Format, pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (index, (name, value)) in pairs.iter().enumerate() {
        match format {
            Format::Logfmt => {
                let space = if index == 0 { "" } else { " " };
                let quoted = value.is_empty()
                    || value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == '=');
                let _ = if quoted {
                    write!(text, "{space}{name}={value:?}")
                } else {
                    write!(text, "{space}{name}={value}")
                };
            }
            Format::Json => {
                let start = if index == 0 { '{' } else { ',' };
                let mut encoded = Vec::new();
                crate::api::json::push_string(&mut encoded, name);
                encoded.push(b':');
                crate::api::json::push_string(&mut encoded, value);
                let _ = write!(text, "{start}{}", String::from_utf8_lossy(&encoded));
            }
        }
    }
    if format == Format::Json {
        text.push('}');
    }
    text
}

/// A time as `2026-11-21T08:01:28.821Z`.
pub fn rfc3339_millis(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(String, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // Events that come from the `log` crate describe themselves in these.
            name if name.starts_with("log.") => {}
            name => self.pairs.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let pairs = [("msg".to_owned(), "a \"b\"".to_owned()), ("path".to_owned(), "/x".to_owned())];
        assert_eq!(line(Format::Logfmt, &pairs), "msg=\"a \\\"b\\\"\" path=/x");
        assert_eq!(line(Format::Json, &pairs), r#"{"msg":"a \"b\"","path":"/x"}"#);
    }
}
