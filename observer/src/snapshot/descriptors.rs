//! The list of all goroutine descriptors (`struct g`) that a target has ever made.
//!
//! The runtime only appends to the list and never frees a descriptor (`src/runtime/proc.go`, `allgs`), so
//! the list is read once and later only its new end. It is kept sorted by address, because neighbours in
//! memory are read with one copy.

use super::known_stacks::NONE;
use super::memory::{Fault, Memory};
use crate::gobin::source::le64;

/// More goroutines than any program has had; 128 MiB of pointers.
const MAX_DESCRIPTORS: u64 = 16 << 20;
/// Pointers copied at once.
const BLOCK: usize = 64 << 10;
/// How often a list is read anew because it was replaced meanwhile: it doubles each time.
const ATTEMPTS: usize = 4;
/// User addresses end here on x86-64 with five-level page tables.
const MAX_ADDRESS: u64 = 1 << 56;

/// What is remembered of one descriptor between snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Address of the `struct g`.
    pub address: u64,
    /// Identifies one stay in one place: changes when the goroutine has run, or is another one. 0 = none.
    pub stay: u64,
    /// When this stay was first seen, in hundredths of a second since the target was first read.
    pub since: u32,
    /// Number of the known stack that the goroutine has during this stay.
    pub stack: u32,
}

impl Slot {
    /// One of which nothing is known.
    #[must_use]
    pub const fn new(address: u64) -> Self {
        Self { address, stay: 0, since: 0, stack: NONE }
    }
}

/// Why the list can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The runtime has not started yet, or the list is being replaced right now.
    #[error("the Go runtime has not started yet")]
    NotStarted,
    /// The runtime replaces the list faster than it can be read.
    #[error("the goroutine list is being replaced all the time")]
    Replaced,
    /// The target claims what can't be true.
    #[error("the goroutine list is implausible: {0} entries")]
    Implausible(u64),
    /// Its memory can't be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// All descriptors, sorted by address.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// One per descriptor.
    pub slots: Vec<Slot>,
    /// Length of the target's list that `slots` was made from.
    read: u64,
    /// Number of `slots` that are sorted.
    arranged: usize,
    /// Entries that were null, unaligned, or there twice.
    pub implausible: u64,
}

impl Descriptors {
    /// Brings the list up to date. `allglen` and `allgptr` are addresses in the target; the length is read
    /// before the pointer, as the runtime itself does, so the list is at least as long as it says.
    ///
    /// # Errors
    /// When the list can't be read, or isn't plausible: then the list known so far stays.
    pub fn update(&mut self, memory: &dyn Memory, allglen: u64, allgptr: u64) -> Result<(), ListError> {
        for _ in 0..ATTEMPTS {
            let length = memory.u64(allglen)?;
            let list = memory.u64(allgptr)?;
            if length == 0 || list == 0 {
                return Err(ListError::NotStarted);
            }
            if length > MAX_DESCRIPTORS {
                return Err(ListError::Implausible(length));
            }
            if length < self.read {
                // It never shrinks, so it is another list: the process has executed its program anew.
                *self = Self::default();
            }
            if length == self.read {
                return Ok(());
            }
            let implausible = self.append(memory, list, length)?;
            // A list that was replaced while we read it may have been freed and used for something else.
            if memory.u64(allgptr)? == list {
                self.implausible += implausible;
                self.read = length;
                self.arrange();
                return Ok(());
            }
            self.retract();
        }
        Err(ListError::Replaced)
    }

    /// Adds the entries behind those already known, and returns how many are none.
    fn append(&mut self, memory: &dyn Memory, list: u64, length: u64) -> Result<u64, ListError> {
        let left = (length - self.read) as usize;
        self.slots.reserve_exact(left);
        let mut block = vec![0; BLOCK.min(left * 8)];
        let mut implausible = 0;
        let mut index = self.read;
        while index < length {
            let count = ((length - index) as usize).min(BLOCK / 8);
            let bytes = &mut block[..count * 8];
            if let Err(fault) = memory.read(list.wrapping_add(index * 8), bytes) {
                self.retract();
                return Err(fault.into());
            }
            for address in bytes.chunks_exact(8).map(le64) {
                if address != 0 && address.is_multiple_of(8) && address < MAX_ADDRESS {
                    self.slots.push(Slot::new(address));
                } else {
                    implausible += 1;
                }
            }
            index += count as u64;
        }
        Ok(implausible)
    }

    /// Takes back what was added since the last time that all was arranged.
    fn retract(&mut self) {
        self.slots.truncate(self.arranged);
        self.slots.shrink_to_fit();
    }

    fn arrange(&mut self) {
        // A stable sort, because it makes use of the long ascending runs that the allocator leaves, and keeps
        // what is known of a descriptor before one that claims to be there again.
        self.slots.sort_by_key(|slot| slot.address);
        let before = self.slots.len();
        self.slots.dedup_by_key(|slot| slot.address);
        self.implausible += (before - self.slots.len()) as u64;
        self.slots.shrink_to_fit();
        self.arranged = self.slots.len();
    }
}
