//! What a stack unwinder must know of a program counter: how large its frame is, and what lies below.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::GoBinary;
use super::error::Result;
use super::kind::Kind;
use super::naming::MAX_READ;
use super::pclntab::{TOP_FRAME, WRITES_SP};
use super::source::{Budget, Source};

/// More program counters than the stacks of a real program hold at one time.
const MAX_PLACES: usize = 1 << 16;

/// A program counter inside Go code. Addresses are the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First instruction of the function.
    pub entry: u64,
    /// Bytes between the stack pointer and the return address; `None` when the function doesn't tell, as C
    /// code linked into Go doesn't.
    pub frame: Option<u64>,
    /// What the runtime knows the function as.
    pub kind: Kind,
    /// Nothing called it: the stack ends here.
    pub is_top: bool,
    /// It switches stacks in a way that can't be followed.
    pub switches_stack: bool,
}

/// Looks places up and remembers them: a million stacks consist of a few hundred.
pub struct Places {
    binary: Arc<GoBinary>,
    source: Arc<dyn Source + Send + Sync>,
    bias: u64,
    known: FxHashMap<u64, Option<Place>>,
}

impl Places {
    /// `bias` = load address − link-time address.
    #[must_use]
    pub fn new(binary: Arc<GoBinary>, source: Arc<dyn Source + Send + Sync>, bias: u64) -> Self {
        Self { binary, source, bias, known: FxHashMap::default() }
    }

    /// The place of a program counter; `None` when it isn't Go code, or its tables are malformed.
    pub fn get(&mut self, pc: u64) -> Option<Place> {
        if let Some(place) = self.known.get(&pc) {
            return *place;
        }
        let place = self.look_up(pc.wrapping_sub(self.bias)).unwrap_or(None);
        if self.known.len() >= MAX_PLACES {
            self.known.clear();
        }
        self.known.insert(pc, place);
        place
    }

    fn look_up(&self, pc: u64) -> Result<Option<Place>> {
        let binary = &*self.binary;
        let source: &dyn Source = &Budget::new(&*self.source, MAX_READ);
        let Some(function) = binary.table.lookup(source, binary.module.text, pc)? else { return Ok(None) };
        let delta = binary.table.stack_delta(source, &function, pc)?;
        let kind = Kind::of(binary.version, function.id);
        Ok(Some(Place {
            entry: function.entry.wrapping_add(self.bias),
            frame: delta.and_then(|delta| u64::try_from(delta).ok()),
            kind,
            is_top: function.flags & TOP_FRAME != 0,
            // It moves between stacks that both hold its frame, so its table is right on either.
            switches_stack: function.flags & WRITES_SP != 0 && kind != Kind::CgoCallback,
        }))
    }
}
