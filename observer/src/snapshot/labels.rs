//! The labels that a program gives to its goroutines for profiles (`runtime/pprof.Do`).
//!
//! `g.labels` points to what only `runtime/pprof` knows, and nobody changes once it is there
//! (`src/runtime/pprof/label.go`): a `map[string]string` up to Go 1.23, a struct that begins with a slice of
//! pairs of strings from Go 1.24 on. Maps with another inside than the one read here came with Go 1.24 too.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::memory::{Fault, Memory};
use crate::gobin::source::le64;

/// Labels of one goroutine that are read.
const MAX_LABELS: usize = 64;
/// Bytes of a key, or of a value, that are read.
const MAX_TEXT: usize = 1024;
/// Bytes of labels that are read for goroutines whose descriptors are copied together.
const MAX_BYTES: usize = 2 << 20;
/// Buckets of a map, with those chained to them. A map of [`MAX_LABELS`] labels has at most 16 and few chained.
const MAX_BUCKETS: usize = 64;
/// The first version of Go with a slice of labels.
const FIRST_WITH_SLICE: u32 = 24;

/// Labels of a goroutine.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// Values by key. What isn't UTF-8 is replaced; any other character may be there.
    pub pairs: BTreeMap<Box<str>, Box<str>>,
    /// Some, or parts of some, are missing: they can't be read, or are too many or too long.
    pub cut: bool,
}

/// A string's address and length in the target.
type Text = (u64, u64);

/// Reads labels. What was read is kept for goroutines that share it, as long as their descriptors keep it alive.
pub(super) struct Reading<'a> {
    memory: &'a dyn Memory,
    minor: u32,
    known: FxHashMap<u64, Arc<Labels>>,
    bytes: usize,
}

impl<'a> Reading<'a> {
    /// Of a program built by Go 1.`minor`.
    pub(super) fn new(memory: &'a dyn Memory, minor: u32) -> Self {
        Self { memory, minor, known: FxHashMap::default(), bytes: 0 }
    }

    /// The labels that `g.labels` points to.
    ///
    /// # Errors
    /// When the process is gone, or closed to us.
    pub(super) fn at(&mut self, pointer: u64) -> Result<Option<Arc<Labels>>, Fault> {
        if pointer == 0 {
            return Ok(None);
        }
        if let Some(labels) = self.known.get(&pointer) {
            return Ok(Some(labels.clone()));
        }
        let labels = if self.bytes >= MAX_BYTES { None } else { self.read(pointer)? };
        let labels = Arc::new(labels.unwrap_or_else(Labels::unknown));
        self.bytes += 64 + labels.pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        self.known.insert(pointer, labels.clone());
        Ok(Some(labels))
    }

    fn read(&self, pointer: u64) -> Result<Option<Labels>, Fault> {
        let texts = if self.minor >= FIRST_WITH_SLICE { self.slice(pointer)? } else { self.map(pointer)? };
        match texts {
            Some(texts) => self.texts(&texts),
            None => Ok(None),
        }
    }

    /// Keys and values of `struct{ list []struct{ key, value string } }`, one after the other.
    fn slice(&self, pointer: u64) -> Result<Option<Vec<Text>>, Fault> {
        let mut header = [0; 16];
        if !self.copy(pointer, &mut header)? {
            return Ok(None);
        }
        let (array, length) = (le64(&header), le64(&header[8..]));
        if length > 1 << 16 {
            return Ok(None);
        }
        // More than is kept, so that it shows that there are more.
        let mut bytes = vec![0; (length as usize).min(MAX_LABELS + 1) * 32];
        Ok(self.copy(array, &mut bytes)?.then(|| bytes.chunks_exact(16).map(text).collect()))
    }

    /// Keys and values of `*map[string]string`, one after the other.
    fn map(&self, pointer: u64) -> Result<Option<Vec<Text>>, Fault> {
        let (mut word, mut header) = ([0; 8], [0; 32]);
        if !self.copy(pointer, &mut word)? {
            return Ok(None);
        }
        if le64(&word) == 0 {
            return Ok(Some(Vec::new()));
        }
        if !self.copy(le64(&word), &mut header)? {
            return Ok(None);
        }
        // `runtime.hmap`: count, flags, B, …, buckets, oldbuckets.
        let (count, shift) = (le64(&header), header[9]);
        let (buckets, old, same_size) = (le64(&header[16..]), le64(&header[24..]), header[8] & 8 != 0);
        let mut map = Map { reading: self, left: MAX_BUCKETS, texts: Vec::new() };
        let whole =
            map.buckets(buckets, shift)? && map.buckets(old, shift.saturating_sub(u8::from(!same_size)))?;
        // A map that is being filled, or none at all.
        Ok((whole && map.texts.len() as u64 == count.saturating_mul(2)).then_some(map.texts))
    }

    fn texts(&self, texts: &[Text]) -> Result<Option<Labels>, Fault> {
        let mut cut = texts.len() > 2 * MAX_LABELS;
        let texts = &texts[..texts.len().min(2 * MAX_LABELS)];
        let lengths: Vec<usize> =
            texts.iter().map(|(_, length)| (*length).min(MAX_TEXT as u64) as usize).collect();
        cut |= texts.iter().zip(&lengths).any(|((_, length), kept)| *length > *kept as u64);
        let ranges: Vec<(u64, usize)> = texts
            .iter()
            .zip(&lengths)
            .filter(|(_, length)| **length > 0)
            .map(|((address, _), length)| (*address, *length))
            .collect();
        let mut bytes = vec![0; lengths.iter().sum()];
        if !ranges.is_empty() {
            match self.memory.gather(&ranges, &mut bytes) {
                Ok(read) if read == bytes.len() => {}
                Ok(_) | Err(Fault::Unmapped(_)) => return Ok(None),
                Err(fault) => return Err(fault),
            }
        }
        let mut rest = &bytes[..];
        let mut next = |length: &usize| {
            let (text, behind) = rest.split_at(*length);
            rest = behind;
            Box::from(String::from_utf8_lossy(text))
        };
        let pairs = lengths.chunks_exact(2).map(|pair| (next(&pair[0]), next(&pair[1]))).collect();
        Ok(Some(Labels { pairs, cut }))
    }

    fn copy(&self, address: u64, bytes: &mut [u8]) -> Result<bool, Fault> {
        if bytes.is_empty() {
            return Ok(true);
        }
        match self.memory.read(address, bytes) {
            Ok(()) => Ok(true),
            Err(Fault::Unmapped(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

impl Labels {
    /// Labels of which nothing is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { pairs: BTreeMap::new(), cut: true }
    }

    /// Whether nothing is known of them.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.cut && self.pairs.is_empty()
    }
}

fn text(header: &[u8]) -> Text {
    (le64(header), le64(&header[8..]))
}

/// A map up to Go 1.23 (`src/runtime/map.go`).
struct Map<'a> {
    reading: &'a Reading<'a>,
    /// Buckets that may still be read.
    left: usize,
    texts: Vec<Text>,
}

/// Entries of a bucket.
const CELLS: usize = 8;
/// Where a bucket's keys, values and next bucket are, and how long it is.
const KEYS: usize = CELLS;
const VALUES: usize = KEYS + CELLS * 16;
const OVERFLOW: usize = VALUES + CELLS * 16;
const BUCKET: usize = OVERFLOW + 8;

impl Map<'_> {
    /// Adds what is in `1 << shift` buckets; returns whether all could be read.
    fn buckets(&mut self, address: u64, shift: u8) -> Result<bool, Fault> {
        if address == 0 {
            return Ok(true);
        }
        if u32::from(shift) > MAX_BUCKETS.ilog2() {
            return Ok(false);
        }
        for number in 0..1u64 << shift {
            let mut at = address.wrapping_add(number * BUCKET as u64);
            while at != 0 {
                let mut bucket = [0; BUCKET];
                if self.left == 0 || !self.reading.copy(at, &mut bucket)? {
                    return Ok(false);
                }
                self.left -= 1;
                if !self.bucket(&bucket) {
                    break;
                }
                at = le64(&bucket[OVERFLOW..]);
            }
        }
        Ok(true)
    }

    /// Adds the entries of a bucket; false when they have moved to others, with those of its chain.
    fn bucket(&mut self, bucket: &[u8; BUCKET]) -> bool {
        // 0, 1: empty; 2, 3, 4: the bucket has been emptied into others.
        if (2..=4).contains(&bucket[0]) {
            return false;
        }
        for cell in (0..CELLS).filter(|cell| bucket[*cell] > 4) {
            self.texts.push(text(&bucket[KEYS + cell * 16..]));
            self.texts.push(text(&bucket[VALUES + cell * 16..]));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKET, Fault, KEYS, Labels, MAX_LABELS, MAX_TEXT, Memory, OVERFLOW, Reading, VALUES};

    const BASE: u64 = 0x1000;

    /// Memory from [`BASE`] on.
    #[derive(Default)]
    struct Flat(Vec<u8>);

    impl Memory for Flat {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
            let at = address.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
            let bytes = at.and_then(|at| self.0.get(at..)?.get(..buf.len()));
            buf.copy_from_slice(bytes.ok_or(Fault::Unmapped(address))?);
            Ok(())
        }

        fn gather(&self, ranges: &[(u64, usize)], mut buf: &mut [u8]) -> Result<usize, Fault> {
            let mut read = 0;
            for (address, length) in ranges {
                let (here, rest) = buf.split_at_mut(*length);
                if self.read(*address, here).is_err() {
                    break;
                }
                (buf, read) = (rest, read + length);
            }
            Ok(read)
        }
    }

    impl Flat {
        fn add(&mut self, bytes: &[u8]) -> u64 {
            let at = BASE + self.0.len() as u64;
            self.0.extend_from_slice(bytes);
            at
        }

        fn words(&mut self, words: &[u64]) -> u64 {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.add(&bytes)
        }

        fn text(&mut self, text: &str) -> [u64; 2] {
            [self.add(text.as_bytes()), text.len() as u64]
        }

        fn slice(&mut self, pairs: &[(&str, &str)]) -> u64 {
            let texts: Vec<u64> =
                pairs.iter().flat_map(|(key, value)| [self.text(key), self.text(value)].concat()).collect();
            let array = self.words(&texts);
            self.words(&[array, pairs.len() as u64])
        }

        /// A bucket with these cells (top of the hash, key, value) and the next bucket's address.
        fn bucket(&mut self, cells: &[(u8, &str, &str)], next: u64) -> Vec<u8> {
            let mut bucket = vec![0; BUCKET];
            for (cell, (top, key, value)) in cells.iter().enumerate() {
                bucket[cell] = *top;
                for (start, text) in [(KEYS, key), (VALUES, value)] {
                    let words = self.text(text).map(u64::to_le_bytes).concat();
                    bucket[start + cell * 16..][..16].copy_from_slice(&words);
                }
            }
            bucket[OVERFLOW..].copy_from_slice(&next.to_le_bytes());
            bucket
        }

        /// A map whose buckets number `1 << shift`.
        fn map(&mut self, count: u64, shift: u8, buckets: u64, old: u64) -> u64 {
            let header = self.words(&[count, u64::from(shift) << 8, buckets, old]);
            self.words(&[header])
        }

        fn labels(&self, minor: u32, at: u64) -> Labels {
            Labels::clone(&Reading::new(self, minor).at(at).unwrap().unwrap())
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels {
            pairs: pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            cut: false,
        }
    }

    /// A slice of pairs; no pointer is no labels, an empty slice is none of them.
    #[test]
    fn slices() {
        let mut memory = Flat::default();
        let pairs = [("path", "/a"), ("empty", ""), ("", "x")];
        let at = memory.slice(&pairs);
        assert_eq!(memory.labels(24, at), labels(&pairs));
        let empty = memory.slice(&[]);
        assert_eq!(memory.labels(27, empty), labels(&[]));
        assert_eq!(Reading::new(&memory, 27).at(0), Ok(None));
    }

    /// A map that stopped growing half-way: some old buckets have been moved, with their chains, and others not.
    #[test]
    fn maps_that_grow() {
        let mut memory = Flat::default();
        let chained = memory.bucket(&[(9, "c", "3")], 0);
        let chained = memory.add(&chained);
        let moved = memory.bucket(&[(2, "moved", "not here"), (9, "nor", "this")], chained);
        let kept = memory.bucket(&[(5, "a", "1"), (1, "deleted", "0"), (200, "b", "2")], chained);
        let old = memory.add(&[moved, kept].concat());
        let filled = memory.bucket(&[(77, "d", "4")], 0);
        let new = memory.add(&[vec![0; 2 * BUCKET], filled, vec![0; BUCKET]].concat());
        let at = memory.map(4, 2, new, old);
        assert_eq!(memory.labels(23, at), labels(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]));
        let none = memory.words(&[0]);
        assert_eq!(memory.labels(19, none), labels(&[]));
    }

    /// Lengths, counts and chains that can't be, and memory that isn't there, end in labels of which nothing is
    /// known.
    #[test]
    fn lies() {
        let mut memory = Flat::default();
        let circle = BASE + memory.0.len() as u64;
        memory.add(&[[5].as_slice(), &[0; OVERFLOW - 1], &circle.to_le_bytes()].concat());
        let text = memory.text("text");
        let array = memory.words(&[text, text].concat());
        let beyond = memory.words(&[text[0], u64::MAX, text[0], 5000]);
        let slices =
            [[array, u64::MAX], [array, 1 << 40], [array, 1000], [8, 1], [u64::MAX - 7, 1], [beyond, 1]];
        for words in slices {
            let at = memory.words(&words);
            assert!(memory.labels(24, at).is_unknown(), "{words:x?}");
        }
        let maps = [
            memory.map(1, 0, circle, 0),
            memory.map(1, 255, circle, 0),
            memory.map(2, 0, array, 0),
            memory.map(u64::MAX, 0, circle, circle),
            memory.map(1, 0, 8, 0),
        ];
        for at in maps.into_iter().chain([8, u64::MAX]) {
            assert!(memory.labels(23, at).is_unknown(), "{at:#x}");
        }
    }

    /// Of many labels and long ones a part is kept, and it is said.
    #[test]
    fn too_much() {
        let mut memory = Flat::default();
        let keys: Vec<String> = (0..=MAX_LABELS).map(|number| format!("key{number}")).collect();
        let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "x")).collect();
        let at = memory.slice(&many);
        let read = memory.labels(24, at);
        assert_eq!((read.pairs.len(), read.cut), (MAX_LABELS, true));
        let long = "y".repeat(MAX_TEXT + 1);
        let at = memory.slice(&[("key", &long)]);
        let read = memory.labels(24, at);
        assert_eq!((read.pairs["key"].len(), read.cut), (MAX_TEXT, true));
    }
}
