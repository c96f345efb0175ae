//! Messages on standard error: one line each, for people or as JSON.

use super::escape::escaped;
use crate::mesh::config::Environment;
use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record};
use nix::sys::stat::fstat;
use serde_json::json;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// How messages are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `prepare-proxy: message`, in colour on a terminal. Lines after the first are indented and
    /// control characters escaped, so that a value cannot imitate a message.
    #[default]
    Text,
    /// One object a line: `level`, `time` (RFC 3339, UTC), `msg`, the fields that Istio's programs
    /// write; of an error also `kind`, a stable name of what failed.
    Json,
}

impl LogFormat {
    /// Every format with the name that `--log-format` takes.
    pub const NAMES: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

    /// Starts logging; $RUST_LOG overrides `level`. A value that cannot be parsed is ignored, with a
    /// warning; so is what follows a `/`, which would filter messages by their text.
    pub fn start(self, level: LevelFilter, environment: &Environment) {
        let write = match self {
            LogFormat::Text if is_journal(environment) => journal,
            LogFormat::Text => text,
            LogFormat::Json => json,
        };
        let mut builder = env_logger::Builder::new();
        builder.filter_level(level);
        let filters = environment.get(OsStr::new("RUST_LOG")).cloned();
        let filters = filters.unwrap_or_default();
        let filters = filters.to_string_lossy();
        let filters = filters.split('/').next().unwrap_or_default();
        // env_logger itself reports by a macro that panics if standard error cannot be written.
        let parsed = env_filter::Builder::new().try_parse(filters).map(drop);
        if parsed.is_ok() {
            builder.parse_filters(filters);
        }
        // A second start can only happen in tests; the first one counts.
        let _ = builder.format(write).try_init();
        if let Err(problem) = parsed {
            log::warn!("RUST_LOG is ignored: {problem}");
        }
    }
}

/// Whether the journal reads standard error (systemd.exec(5), $JOURNAL_STREAM).
fn is_journal(environment: &Environment) -> bool {
    let Some(stream) = environment.get(OsStr::new("JOURNAL_STREAM")) else {
        return false;
    };
    let own = fstat(io::stderr()).map(|own| format!("{}:{}", own.st_dev, own.st_ino));
    own.is_ok_and(|own| *stream == *own)
}

fn text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let style = out.default_level_style(record.level());
    let level = match record.level() {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    };
    let message = plain(&record.args().to_string());
    writeln!(out, "prepare-proxy: {style}{level}{style:#}{message}")
}

/// With the priority prefix of sd-daemon(3) on each line, and without the program's name, which the
/// journal adds.
fn journal(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    for line in plain(&record.args().to_string()).lines() {
        writeln!(out, "<{priority}>{line}")?;
    }
    Ok(())
}

/// Indents the lines after the first, so that they cannot be taken for messages.
pub(in crate::frontend) fn plain(message: &str) -> String {
    let lines = message.trim_end().split('\n').map(escaped);
    let lines: Vec<_> = lines.collect();
    lines.join("\n  ").replace("\n  \n", "\n\n")
}

fn json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let level = match record.level() {
        Level::Trace => Level::Debug,
        level => level,
    };
    let mut line = json!({
        "level": level.as_str().to_ascii_lowercase(),
        "time": rfc3339(SystemTime::now()),
        "msg": record.args().to_string(),
    });
    if let Some(kind) = record.key_values().get(log::kv::Key::from("kind")) {
        line["kind"] = kind.to_string().into();
    }
    writeln!(out, "{line}")
}

/// `2026-11-21T13:05:09.123456Z`; the calendar is Howard Hinnant's `civil_from_days`.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months counted from March.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let year = era * 400 + year;
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_value_cannot_pass_for_a_message() {
        let message = "\"80\nprepare-proxy: installed\r\x1b[2K\" is not a port\n";
        let printed = "\"80\n  prepare-proxy: installed\\r\\u{1b}[2K\" is not a port";
        assert_eq!(plain(message), printed);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
        }
    }
}
