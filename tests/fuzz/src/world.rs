//! Memory of a process that does not exist: a real program's, with goroutines that a fuzzer makes up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use observer::export::profile::{End, Filter, Format, GroupBy, Rendering, Subject};
use observer::gobin::frames::Frames;
use observer::gobin::layout::GLayout;
use observer::snapshot::memory::{Fault, Memory};
use observer::snapshot::reader::Reader;

use crate::program::{Program, read_from};

/// Where the fake process keeps what is not in its file.
const GLOBALS: u64 = 0x1_0000_0000_0000;
const LIST: u64 = GLOBALS + 0x1000;
pub(crate) const DESCRIPTORS: u64 = GLOBALS + 0x10_000;
/// Distance of descriptors.
pub(crate) const STEP: u64 = 512;
/// What descriptors point to.
pub(crate) const DATA: u64 = GLOBALS + 0x100_000;
/// Bytes of it that a reader sees: behind the input there are zeros.
pub(crate) const DATA_SIZE: u64 = 1 << 16;
/// Most reads that one goroutine may cost.
const MAX_READS: u64 = 2000;

pub(crate) struct World<'a> {
    program: &'a Program,
    regions: Vec<(u64, Vec<u8>)>,
    reads: AtomicU64,
}

impl Memory for World<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.copy(address, buf).ok_or(Fault::Unmapped(address))
    }

    fn gather(&self, ranges: &[(u64, usize)], mut buf: &mut [u8]) -> Result<usize, Fault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut total = 0;
        for (address, length) in ranges {
            let (here, rest) = buf.split_at_mut(*length);
            if self.copy(*address, here).is_none() {
                break;
            }
            (buf, total) = (rest, total + length);
        }
        let first = ranges.first().map_or(0, |range| range.0);
        if total == 0 && !ranges.is_empty() { Err(Fault::Unmapped(first)) } else { Ok(total) }
    }
}

impl<'a> World<'a> {
    /// `count` goroutines with these descriptors, which point into `data`.
    pub(crate) fn new(program: &'a Program, descriptors: Vec<u8>, data: &[u8]) -> Self {
        let count = descriptors.len() as u64 / STEP;
        let mut globals = vec![0; 0x1000];
        globals[..8].copy_from_slice(&count.to_le_bytes());
        globals[8..16].copy_from_slice(&LIST.to_le_bytes());
        let list = (0..count).flat_map(|index| (DESCRIPTORS + index * STEP).to_le_bytes()).collect();
        let mut data = data.to_vec();
        data.resize(DATA_SIZE as usize, 0);
        let regions = vec![(GLOBALS, globals), (LIST, list), (DESCRIPTORS, descriptors), (DATA, data)];
        Self { program, regions, reads: AtomicU64::new(0) }
    }

    fn copy(&self, address: u64, buf: &mut [u8]) -> Option<()> {
        for (start, bytes) in &self.regions {
            if address >= *start && address - start < bytes.len() as u64 {
                return read_from(bytes, address - start, buf);
            }
        }
        buf.copy_from_slice(self.program.bytes_at(address, buf.len())?);
        Some(())
    }

    /// Takes the profile, and writes it in a format.
    pub(crate) fn profile(&self, format: u8) {
        let mut binary = self.program.copy();
        binary.globals.allglen = Some(GLOBALS);
        binary.globals.allgptr = Some(GLOBALS + 8);
        let binary = Arc::new(binary);
        let source = self.program.file.clone();
        let mut reader = Reader::new(binary.clone(), source.clone(), 0, Some(0));
        let deadline = Instant::now() + Duration::from_secs(60);
        let Ok((reasons, descriptors)) = reader.begin(self, deadline) else { return };
        self.reads.store(0, Ordering::Relaxed);
        let frames = Frames::new(binary, source, 0);
        let mut out = Vec::new();
        let mut rendering = Rendering::new(
            subject(),
            frames,
            reasons.clone(),
            Filter::default(),
            self::format(format),
            &mut out,
        );
        let chunks = Mutex::new(Vec::new());
        let totals = reader.stacks(self, &reasons, &|chunk| {
            chunks.lock().unwrap().push(chunk);
            true
        });
        let chunks = chunks.into_inner().unwrap();
        let _ = chunks.iter().try_for_each(|chunk| rendering.add(chunk));
        assert!(
            self.reads.load(Ordering::Relaxed) <= MAX_READS * (descriptors as u64 + 1),
            "{} reads",
            self.reads.load(Ordering::Relaxed)
        );
        let end = End { totals: totals.unwrap_or_default(), interrupted: None };
        rendering.finish(&end).unwrap();
    }
}

fn format(number: u8) -> Format {
    match number % 7 {
        0 => Format::Summary(GroupBy::Stack),
        1 => Format::Summary(GroupBy::CreatedBy),
        2 => Format::Debug1,
        3 => Format::Debug2,
        4 => Format::Pprof,
        5 => Format::Json,
        _ => Format::Summary(GroupBy::WaitReason),
    }
}

fn subject() -> Subject {
    Subject {
        pid: 1,
        process: "fuzzed".to_owned(),
        exe: "/fuzzed".to_owned(),
        go_version: "go1.27".to_owned(),
        build_id: String::new(),
        taken_at: SystemTime::UNIX_EPOCH,
        text: (0, u64::MAX),
        labels_in_tracebacks: true,
    }
}

/// A descriptor of a goroutine that stands still.
pub(crate) struct Descriptor<'a> {
    layout: &'a GLayout,
    pub(crate) bytes: Vec<u8>,
}

impl<'a> Descriptor<'a> {
    /// The descriptor with this index.
    pub(crate) fn new(program: &'a Program, index: u64, status: u32) -> Self {
        let layout = &program.binary.layouts.layout().g;
        let mut descriptor = Self { layout, bytes: vec![0; STEP as usize] };
        descriptor.put(|g| g.sched_g, &(DESCRIPTORS + index * STEP).to_le_bytes());
        descriptor.put(|g| g.goid, &(index + 1).to_le_bytes());
        descriptor.put(|g| g.atomicstatus, &status.to_le_bytes());
        descriptor
    }

    pub(crate) fn put(&mut self, at: impl Fn(&GLayout) -> u16, bytes: &[u8]) {
        let at = usize::from(at(self.layout));
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn word(&mut self, at: impl Fn(&GLayout) -> u16, word: u64) {
        self.put(at, &word.to_le_bytes());
    }
}
