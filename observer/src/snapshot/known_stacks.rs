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
    key: Key,
}

/// Stacks by number: those of earlier passes, or those that one thread of a pass has found.
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
    /// A table that is kept from pass to pass.
    pub(super) fn new() -> Self {
        Self::from(0)
    }

    /// What a thread, counted from 0, finds in one pass: its numbers are none of another's.
    pub(super) fn found_by(thread: usize) -> Self {
        Self::from((thread + 1) * MAX_STACKS)
    }

    fn from(base: usize) -> Self {
        Self {
            base: base as u32,
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
            let words = self.words_of(known)?;
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
        if trace.elided > 0 { None } else { self.add(key, words, &trace.pcs) }
    }

    fn add(&mut self, key: Key, words: &[(u32, u64)], pcs: &[u64]) -> Option<u32> {
        let first = self.index.get(&key).copied().unwrap_or(NONE);
        let full = self.words.len() + words.len() > MAX_WORDS || self.stacks.len() == MAX_STACKS;
        if full || self.alike(first) >= MAX_ALIKE {
            return None;
        }
        let number = self.base + self.stacks.len() as u32;
        let range = |start: usize, end: usize| start as u32..end as u32;
        let known = Known {
            words: range(self.words.len(), self.words.len() + words.len()),
            pcs: range(self.pcs.len(), self.pcs.len() + pcs.len()),
            next: first,
            key,
        };
        self.words.extend_from_slice(words);
        self.pcs.extend_from_slice(pcs);
        self.stacks.push(known);
        self.index.insert(key, number);
        Some(number)
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

    /// Takes over what a thread has found. Returns the new numbers, none for what there is no room for.
    pub(super) fn absorb(&mut self, found: &Self) -> Vec<u32> {
        let numbers = found.stacks.iter().map(|known| {
            let words = found.words_of(known)?;
            let pcs = found.pcs.get(known.pcs.start as usize..known.pcs.end as usize)?;
            self.same(&known.key, words).or_else(|| self.add(known.key, words, pcs))
        });
        numbers.map(|number| number.unwrap_or(NONE)).collect()
    }

    /// The number of the stack that was unwound with the same words.
    fn same(&self, key: &Key, words: &[(u32, u64)]) -> Option<u32> {
        let mut number = *self.index.get(key)?;
        while let Some(known) = self.get(number) {
            if self.words_of(known) == Some(words) {
                return Some(number);
            }
            number = known.next;
        }
        None
    }

    fn words_of(&self, known: &Known) -> Option<&[(u32, u64)]> {
        self.words.get(known.words.start as usize..known.words.end as usize)
    }

    /// Whether so much is kept that it is time to begin anew: some of it may have been gone for long.
    pub(super) fn is_crowded(&self) -> bool {
        self.words.len() > MAX_WORDS / 2 || self.stacks.len() > MAX_STACKS / 2
    }
}

/// What one thread of a pass knows: the stacks of earlier passes, and those that it has found in this one.
pub(super) struct Knowledge<'a> {
    kept: &'a KnownStacks,
    found: KnownStacks,
}

impl<'a> Knowledge<'a> {
    /// Of a thread, counted from 0.
    pub(super) fn new(kept: &'a KnownStacks, thread: usize) -> Self {
        Self { kept, found: KnownStacks::found_by(thread) }
    }

    /// The number of the stack whose used bytes are `bytes`.
    pub(super) fn find(&self, key: &Key, bytes: &[u8]) -> Option<u32> {
        self.kept.find(key, bytes).or_else(|| self.found.find(key, bytes))
    }

    /// See [`KnownStacks::insert`].
    pub(super) fn insert(&mut self, key: Key, words: &[(u32, u64)], trace: &Trace) -> Option<u32> {
        self.found.insert(key, words, trace)
    }

    /// Whether a number is that of a stack.
    pub(super) fn has(&self, number: u32) -> bool {
        self.pcs(number).is_some()
    }

    /// Program counters of a stack, the innermost first.
    pub(super) fn pcs(&self, number: u32) -> Option<&[u64]> {
        self.kept.pcs(number).or_else(|| self.found.pcs(number))
    }

    /// What was found, by a thread that is done.
    pub(super) fn into_found(self) -> KnownStacks {
        self.found
    }
}

/// Numbers that threads gave to what they found in a pass, and those that they are kept under.
#[derive(Default)]
pub(super) struct Renumbered(FxHashMap<u32, Vec<u32>>);

impl Renumbered {
    /// Keeps what a thread has found.
    pub(super) fn keep(&mut self, kept: &mut KnownStacks, found: &KnownStacks) {
        self.0.insert(found.base, kept.absorb(found));
    }

    /// The number that is kept; none for what was found by a thread that failed.
    pub(super) fn kept(&self, number: u32) -> u32 {
        let base = number - number % MAX_STACKS as u32;
        if base == 0 {
            return number;
        }
        let numbers = self.0.get(&base);
        numbers.and_then(|numbers| numbers.get((number - base) as usize)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Knowledge, KnownStacks, MAX_ALIKE, MAX_STACKS, NONE, Renumbered};
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
        let mut known = KnownStacks::new();
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
        let mut known = KnownStacks::new();
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

    /// What two threads found has different numbers, and one after they were kept; what a third had found, which
    /// failed, has none.
    #[test]
    fn what_threads_find_is_kept_once() {
        let mut kept = KnownStacks::new();
        let old = kept.insert(KEY, &[(8, 5)], &trace(5)).unwrap();
        let mut threads = [0, 1, 2].map(|thread| Knowledge::new(&kept, thread));
        let numbers = threads.each_mut().map(|thread| {
            assert_eq!(thread.find(&KEY, &bytes([0, 5])), Some(old));
            let number = thread.insert(KEY, &[(8, 6)], &trace(6)).unwrap();
            assert_eq!(thread.find(&KEY, &bytes([0, 6])), Some(number));
            assert!(thread.has(number) && thread.has(old) && !thread.has(NONE));
            number
        });
        assert!(numbers[0] != numbers[1] && !threads[0].has(numbers[1]));
        let [first, second, _] = threads.map(Knowledge::into_found);
        let mut renumbered = Renumbered::default();
        renumbered.keep(&mut kept, &first);
        renumbered.keep(&mut kept, &second);
        let new = kept.find(&KEY, &bytes([0, 6])).unwrap();
        assert_eq!(numbers.map(|number| renumbered.kept(number)), [new, new, NONE]);
        assert_eq!([old, NONE].map(|number| renumbered.kept(number)), [old, NONE]);
        assert_eq!((kept.stacks.len(), kept.pcs(new)), (2, Some(&[1, 6][..])));
    }
}
