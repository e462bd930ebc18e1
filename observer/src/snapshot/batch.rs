//! Many descriptors in one system call.

use super::descriptors::Slot;
use super::memory::{Fault, MAX_RANGES, Memory};

/// Bytes copied by one system call: with the stacks that belong to them, what a processor's own cache holds.
const BATCH: usize = 64 << 10;
/// Descriptors closer than this are copied with what lies between them.
const GAP: u64 = 512;

/// Descriptors that are copied by one system call.
pub(super) struct Batch {
    buffer: Vec<u8>,
    ranges: Vec<(u64, usize)>,
    /// Where each descriptor starts in the buffer.
    starts: Vec<usize>,
    /// Descriptors that are tried at once: behind an unreadable one there may be many.
    pub(super) most: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), ranges: Vec::new(), starts: Vec::new(), most: usize::MAX }
    }

    /// Plans the copy of as many descriptors from `first` on as fit; returns the index behind the last one.
    pub(super) fn plan(&mut self, slots: &[Slot], first: usize, size: usize) -> usize {
        self.ranges.clear();
        self.starts.clear();
        let mut total = 0;
        for (index, slot) in slots.iter().enumerate().skip(first).take(self.most) {
            let (extend, used) = match self.ranges.last() {
                Some((base, len)) if slot.address - base <= *len as u64 + GAP => {
                    ((slot.address - base) as usize + size - *len, true)
                }
                _ => (size, false),
            };
            if total + extend > BATCH || (!used && self.ranges.len() == MAX_RANGES) {
                return index;
            }
            match self.ranges.last_mut() {
                Some((_, len)) if used => *len += extend,
                _ => self.ranges.push((slot.address, size)),
            }
            total += extend;
            self.starts.push(total - size);
        }
        slots.len().min(first.saturating_add(self.most))
    }

    /// Copies, and returns how many bytes arrived; 0 when the first descriptor is unreadable.
    pub(super) fn read(&mut self, memory: &dyn Memory, size: usize) -> Result<usize, Fault> {
        let total: usize = self.ranges.iter().map(|range| range.1).sum();
        if self.buffer.len() < total {
            self.buffer.resize(total, 0);
        }
        match memory.gather(&self.ranges, &mut self.buffer[..total]) {
            Err(Fault::Unmapped(_)) => Ok(0),
            Ok(read) if read < size => Ok(0),
            other => other,
        }
    }

    /// The descriptor at this place in the plan, if it arrived.
    pub(super) fn descriptor(&self, index: usize, size: usize) -> Option<&[u8]> {
        let start = *self.starts.get(index)?;
        self.buffer.get(start..start + size)
    }

    /// The descriptors that arrived whole.
    pub(super) fn descriptors(&self, read: usize, size: usize) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().map_while(move |start| self.buffer[..read].get(*start..start + size))
    }
}
