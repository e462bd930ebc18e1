//! Logs: one line on stderr for each event.

use std::fmt::{self, Write};
use std::io::{self};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text::printable;

#[derive(Args)]
pub(super) struct LogArguments {
    /// How to log
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "OBSERVER_LOG_FORMAT",
        value_enum,
        default_value = "logfmt",
        global = true
    )]
    format: Format,
    /// What to log: error, warn, info, debug, trace, or a filter such as
    /// `info,observer::container=debug` [default: info for serve, else error]
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        env = "OBSERVER_LOG_LEVEL",
        value_parser = filter,
        global = true
    )]
    level: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// `time=… level=… msg=…` and more fields
    Logfmt,
    /// One object a line
    Json,
}

/// A filter that can be read.
fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl LogArguments {
    /// Begins to log; `level` is for those who didn't choose one.
    pub(super) fn start(&self, level: &str) {
        let filter = EnvFilter::new(self.level.as_deref().unwrap_or(level));
        // Also takes what libraries and the kernel side say through the `log` crate.
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match self.format {
            Format::Logfmt => lines.event_format(Logfmt).init(),
            Format::Json => lines.json().flatten_event(true).init(),
        }
    }
}

/// `key=value` pairs, as Prometheus and its exporters log.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(line, "time={} level={level}", humantime::format_rfc3339_millis(SystemTime::now()))?;
        let mut fields = Fields { message: String::new(), others: String::new() };
        event.record(&mut fields);
        pair(&mut line, "msg", &fields.message)?;
        writeln!(line, "{}", fields.others)
    }
}

struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            // Where a library's message came from in its source.
            name if name.starts_with("log.") => {}
            // Writing to a string can't fail.
            name => _ = pair(&mut self.others, name, value),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// A pair with a blank before it. What would end the value, the line or a terminal's patience is quoted.
fn pair(line: &mut impl Write, key: &str, value: &str) -> fmt::Result {
    // A line break is worth keeping apart from other things that can't be shown.
    let value = value.replace('\n', "\\n");
    let value = printable(&value);
    let plain = !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !"=\"\\".contains(c));
    if plain {
        return write!(line, " {key}={value}");
    }
    write!(line, " {key}=\"")?;
    for c in value.chars() {
        if c == '"' {
            line.write_char('\\')?;
        }
        line.write_char(c)?;
    }
    line.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// One line per event, with every value quoted that needs it, and nothing in it that a terminal would act
    /// on.
    #[test]
    fn logfmt() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().event_format(Logfmt).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let process = "a \"b\"\n\u{1b}[31m=";
            tracing::warn!(pid = 7, process, plain = "x", empty = "", "can't be read");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time.strip_prefix("time=").unwrap()).is_ok(), "{time}");
        assert_eq!(
            rest,
            "level=warn msg=\"can't be read\" pid=7 process=\"a \\\"b\\\"\\n\u{fffd}[31m=\" plain=x empty=\"\"\n"
        );
    }
}
