//! Tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::text::printable;

/// Rows of callsites that fit a screen.
const CALLSITES: usize = 20;

/// How a command shows its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs; stable.
    Json,
}

impl Format {
    /// A table on a terminal, JSON elsewhere.
    pub(super) fn fitting() -> Self {
        if io::stdout().is_terminal() { Self::Table } else { Self::Json }
    }
}

/// The layout of tables on this terminal.
pub(super) fn layout() -> crate::export::text::Layout {
    let width =
        rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|width| *width > 0);
    crate::export::text::Layout { width: width.filter(|_| io::stdout().is_terminal()), callsites: CALLSITES }
}

/// Writes to stdout at once.
///
/// # Errors
/// When nobody reads.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one JSON value and a line break.
///
/// # Errors
/// When nobody reads.
pub(super) fn json(value: &impl Serialize, pretty: bool) -> anyhow::Result<()> {
    let text = if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    Ok(print(&(text + "\n"))?)
}

/// One line on stderr that says what is wrong and what to do.
pub(super) fn error(error: &anyhow::Error) {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Most of our errors name their cause themselves.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    // If stderr is closed there is nobody left to tell.
    _ = writeln!(io::stderr(), "observer: {}", printable(&text));
}

/// Replaces the line on a terminal that says how far long work is; empty text takes it away.
pub(super) fn progress(terminal: bool, text: &str) {
    if terminal {
        _ = write!(io::stderr(), "\r\x1b[2K{}", printable(text));
    }
}

/// One line on stderr about what is going on.
pub(super) fn note(text: &str) {
    _ = writeln!(io::stderr(), "observer: {}", printable(text));
}
