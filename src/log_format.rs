//! Messages on standard error: one line each, for people or as JSON.

use clap::ValueEnum;
use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record};
use serde_json::json;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// How messages are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `prepare-proxy: message`, in colour on a terminal.
    #[default]
    Text,
    /// One object a line: `time` (seconds since 1970), `level`, `message`.
    Json,
}

impl LogFormat {
    /// Starts logging; $RUST_LOG overrules `level`.
    pub fn start(self, level: LevelFilter) {
        let write = match self {
            LogFormat::Text => text,
            LogFormat::Json => json,
        };
        let mut builder = env_logger::Builder::new();
        builder.filter_level(level).parse_default_env();
        // A second start can only happen in tests; the first one stands.
        let _ = builder.format(write).try_init();
    }
}

fn text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let style = out.default_level_style(record.level());
    let level = match record.level() {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug: ",
    };
    writeln!(
        out,
        "prepare-proxy: {style}{level}{style:#}{}",
        record.args()
    )
}

fn json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let line = json!({
        "time": now.unwrap_or_default().as_secs_f64(),
        "level": record.level().as_str().to_ascii_lowercase(),
        "message": record.args().to_string(),
    });
    writeln!(out, "{line}")
}
