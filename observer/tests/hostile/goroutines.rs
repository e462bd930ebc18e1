//! A target whose runtime lies about its goroutines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use observer::gobin::GoBinary;
use observer::gobin::layout::{self, GLayout};
use observer::gobin::source::Source;
use observer::snapshot::census::Census;
use observer::snapshot::reader::{Reader, Snapshot, SnapshotError};

use crate::memory::Fake;
use crate::random::Random;
use crate::synthetic::{BASE, Synthetic, WORK};

/// Where the fake target keeps its globals, its list and its descriptors.
const ALLGLEN: u64 = 0x10_0000;
const ALLGPTR: u64 = ALLGLEN + 8;
const ALLP: u64 = ALLGLEN + 16;
const GOMAXPROCS: u64 = ALLGLEN + 40;
const SCHED: u64 = ALLGLEN + 64;
const GC: u64 = ALLGLEN + 0x1000;
const REASONS: u64 = ALLGLEN + 0x2000;
const LIST: u64 = 0x1000_0000;
const DESCRIPTORS: u64 = 0x2000_0000;
/// Distance of descriptors.
const STEP: u64 = 512;
const WAITING: u32 = 4;

fn g() -> &'static GLayout {
    &layout::for_minor(27).unwrap().g
}

struct Target {
    memory: Fake,
    reader: Reader,
}

impl Target {
    fn new() -> Self {
        let file = Synthetic::new().0;
        let source = Arc::new(Owned(file.clone()));
        let mut binary = GoBinary::analyse(&*source).unwrap();
        let globals = &mut binary.globals;
        (globals.allglen, globals.allgptr, globals.allp) = (Some(ALLGLEN), Some(ALLGPTR), Some(ALLP));
        (globals.gomaxprocs, globals.sched) = (Some(GOMAXPROCS), Some(SCHED));
        (globals.gc_controller, globals.wait_reasons) = (Some(GC), Some(REASONS));
        let memory = Fake::default();
        memory.map(BASE, file);
        memory.map(ALLGLEN, vec![0; 0x4000]);
        memory.map(LIST, vec![0; 1 << 20]);
        Self { memory, reader: Reader::new(Arc::new(binary), source, 0) }
    }

    fn list(&self, addresses: &[u64]) {
        self.memory
            .put(LIST, &addresses.iter().flat_map(|address| address.to_le_bytes()).collect::<Vec<_>>());
        self.length(addresses.len() as u64, LIST);
    }

    fn length(&self, length: u64, list: u64) {
        self.memory.put(ALLGLEN, &length.to_le_bytes());
        self.memory.put(ALLGPTR, &list.to_le_bytes());
    }

    /// Maps memory for `count` descriptors and fills it with waiting goroutines; returns their addresses.
    fn goroutines(&self, count: u64) -> Vec<u64> {
        let addresses: Vec<u64> = (0..count).map(|index| DESCRIPTORS + index * STEP).collect();
        let bytes =
            addresses.iter().enumerate().flat_map(|(index, at)| descriptor(*at, index as u64 + 1, WAITING));
        self.memory.map(DESCRIPTORS, bytes.collect());
        addresses
    }

    fn take(&mut self) -> Result<Snapshot, SnapshotError> {
        self.reader.take(&self.memory, Instant::now() + Duration::from_secs(60))
    }

    fn census(&mut self) -> Census {
        self.take().unwrap().census
    }
}

struct Owned(Vec<u8>);

impl Source for Owned {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

fn descriptor(address: u64, id: u64, status: u32) -> Vec<u8> {
    let mut bytes = vec![0; STEP as usize];
    let mut put = |at: u16, value: &[u8]| bytes[usize::from(at)..][..value.len()].copy_from_slice(value);
    put(g().sched_g, &address.to_le_bytes());
    put(g().atomicstatus, &status.to_le_bytes());
    put(g().goid, &id.to_le_bytes());
    put(g().gopc, &(Synthetic::address(0) + 8).to_le_bytes());
    put(g().startpc, &Synthetic::address(WORK).to_le_bytes());
    bytes
}

/// A sound target is counted, so that the other tests break something that works.
#[test]
fn a_sound_list() {
    let mut target = Target::new();
    let addresses = target.goroutines(1000);
    target.list(&addresses);
    let census = target.census();
    assert_eq!((census.user, census.descriptors(), census.callsites.len()), (1000, 1000, 1));
}

/// Lengths that can't be are refused by name, and cost a few reads only.
#[test]
fn implausible_lengths() {
    for length in [1 << 60, u64::MAX, u64::MAX / 8, (16 << 20) + 1] {
        let mut target = Target::new();
        target.length(length, LIST);
        assert_eq!(target.take().unwrap_err().name(), "bad_list", "{length:#x}");
        assert!(target.memory.calls.get() < 10);
    }
    let mut target = Target::new();
    target.length(0, LIST);
    assert_eq!(target.take().unwrap_err().name(), "not_started");
    // The list ends at the end of the address space, or isn't there.
    for list in [u64::MAX - 7, 0xffff_8000_0000_0000, 8] {
        target.length(100, list);
        assert_eq!(target.take().unwrap_err().name(), "bad_list", "{list:#x}");
    }
}

/// A list that is its own descriptor, and entries that are null, unaligned, the kernel's, unmapped or there
/// twice: each entry is counted once, as what it is.
#[test]
fn every_kind_of_entry() {
    let mut target = Target::new();
    let mut entries = target.goroutines(100);
    let dead = DESCRIPTORS + 7 * STEP;
    target.memory.put(dead + u64::from(g().atomicstatus), &6u32.to_le_bytes());
    let odd = [0, DESCRIPTORS + 3, 0xffff_8880_0000_0000, u64::MAX - 7, DESCRIPTORS, DESCRIPTORS + STEP];
    let unmapped = [8, 0x7fff_ffff_f000, DESCRIPTORS + 100 * STEP + 4096];
    entries.extend(odd);
    entries.extend(unmapped);
    entries.push(LIST);
    target.list(&entries);
    let census = target.census();
    // The list's own first bytes are no descriptor, or one without a goroutine.
    assert_eq!((census.user, census.unreadable), (99, 3));
    assert_eq!(census.torn + census.dead, odd.len() as u64 + 2);
    assert_eq!(census.descriptors(), entries.len() as u64);
}

/// Descriptors that overlap, eight bytes apart, over garbage.
#[test]
fn overlapping_descriptors() {
    let mut random = Random(3);
    for _ in 0..20 {
        let mut target = Target::new();
        let addresses: Vec<u64> = (0..5000).map(|index| DESCRIPTORS + index * 8).collect();
        let garbage = (0..5000 + STEP / 8).flat_map(|_| random.extreme().to_le_bytes()).collect();
        target.memory.map(DESCRIPTORS, garbage);
        target.list(&addresses);
        match target.take() {
            Ok(snapshot) => assert_eq!(snapshot.census.descriptors(), 5000),
            Err(error) => assert_eq!(error.name(), "layout"),
        }
    }
}

/// Reading stops at any byte of the copy: every descriptor is counted all the same, unless not even one
/// fits.
#[test]
fn partial_copies() {
    let needed = usize::from(g().startpc) + 8;
    for at_most in (1..3 * STEP as usize).step_by(7).chain([needed - 1, needed, needed + 1]) {
        let mut target = Target::new();
        let addresses = target.goroutines(20);
        target.list(&addresses);
        assert_eq!(target.census().user, 20);
        target.memory.at_most.set(Some(at_most));
        let census = target.census();
        let expected = if at_most < needed { (0, 20) } else { (20, 0) };
        assert_eq!((census.user, census.unreadable), expected, "{at_most}");
    }
}

/// Holes at random places of the descriptors' memory: who is readable is counted, the others are counted as
/// unreadable.
#[test]
fn holes_in_the_descriptors() {
    let mut random = Random(5);
    for _ in 0..50 {
        let mut target = Target::new();
        let addresses: Vec<u64> = (0..400).map(|index| DESCRIPTORS + index * STEP).collect();
        let mut there = 0;
        for (index, address) in addresses.iter().enumerate() {
            if random.below(4) > 0 {
                target.memory.map(*address, descriptor(*address, index as u64 + 1, WAITING));
                there += 1;
            }
        }
        target.list(&addresses);
        let census = target.census();
        // The fake's copy ends with a region: a copy across a border is a partial one.
        assert_eq!((census.user, census.unreadable, census.descriptors()), (there, 400 - there, 400));
    }
}

/// Worlds of random entries and random bytes: never a panic, and the counts add up to the list.
#[test]
fn random_worlds() {
    let mut random = Random(11);
    for world in 0..300 {
        let mut target = Target::new();
        let known = target.goroutines(64);
        let mut entries = Vec::new();
        for _ in 0..random.below(200) + 1 {
            entries.push(match random.below(5) {
                0 => random.extreme(),
                1 => DESCRIPTORS + random.below(64 * STEP),
                _ => known[random.below(64) as usize],
            });
        }
        for _ in 0..random.below(60) {
            let at = DESCRIPTORS + random.below(64 * STEP / 8 - 1) * 8;
            target.memory.put(at, &random.extreme().to_le_bytes());
        }
        for at in (ALLP..REASONS + 0x800).step_by(8).filter(|_| world % 2 == 0) {
            target.memory.put(at, &random.extreme().to_le_bytes());
        }
        target.list(&entries);
        for _ in 0..3 {
            match target.take() {
                Ok(snapshot) => assert_eq!(snapshot.census.descriptors(), entries.len() as u64),
                Err(error) => assert_eq!(error.name(), "layout"),
            }
        }
    }
}

/// A list that shrinks is another list: it is read from its start. One that grows is read on.
#[test]
fn a_list_that_shrinks() {
    let mut target = Target::new();
    let addresses = target.goroutines(100);
    for count in [50, 100, 20, 21, 100, 1] {
        target.list(&addresses[..count]);
        let census = target.census();
        assert_eq!((census.user, census.descriptors()), (count as u64, count as u64));
    }
}

/// Processors beyond any machine, or unreadable ones: the run queue is unknown, and the rest is read.
#[test]
fn hostile_processors() {
    let mut target = Target::new();
    let addresses = target.goroutines(4);
    target.list(&addresses);
    for (pointer, count) in [(LIST, u64::MAX), (LIST, 1 << 40), (LIST, 65_536), (8, 4), (u64::MAX, 4)] {
        target.memory.put(ALLP, &pointer.to_le_bytes());
        target.memory.put(ALLP + 8, &count.to_le_bytes());
        target.memory.put(GOMAXPROCS, &(count as u32).to_le_bytes());
        let snapshot = target.take().unwrap();
        assert_eq!(
            (snapshot.settings.run_queue_goroutines, snapshot.census.user),
            (None, 4),
            "{pointer:#x} {count:#x}"
        );
    }
}

/// A table of wait reasons made of garbage names nothing, and nothing unprintable.
#[test]
fn garbage_wait_reasons() {
    let mut random = Random(13);
    let text = ALLGLEN + 0x3000;
    for _ in 0..100 {
        let mut target = Target::new();
        let addresses = target.goroutines(4);
        target.list(&addresses);
        target.memory.put(text, b"chan receive\x1b[2J\xff\xfe");
        for at in (REASONS + 16..REASONS + 0x400).step_by(16) {
            let pointer = if random.below(2) == 0 { text + random.below(16) } else { random.extreme() };
            let length = if random.below(2) == 0 { random.below(20) } else { random.extreme() };
            target.memory.put(at, &pointer.to_le_bytes());
            target.memory.put(at + 8, &length.to_le_bytes());
        }
        let snapshot = target.take().unwrap();
        assert!(snapshot.reasons.len() <= 64);
        for reason in 0..=u8::MAX {
            let name = snapshot.reasons.name(reason);
            assert!(name.len() <= 64 && name.chars().all(|c| (' '..='~').contains(&c)), "{name:?}");
        }
    }
}

/// Past the deadline nothing is read any more; what a snapshot was not in time for is counted as skipped.
#[test]
fn a_deadline_is_kept() {
    let mut target = Target::new();
    let addresses = target.goroutines(20_000);
    target.list(&addresses);
    let late = target.reader.take(&target.memory, Instant::now() - Duration::from_millis(1));
    assert_eq!((late.unwrap_err().name(), target.memory.calls.get()), ("deadline", 0));
    assert_eq!(target.census().user, 20_000);
    // The descriptors are spread, so that a copy has several ranges.
    let deadline = Instant::now() + Duration::from_secs(2);
    target.memory.slow_until.set(Some(deadline));
    let spread: Vec<u64> = addresses.iter().map(|address| address + (address - DESCRIPTORS) * 3).collect();
    for address in &spread {
        target.memory.map(*address + (1 << 32), descriptor(*address + (1 << 32), 1, WAITING));
    }
    let spread: Vec<u64> = spread.iter().map(|address| address + (1 << 32)).collect();
    let all: Vec<u64> = addresses.iter().chain(&spread).copied().collect();
    target.list(&all);
    let census = target.reader.take(&target.memory, deadline).unwrap().census;
    assert!(census.skipped > 0 && census.user > 0);
    assert_eq!(census.descriptors(), all.len() as u64);
}
