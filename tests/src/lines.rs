//! Lines of a child's output, read without the danger of waiting for ever.

use crate::wait::DEADLINE;
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A stream of lines with a deadline for each.
pub struct Lines(Receiver<String>);

impl Lines {
    /// Reads `source` in a thread of its own until it ends.
    pub fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; `None` when the stream has ended or `limit` is over.
    #[must_use]
    pub fn next_within(&self, limit: Duration) -> Option<String> {
        self.0.recv_timeout(limit).ok()
    }

    /// The next line as JSON.
    ///
    /// # Errors
    /// When the stream ends, the deadline passes, or the line is not JSON.
    pub fn json(&self) -> Result<Value> {
        let line = self.0.recv_timeout(DEADLINE).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow::anyhow!("no line within {} s", DEADLINE.as_secs()),
            RecvTimeoutError::Disconnected => anyhow::anyhow!("the output has ended"),
        })?;
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }

    /// All lines until the stream ends.
    ///
    /// # Errors
    /// When it doesn't end within the deadline.
    pub fn rest(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            match self.0.recv_timeout(DEADLINE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return Ok(lines),
                Err(RecvTimeoutError::Timeout) => anyhow::bail!("output goes on without end or news"),
            }
        }
    }
}
