//! Where the unwinder reads a stack from.

use super::memory::Memory;
use super::unwind::Stack;
use crate::gobin::places::{Place, Places};
use crate::gobin::source::le64;

/// Bytes of a long stack that are read at once.
const WINDOW: u64 = 64 << 10;

/// A stack that was copied.
pub(super) struct Copied<'a> {
    /// What is known of program counters.
    pub(super) places: &'a mut Places,
    /// Its bytes, as far as they were copied.
    pub(super) bytes: &'a [u8],
    /// The address of the first of them.
    pub(super) start: u64,
    /// The words that were read: offset from the first byte, and value.
    pub(super) read: &'a mut Vec<(u32, u64)>,
}

impl Stack for Copied<'_> {
    fn place(&mut self, pc: u64) -> Option<Place> {
        self.places.get(pc)
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        let at = address.checked_sub(self.start)?;
        let value = word(self.bytes, at)?;
        self.read.push((u32::try_from(at).ok()?, value));
        Some(value)
    }
}

/// A stack that is copied piece by piece.
pub(super) struct Live<'a> {
    /// What is known of program counters.
    pub(super) places: &'a mut Places,
    /// Where the rest is copied from.
    pub(super) memory: &'a dyn Memory,
    /// Behind the last byte of the stack.
    pub(super) end: u64,
    /// Its bytes, as far as they were copied.
    pub(super) bytes: Vec<u8>,
    /// The address of the first of them.
    pub(super) start: u64,
    /// Some of it couldn't be copied.
    pub(super) unreadable: bool,
}

impl Stack for Live<'_> {
    fn place(&mut self, pc: u64) -> Option<Place> {
        self.places.get(pc)
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        if let Some(word) = word(&self.bytes, address.checked_sub(self.start)?) {
            return Some(word);
        }
        let left = self.end.checked_sub(address).filter(|left| *left >= 8)?;
        self.bytes.resize(left.min(WINDOW) as usize, 0);
        self.start = address;
        if self.memory.read(address, &mut self.bytes).is_err() {
            self.unreadable = true;
            return None;
        }
        word(&self.bytes, 0)
    }
}

/// The word at an offset, if it is there.
pub(super) fn word(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(8)?).map(le64)
}
