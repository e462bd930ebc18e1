//! Every goroutine with its stack, in chunks: nothing that grows with their number is kept.
//!
//! The target runs on meanwhile. A stack counts only if the descriptor says the same before and after it was
//! copied; a goroutine that has moved is looked at again, and in the end reported as moved.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use super::census::{Goroutine, Status};
use super::descriptors::Slot;
use super::fields::{Fields, Parsed, Standing};
use super::marks::{Marker, Marks};
use super::memory::{Fault, MAX_RANGES, Memory, Until};
use super::reader::{Reader, SnapshotError, classify};
use super::stack_memory::{Copied, Live};
use super::unwind::{Trace, unwind};
use super::wait_reasons::WaitReasons;
use crate::gobin::Layouts;
use crate::gobin::naming::EntryClass;
use crate::gobin::places::Places;

pub use super::unwind::{INNER, MAX_KEPT};

/// A stack's used part that is longer is read by itself. Most are a few hundred bytes long.
const MAX_BATCHED: u64 = 8 << 10;
/// Stacks closer than this are copied with what lies between them: nearly all that are 2 KiB long.
const GAP: u64 = 1536;
/// How often a goroutine that moves is looked at.
const ATTEMPTS: usize = 4;
/// The longest stack that a program may ask for is 1 GB; a descriptor that says more is not believed.
const MAX_STACK: u64 = 4 << 30;

/// What is known of a goroutine's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// All of it.
    Whole,
    /// Nothing: it runs.
    Running,
    /// Nothing: whenever it was looked at, it had moved.
    Moved,
    /// Nothing: its memory can't be read.
    Unreadable,
    /// The inner part: further out stands something that is no Go function.
    Cut,
}

impl Condition {
    /// Its name in JSON; none when nothing is missing.
    #[must_use]
    pub const fn missing(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Running => Some("running"),
            Self::Moved => Some("moved"),
            Self::Unreadable => Some("unreadable"),
            Self::Cut => Some("cut"),
        }
    }
}

/// One goroutine.
#[derive(Debug, Clone)]
pub struct Record {
    /// What its descriptor says.
    pub goroutine: Goroutine,
    /// It belongs to the runtime itself.
    pub system: bool,
    /// Only one thread may run it.
    pub locked: bool,
    /// What else it carries.
    pub marks: Marks,
    /// It has not waited longer than this, seconds; `None` = not known.
    pub waited_at_most: Option<f64>,
    /// What is known of its stack.
    pub condition: Condition,
    /// How many functions were left out behind the first [`INNER`].
    pub elided: u64,
    stack: Range<usize>,
}

impl Record {
    /// A user goroutine that any thread may run, without its stack.
    #[must_use]
    pub const fn new(goroutine: Goroutine, condition: Condition, waited_at_most: Option<f64>) -> Self {
        Self {
            goroutine,
            system: false,
            locked: false,
            marks: Marks { scanned: false, labels: None, bubble: None },
            waited_at_most,
            condition,
            elided: 0,
            stack: 0..0,
        }
    }
}

/// Some goroutines.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Who they are.
    pub records: Vec<Record>,
    pcs: Vec<u64>,
}

impl Chunk {
    /// Program counters of a goroutine's functions, the innermost first.
    #[must_use]
    pub fn stack(&self, record: &Record) -> &[u64] {
        self.pcs.get(record.stack.clone()).unwrap_or_default()
    }

    fn add(&mut self, record: Record, trace: &Trace) {
        let start = self.pcs.len();
        self.pcs.extend_from_slice(&trace.pcs);
        self.records.push(Record { stack: start..self.pcs.len(), elided: trace.elided, ..record });
    }
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Descriptors that contradicted themselves.
    pub torn: u64,
    /// Descriptors whose memory couldn't be read.
    pub unreadable: u64,
    /// Descriptors that were not looked at because nobody wanted more.
    pub skipped: u64,
}

impl Totals {
    /// Whether every goroutine was seen.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.torn == 0 && self.unreadable == 0 && self.skipped == 0
    }
}

impl Reader {
    /// Prepares a pass. Returns the names of the wait reasons, and how many descriptors there are.
    ///
    /// # Errors
    /// When nothing can be said about the target.
    pub fn begin(
        &mut self,
        memory: &dyn Memory,
        deadline: Instant,
    ) -> Result<(Arc<WaitReasons>, usize), SnapshotError> {
        if matches!(self.binary.layouts, Layouts::Tried(..)) {
            // What doesn't fit shows only when everything was seen, and by then it would have been reported.
            self.take(memory, deadline)?;
        }
        let reasons = self.prepare(&Until::new(memory, deadline))?;
        Ok((reasons, self.descriptors.slots.len()))
    }

    /// Reads all goroutines and gives them to `emit`, until that returns false.
    ///
    /// # Errors
    /// When the target has ended, or closed its memory to us.
    pub fn stacks(
        &mut self,
        memory: &dyn Memory,
        reasons: &WaitReasons,
        emit: &mut dyn FnMut(Chunk) -> bool,
    ) -> Result<Totals, SnapshotError> {
        let slots = std::mem::take(&mut self.descriptors.slots);
        let totals = Pass::new(self, memory, reasons).run(&slots, emit);
        self.descriptors.slots = slots;
        let implausible = self.descriptors.implausible;
        totals.map(|totals| Totals { torn: totals.torn + implausible, ..totals }).map_err(Into::into)
    }
}

struct Pass<'a> {
    reader: &'a mut Reader,
    memory: &'a dyn Memory,
    reasons: &'a WaitReasons,
    fields: Fields,
    places: Places,
    before: Batch,
    after: Batch,
    stacks: Vec<u8>,
    trace: Trace,
    marker: Marker<'a>,
    marks: Marks,
    totals: Totals,
}

/// A goroutine whose stack is copied along with others.
struct Candidate {
    /// Which of the batch's descriptors it is.
    index: usize,
    goroutine: Goroutine,
    standing: Standing,
    marks: Marks,
    /// Where its stack was copied to; `None` when it has to be looked at by itself.
    copied: Option<Range<usize>>,
}

impl<'a> Pass<'a> {
    fn new(reader: &'a mut Reader, memory: &'a dyn Memory, reasons: &'a WaitReasons) -> Self {
        Self {
            fields: Fields::of(reader.binary.layouts.layout()),
            marker: Marker::new(memory, &reader.binary),
            marks: Marks::default(),
            places: Places::new(reader.binary.clone(), reader.source.clone(), reader.bias),
            reader,
            memory,
            reasons,
            before: Batch::new(),
            after: Batch::new(),
            stacks: Vec::new(),
            trace: Trace::default(),
            totals: Totals::default(),
        }
    }

    fn run(mut self, slots: &[Slot], emit: &mut dyn FnMut(Chunk) -> bool) -> Result<Totals, Fault> {
        let mut next = 0;
        while next < slots.len() {
            let seen = self.batch(&slots[next..], emit)?;
            if seen == 0 {
                self.totals.skipped = (slots.len() - next) as u64;
                break;
            }
            next += seen;
        }
        Ok(self.totals)
    }

    /// Reads the first of `slots`, and returns how many; 0 when no more are wanted.
    fn batch(&mut self, slots: &[Slot], emit: &mut dyn FnMut(Chunk) -> bool) -> Result<usize, Fault> {
        let size = self.fields.end;
        let slots = &slots[..slots.len().min(MAX_RANGES)];
        let planned = self.before.plan(slots, 0, size);
        let read = self.before.read(self.memory, size)?;
        let mut candidates = Vec::new();
        let mut seen = 0;
        self.marker.forget();
        for (index, bytes) in self.before.descriptors(read, size).enumerate().take(planned) {
            seen += 1;
            match self.fields.parse(bytes, slots[index].address) {
                Parsed::None => {}
                Parsed::Torn => self.totals.torn += 1,
                Parsed::Live(goroutine) => {
                    let standing = self.fields.standing(bytes);
                    let marks = self.marker.of(&standing)?;
                    candidates.push(Candidate { index, goroutine, standing, marks, copied: None });
                }
            }
        }
        if seen == 0 {
            self.totals.unreadable += 1;
            // Behind an unreadable one there may be many.
            self.before.most = 1;
            return Ok(1);
        }
        self.before.most = self.before.most.saturating_mul(2);
        self.copy_stacks(&mut candidates)?;
        self.after.plan(&slots[..seen], 0, size);
        let read = self.after.read(self.memory, size)?;
        let chunk = self.judge(&slots[..seen], candidates, read)?;
        Ok(if emit(chunk) { seen } else { 0 })
    }

    /// Copies the stacks of those that wait and have a short one.
    fn copy_stacks(&mut self, candidates: &mut [Candidate]) -> Result<(), Fault> {
        let mut wanted: Vec<&mut Candidate> =
            candidates.iter_mut().filter(|candidate| candidate.is_batched()).collect();
        wanted.sort_unstable_by_key(|candidate| candidate.standing.sp);
        let mut wanted = &mut wanted[..];
        let mut start = 0;
        while !wanted.is_empty() {
            let (ranges, end) = plan(wanted, start);
            if self.stacks.len() < end {
                self.stacks.resize(end, 0);
            }
            let read = match self.memory.gather(&ranges, &mut self.stacks[start..end]) {
                Ok(read) => start + read,
                Err(Fault::Unmapped(_)) => start,
                Err(fault) => return Err(fault),
            };
            let arrived = |candidate: &Candidate| candidate.copied.as_ref().is_some_and(|at| at.end <= read);
            let first = wanted.iter().position(|candidate| !arrived(candidate)).unwrap_or(wanted.len());
            if let Some(candidate) = wanted.get_mut(first) {
                // It can't be read with others. Those behind it are tried without it.
                candidate.copied = None;
            }
            let next = (first + 1).min(wanted.len());
            wanted = &mut std::mem::take(&mut wanted)[next..];
            start = read;
        }
        Ok(())
    }

    /// Unwinds the stacks whose descriptors say what they said before.
    fn judge(&mut self, slots: &[Slot], candidates: Vec<Candidate>, read: usize) -> Result<Chunk, Fault> {
        let after = std::mem::replace(&mut self.after, Batch::new());
        let again: Vec<&[u8]> = after.descriptors(read, self.fields.end).collect();
        let mut chunk = Chunk::default();
        for mut candidate in candidates {
            let address = slots[candidate.index].address;
            self.marks = std::mem::take(&mut candidate.marks);
            let unmoved = again
                .get(candidate.index)
                .is_some_and(|bytes| candidate.is_seen_in(&self.fields, bytes, address));
            match candidate.copied.clone() {
                Some(range) if unmoved => {
                    let bytes = std::mem::take(&mut self.stacks);
                    let condition = self.unwind_copy(&candidate.standing, &bytes[range]);
                    self.stacks = bytes;
                    self.add(&mut chunk, &candidate.goroutine, &candidate.standing, condition);
                }
                _ if candidate.goroutine.status == Status::Running => {
                    self.trace = Trace::default();
                    if !unmoved {
                        self.marks = Marks::default();
                    }
                    self.add(&mut chunk, &candidate.goroutine, &candidate.standing, Condition::Running);
                }
                _ => self.look_again(&mut chunk, &candidate, address)?,
            }
        }
        self.after = after;
        Ok(chunk)
    }

    fn unwind_copy(&mut self, standing: &Standing, bytes: &[u8]) -> Condition {
        let mut stack = Copied { places: &mut self.places, bytes, start: standing.sp };
        if unwind(&mut stack, standing.pc, standing.sp, &mut self.trace) {
            Condition::Whole
        } else {
            Condition::Cut
        }
    }

    /// Looks at one goroutine by itself, until it stands still meanwhile.
    fn look_again(&mut self, chunk: &mut Chunk, first: &Candidate, address: u64) -> Result<(), Fault> {
        let (mut goroutine, mut standing) = (first.goroutine, first.standing);
        let mut condition = Condition::Moved;
        for _ in 0..ATTEMPTS {
            match self.descriptor(address)? {
                Some((now, _)) if now.status == Status::Running => {
                    (goroutine, condition) = (now, Condition::Running);
                }
                Some((now, stands)) => {
                    (goroutine, standing) = (now, stands);
                    match self.unwind_live(&now, &stands, address)? {
                        Some(found) => condition = found,
                        None => continue,
                    }
                }
                // It has ended: that is no goroutine any more.
                None => return Ok(()),
            }
            break;
        }
        if !matches!(condition, Condition::Whole | Condition::Cut) {
            self.trace = Trace::default();
        }
        if matches!(condition, Condition::Running | Condition::Moved) {
            self.marks = Marks::default();
        }
        self.add(chunk, &goroutine, &standing, condition);
        Ok(())
    }

    /// Unwinds a stack while reading it; `None` when it moved meanwhile.
    fn unwind_live(
        &mut self,
        goroutine: &Goroutine,
        standing: &Standing,
        address: u64,
    ) -> Result<Option<Condition>, Fault> {
        if !standing.is_plausible() {
            return Ok(None);
        }
        self.marks = self.marker.of(standing)?;
        let first = self.walk(standing);
        // Since Go 1.26 a short system call leaves no trace in the descriptor: two looks must agree.
        let agrees = !standing.in_call || {
            let trace = std::mem::take(&mut self.trace);
            self.walk(standing) == first && self.trace == trace
        };
        let unmoved = self
            .descriptor(address)?
            .is_some_and(|(now, stands)| now == *goroutine && stands.is_same_place(standing));
        Ok((agrees && unmoved).then_some(first))
    }

    fn walk(&mut self, standing: &Standing) -> Condition {
        let mut stack = Live {
            places: &mut self.places,
            memory: self.memory,
            end: standing.stack.1,
            bytes: Vec::new(),
            start: standing.sp,
            unreadable: false,
        };
        let whole = unwind(&mut stack, standing.pc, standing.sp, &mut self.trace);
        match (whole, stack.unreadable) {
            (true, _) => Condition::Whole,
            (false, true) => Condition::Unreadable,
            (false, false) => Condition::Cut,
        }
    }

    /// A descriptor as it is now; `None` when it holds no goroutine.
    fn descriptor(&self, address: u64) -> Result<Option<(Goroutine, Standing)>, Fault> {
        let mut bytes = vec![0; self.fields.end];
        match self.memory.read(address, &mut bytes) {
            Ok(()) => {}
            Err(Fault::Unmapped(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        }
        Ok(match self.fields.parse(&bytes, address) {
            Parsed::Live(goroutine) => Some((goroutine, self.fields.standing(&bytes))),
            Parsed::None | Parsed::Torn => None,
        })
    }

    fn add(&mut self, chunk: &mut Chunk, goroutine: &Goroutine, standing: &Standing, condition: Condition) {
        let entry = goroutine.entry.wrapping_sub(self.reader.bias);
        let class = classify(&mut self.reader.classes, &self.reader.binary, &*self.reader.source, entry);
        let system = match class {
            EntryClass::User => false,
            EntryClass::System => true,
            EntryClass::Callbacks => {
                goroutine.waits() && self.reasons.is_callback_idle(goroutine.wait_reason)
            }
        };
        let waits = matches!(goroutine.status, Status::Waiting | Status::Leaked | Status::Syscall);
        let waited_at_most = waits.then(|| standing.waited_at_most()).flatten();
        let record = Record::new(*goroutine, condition, waited_at_most);
        let marks = std::mem::take(&mut self.marks);
        chunk.add(Record { system, locked: standing.locked, marks, ..record }, &self.trace);
    }
}

/// Where the stacks of `wanted`, sorted by address, are copied from, and to, from `start` on. Neighbours are
/// copied with what lies between them: that costs less than to look their pages up twice.
fn plan(wanted: &mut [&mut Candidate], start: usize) -> (Vec<(u64, usize)>, usize) {
    let mut ranges: Vec<(u64, usize)> = Vec::with_capacity(wanted.len());
    let mut total = start;
    for candidate in wanted {
        let (sp, end) = (candidate.standing.sp, candidate.standing.stack.1);
        match ranges.last_mut() {
            Some((base, length)) if sp - *base <= *length as u64 + GAP => {
                let longer = ((end - *base) as usize).saturating_sub(*length);
                *length += longer;
                total += longer;
            }
            _ => {
                ranges.push((sp, (end - sp) as usize));
                total += (end - sp) as usize;
            }
        }
        // The last range ends at `total`.
        if let Some((base, length)) = ranges.last() {
            let at = total - *length + (sp - *base) as usize;
            candidate.copied = Some(at..at + (end - sp) as usize);
        }
    }
    (ranges, total)
}

impl Candidate {
    fn is_batched(&self) -> bool {
        let stands = &self.standing;
        !matches!(self.goroutine.status, Status::Running | Status::Syscall)
            && !stands.in_call
            && stands.is_plausible()
            && stands.stack.1 - stands.sp <= MAX_BATCHED
    }

    /// Whether a descriptor that was read again still says the same.
    fn is_seen_in(&self, fields: &Fields, bytes: &[u8], address: u64) -> bool {
        matches!(fields.parse(bytes, address), Parsed::Live(now) if now == self.goroutine)
            && fields.standing(bytes).is_same_place(&self.standing)
    }
}

impl Standing {
    /// Whether its stack pointer is in its stack.
    const fn is_plausible(&self) -> bool {
        let (low, high) = self.stack;
        low < self.sp
            && self.sp < high
            && high - low <= MAX_STACK
            && self.sp.is_multiple_of(8)
            && high.is_multiple_of(8)
    }

    fn is_same_place(&self, other: &Self) -> bool {
        // When it began to wait is noted by the garbage collector, whenever that comes by.
        Self { waiting_since: other.waiting_since, scanned: other.scanned, ..*self } == *other
    }

    fn waited_at_most(&self) -> Option<f64> {
        if self.waiting_since == 0 {
            return None;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
        Some(now - self.waiting_since as f64 / 1e9).filter(|seconds| *seconds >= 0.0)
    }
}
