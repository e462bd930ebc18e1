//! Stacks that were unwound before, each once: most goroutines of a program stand in a few places.
//!
//! Unwinding reads a program counter, and words of the stack at places that follow from those read so far. So a
//! stack with the same innermost program counter and the same words at the same places is the same stack.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::stack_memory::word;
use super::unwind::Trace;

/// Words of different stacks that are kept, 24 bytes each.
const MAX_WORDS: usize = 1 << 18;
/// Different stacks that are kept.
const MAX_STACKS: usize = 1 << 15;
/// Stacks that differ further out only, and are compared one by one.
const MAX_ALIKE: usize = 8;
/// No stack: the number of none.
pub(super) const NONE: u32 = u32::MAX;

/// What stacks that may be equal have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Innermost program counter.
    pub(super) pc: u64,
    /// Bytes in use.
    pub(super) size: u64,
    /// Entry of the goroutine's function.
    pub(super) entry: u64,
}

#[derive(Debug)]
struct Known {
    words: Range<u32>,
    pcs: Range<u32>,
    /// Another one with the same key.
    next: u32,
}

/// Stacks by number. Tables of several threads have different numbers.
#[derive(Debug)]
pub(super) struct KnownStacks {
    /// The first number.
    base: u32,
    index: FxHashMap<Key, u32>,
    stacks: Vec<Known>,
    words: Vec<(u32, u64)>,
    pcs: Vec<u64>,
}

impl KnownStacks {
    /// The table of one of several threads.
    pub(super) fn new(thread: usize) -> Self {
        Self {
            base: (thread * MAX_STACKS) as u32,
            index: FxHashMap::default(),
            stacks: Vec::new(),
            words: Vec::new(),
            pcs: Vec::new(),
        }
    }

    /// The number of the stack whose used bytes are `bytes`.
    pub(super) fn find(&self, key: &Key, bytes: &[u8]) -> Option<u32> {
        let mut number = *self.index.get(key)?;
        while let Some(known) = self.get(number) {
            let words = self.words.get(known.words.start as usize..known.words.end as usize)?;
            if words.iter().all(|(at, value)| word(bytes, u64::from(*at)) == Some(*value)) {
                return Some(number);
            }
            number = known.next;
        }
        None
    }

    /// Keeps a stack that was followed to its end. `words` = what was read for that: offset from the stack
    /// pointer, and value. Returns its number; none when there are too many already.
    pub(super) fn insert(&mut self, key: Key, words: &[(u32, u64)], trace: &Trace) -> Option<u32> {
        let first = self.index.get(&key).copied().unwrap_or(NONE);
        let full = self.words.len() + words.len() > MAX_WORDS || self.stacks.len() == MAX_STACKS;
        if full || trace.elided > 0 || self.alike(first) >= MAX_ALIKE {
            return None;
        }
        let number = self.base + self.stacks.len() as u32;
        let range = |start: usize, end: usize| start as u32..end as u32;
        let known = Known {
            words: range(self.words.len(), self.words.len() + words.len()),
            pcs: range(self.pcs.len(), self.pcs.len() + trace.pcs.len()),
            next: first,
        };
        self.words.extend_from_slice(words);
        self.pcs.extend_from_slice(&trace.pcs);
        self.stacks.push(known);
        self.index.insert(key, number);
        Some(number)
    }

    /// Whether a number is one of this table.
    pub(super) fn has(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    fn get(&self, number: u32) -> Option<&Known> {
        self.stacks.get(number.checked_sub(self.base)? as usize)
    }

    fn alike(&self, first: u32) -> usize {
        let next = |number: &u32| self.get(*number).map(|known| known.next);
        std::iter::successors(Some(first), next).take(MAX_ALIKE + 1).count() - 1
    }

    /// Program counters of a stack, the innermost first.
    pub(super) fn pcs(&self, number: u32) -> Option<&[u64]> {
        let known = self.get(number)?;
        self.pcs.get(known.pcs.start as usize..known.pcs.end as usize)
    }

    /// Whether so much is kept that it is time to begin anew: some of it may have been gone for long.
    pub(super) fn is_crowded(&self) -> bool {
        self.words.len() > MAX_WORDS / 2 || self.stacks.len() > MAX_STACKS / 2
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, KnownStacks, MAX_ALIKE, MAX_STACKS, NONE};
    use crate::snapshot::unwind::Trace;

    const KEY: Key = Key { pc: 1, size: 16, entry: 2 };

    fn bytes(words: [u64; 2]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn trace(outer: u64) -> Trace {
        Trace { pcs: vec![1, outer], elided: 0 }
    }

    /// A stack is found by the words that it was unwound with, whatever stands between them; one that differs in
    /// such a word, or in its key, is another.
    #[test]
    fn equal_stacks_are_found() {
        let mut known = KnownStacks::new(0);
        let (first, second) =
            (known.insert(KEY, &[(8, 5)], &trace(5)), known.insert(KEY, &[(8, 6)], &trace(6)));
        assert_ne!(first, second);
        assert_eq!(known.find(&KEY, &bytes([99, 5])), first);
        assert_eq!(known.find(&KEY, &bytes([98, 6])), second);
        assert_eq!(known.pcs(second.unwrap()), Some(&[1, 6][..]));
        assert_eq!(known.find(&KEY, &bytes([99, 7])), None);
        assert_eq!(known.find(&KEY, &[0; 8]), None);
        assert_eq!(known.find(&Key { pc: 3, ..KEY }, &bytes([99, 5])), None);
    }

    /// A target that invents stacks makes neither the table nor a search long, and a stack with a gap isn't kept.
    #[test]
    fn what_is_kept_is_bounded() {
        let mut known = KnownStacks::new(0);
        assert_eq!(known.insert(KEY, &[], &Trace { pcs: vec![1], elided: 1 }), None);
        for value in 0..MAX_ALIKE as u64 {
            assert!(known.insert(KEY, &[(8, value)], &trace(value)).is_some());
        }
        assert_eq!(known.insert(KEY, &[(8, 99)], &trace(99)), None);
        assert!(!known.is_crowded());
        for entry in 0..2 * MAX_STACKS as u64 {
            known.insert(Key { entry, ..KEY }, &[(8, 5)], &trace(5));
        }
        assert!(known.is_crowded() && known.stacks.len() == MAX_STACKS);
    }

    /// The number of one thread's stack is none of another's.
    #[test]
    fn threads_have_their_own_numbers() {
        let mut tables = [KnownStacks::new(0), KnownStacks::new(1)];
        let numbers = tables.each_mut().map(|known| known.insert(KEY, &[(8, 5)], &trace(5)).unwrap());
        for (thread, known) in tables.iter().enumerate() {
            assert_eq!(known.find(&KEY, &bytes([0, 5])), Some(numbers[thread]));
            assert!(known.has(numbers[thread]) && !known.has(numbers[1 - thread]) && !known.has(NONE));
        }
    }
}
