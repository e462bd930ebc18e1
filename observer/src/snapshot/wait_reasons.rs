//! The runtime's names for what a goroutine waits for, read from the target.
//!
//! `runtime.waitReasonStrings` (`src/runtime/runtime2.go`): an array of strings, renumbered now and then,
//! even by patch releases, so no table of ours could be right.

use std::sync::Arc;

use super::memory::{Fault, Memory};
use crate::gobin::source::le64;

/// Reasons are a byte in the runtime; Go 1.27 has 47.
const MAX_REASONS: usize = 64;
/// Go 1.27's longest is 29 bytes.
const MAX_LENGTH: u64 = 64;
/// Bytes of a string header.
const HEADER: usize = 16;

/// Names by number.
#[derive(Debug, Clone, Default)]
pub struct WaitReasons {
    names: Vec<Arc<str>>,
}

impl WaitReasons {
    /// Reads the table at `address`.
    ///
    /// # Errors
    /// When the table itself can't be read, or the process is gone or too slow.
    pub fn read(memory: &dyn Memory, address: u64) -> Result<Self, Fault> {
        let mut headers = vec![0; MAX_REASONS * HEADER];
        let read = memory.gather(&[(address, headers.len())], &mut headers)?;
        let mut names: Vec<Arc<str>> = Vec::new();
        for (index, header) in headers[..read].chunks_exact(HEADER).enumerate() {
            let (pointer, length) = (le64(header), le64(&header[8..]));
            // The first reason is the empty string; behind the last one stands other data.
            match name(memory, pointer, length)? {
                Some(name) if index > 0 => names.push(name),
                None if index == 0 && length == 0 => names.push("".into()),
                _ => break,
            }
        }
        Ok(Self { names })
    }

    /// The name of a reason; `unknown` for one that the table doesn't have.
    #[must_use]
    pub fn name(&self, reason: u8) -> Arc<str> {
        self.names
            .get(usize::from(reason))
            .filter(|name| !name.is_empty())
            .cloned()
            .unwrap_or_else(|| "unknown".into())
    }

    /// The number of the reason with this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u8> {
        self.names.iter().position(|known| &**known == name).and_then(|number| u8::try_from(number).ok())
    }

    /// Number of reasons.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no reason was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether goroutines that run finalizers or cleanups wait for work with this reason. Without names they
    /// are taken to: that is what they nearly always do.
    #[must_use]
    pub fn is_callback_idle(&self, reason: u8) -> bool {
        if self.is_empty() {
            return true;
        }
        matches!(
            self.names.get(usize::from(reason)).map(|name| &**name),
            Some("finalizer wait" | "cleanup wait")
        )
    }
}

/// A printable ASCII string; anything else isn't one of the runtime's reasons.
fn name(memory: &dyn Memory, pointer: u64, length: u64) -> Result<Option<Arc<str>>, Fault> {
    if !(1..=MAX_LENGTH).contains(&length) {
        return Ok(None);
    }
    let mut text = vec![0; length as usize];
    match memory.read(pointer, &mut text) {
        Err(Fault::Unmapped(_)) => return Ok(None),
        read => read?,
    }
    let text = String::from_utf8(text).ok();
    let text = text.filter(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    Ok(text.map(Arc::from))
}
