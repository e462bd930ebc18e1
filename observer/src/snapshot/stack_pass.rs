//! One pass over all goroutines and their stacks.
//!
//! The target runs on meanwhile. A stack counts only if the descriptor says the same before and after it was
//! copied; a goroutine that has moved is looked at again, and in the end reported as moved.

use std::ops::Range;

use super::ages::{Ages, Bounds, Look, Seen};
use super::batch::Batch;
use super::census::{Goroutine, Status};
use super::descriptors::Slot;
use super::fields::{Fields, Parsed, Standing};
use super::known_stacks::{Key, Knowledge, KnownStacks};
use super::marks::{Marker, Marks};
use super::memory::{Fault, MAX_RANGES, Memory};
use super::reader::{Classes, Reader, classify};
use super::stack_memory::{Copied, Live};
use super::stacks::{Chunk, Condition, Emit, Record, Totals};
use super::unwind::{Trace, unwind};
use super::wait_reasons::WaitReasons;
use crate::gobin::layout::Layout;
use crate::gobin::naming::EntryClass;
use crate::gobin::places::Places;

/// A stack's used part that is longer is read by itself. Most are a few hundred bytes long.
const MAX_BATCHED: u64 = 8 << 10;
/// Stacks closer than this are copied with what lies between them: to copy half a page more costs less than to
/// begin anew. Nearly all stacks are 2 KiB long, so that neighbours are copied as one.
const GAP: u64 = 2560;
/// How often a goroutine that moves is looked at.
const ATTEMPTS: usize = 4;

pub(super) struct Pass<'a> {
    reader: &'a Reader,
    pub(super) memory: &'a dyn Memory,
    reasons: &'a WaitReasons,
    known: Knowledge<'a>,
    ages: Ages,
    classes: Classes,
    /// Reasons with a meaning of their own: a wait that ends without a trace, and one that ends at a known time.
    coroutine: Option<u8>,
    sleep: Option<u8>,
    fields: Fields,
    places: Places,
    look: Look,
    before: Batch,
    after: Batch,
    stacks: Vec<u8>,
    /// What the unwinder read of the stack at hand.
    words: Vec<(u32, u64)>,
    pub(super) trace: Trace,
    marker: Marker<'a>,
    totals: Totals,
    chunk: Chunk,
}

/// What a thread of a pass leaves behind.
pub(super) struct Learnt {
    pub(super) totals: Totals,
    pub(super) ages: Ages,
    pub(super) classes: Classes,
    pub(super) found: KnownStacks,
}

/// A goroutine whose stack is read.
struct Candidate {
    /// Which of the batch's descriptors it is.
    index: usize,
    goroutine: Goroutine,
    standing: Standing,
    seen: Seen,
    marks: Marks,
    /// Number of the stack that it has had since an earlier pass; what else it carries must be confirmed.
    known: Option<u32>,
    /// Where its stack was copied to along with others; `None` when it has to be looked at by itself.
    copied: Option<Range<usize>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        memory: &'a dyn Memory,
        reasons: &'a WaitReasons,
        known: Knowledge<'a>,
    ) -> Self {
        Self {
            coroutine: reasons.number("coroutine"),
            sleep: reasons.number("sleep"),
            fields: Fields::of(reader.binary.layouts.layout()),
            places: Places::new(reader.binary.clone(), reader.source.clone(), reader.bias),
            look: reader.ages.look(|| ()).0,
            ages: reader.ages.clone(),
            classes: reader.classes.clone(),
            reader,
            memory,
            reasons,
            known,
            before: Batch::new(),
            after: Batch::new(),
            stacks: Vec::new(),
            words: Vec::new(),
            trace: Trace::default(),
            marker: Marker::new(memory, &reader.binary),
            totals: Totals::default(),
            chunk: Chunk::empty(),
        }
    }

    /// Reads some goroutines; false when no more are wanted.
    pub(super) fn read(&mut self, slots: &mut [Slot], emit: &Emit<'_>) -> Result<bool, Fault> {
        let mut next = 0;
        while next < slots.len() {
            next += self.batch(&mut slots[next..])?;
            if self.chunk.is_large() && !emit(std::mem::replace(&mut self.chunk, Chunk::empty())) {
                self.totals.skipped += (slots.len() - next) as u64;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands over what is left: whatever happened then, what was read before is true.
    pub(super) fn finish(self, emit: &Emit<'_>) -> Learnt {
        emit(self.chunk);
        let found = self.known.into_found();
        Learnt { totals: self.totals, ages: self.ages, classes: self.classes, found }
    }

    /// Reads the first of `slots`, and returns how many.
    fn batch(&mut self, slots: &mut [Slot]) -> Result<usize, Fault> {
        let size = self.fields.end;
        let most = slots.len().min(MAX_RANGES);
        let slots = &mut slots[..most];
        self.before.plan(slots, 0, size);
        let (look, read) = self.ages.look(|| self.before.read(self.memory, size));
        let read = read?;
        self.look = look;
        let (seen, mut candidates) = self.sort(slots, read)?;
        if seen == 0 {
            self.totals.unreadable += 1;
            // Behind an unreadable one there may be many.
            self.before.most = 1;
            return Ok(1);
        }
        self.before.most = self.before.most.saturating_mul(2);
        if !candidates.is_empty() {
            self.copy_stacks(&mut candidates)?;
            let again: Vec<Slot> = candidates.iter().map(|candidate| slots[candidate.index]).collect();
            self.after.plan(&again, 0, size);
            let read = self.after.read(self.memory, size)?;
            self.judge(slots, &mut candidates, read)?;
        }
        Ok(seen)
    }

    /// Looks at the descriptors that were copied. Returns how many, and those whose stacks must be read.
    fn sort(&mut self, slots: &mut [Slot], read: usize) -> Result<(usize, Vec<Candidate>), Fault> {
        self.marker.forget();
        let before = std::mem::replace(&mut self.before, Batch::new());
        let mut candidates = Vec::new();
        let mut looked_at = 0;
        for (index, bytes) in before.descriptors(read, self.fields.end).enumerate() {
            looked_at += 1;
            let Some(slot) = slots.get_mut(index) else { break };
            let goroutine = match self.fields.parse(bytes, slot.address) {
                Parsed::Live(goroutine) => goroutine,
                Parsed::None => {
                    slot.forget();
                    continue;
                }
                Parsed::Torn => {
                    slot.forget();
                    self.totals.torn += 1;
                    continue;
                }
            };
            let standing = self.fields.standing(bytes);
            let seen = self.see(slot, &goroutine, &standing);
            let known = self.known.has(slot.stack).then_some(slot.stack);
            self.totals.unchanged += u64::from(known.is_some());
            if let Some(number) = known.filter(|_| standing.labels == 0 && standing.bubble == 0) {
                let mut record = self.record(&goroutine, &standing, seen, Condition::Whole);
                record.marks.scanned = standing.scanned;
                self.chunk.add_known(record, &self.known, number);
            } else {
                let marks = self.marker.of(&standing)?;
                candidates.push(Candidate { index, goroutine, standing, seen, marks, known, copied: None });
            }
        }
        self.before = before;
        Ok((looked_at, candidates))
    }

    /// Structure offsets of the target's Go version.
    pub(super) fn layout(&self) -> &Layout {
        self.reader.binary.layouts.layout()
    }

    fn see(&mut self, slot: &mut Slot, goroutine: &Goroutine, standing: &Standing) -> Seen {
        self.ages.note(standing.waiting_since, self.look);
        slot.see(goroutine, standing, self.look)
    }

    /// Copies the stacks of those that wait and have a short one.
    fn copy_stacks(&mut self, candidates: &mut [Candidate]) -> Result<(), Fault> {
        let mut wanted: Vec<&mut Candidate> = candidates
            .iter_mut()
            .filter(|candidate| candidate.known.is_none() && candidate.is_batched())
            .collect();
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
    fn judge(&mut self, slots: &mut [Slot], candidates: &mut [Candidate], read: usize) -> Result<(), Fault> {
        let after = std::mem::replace(&mut self.after, Batch::new());
        let stacks = std::mem::take(&mut self.stacks);
        let mut again = after.descriptors(read, self.fields.end);
        for candidate in candidates {
            let slot = &mut slots[candidate.index];
            let before = self.before.descriptor(candidate.index, self.fields.end);
            let unmoved = again
                .next()
                .is_some_and(|bytes| candidate.is_seen_in(&self.fields, before, bytes, slot.address));
            let copied = candidate.copied.clone().and_then(|range| stacks.get(range));
            match (copied, candidate.known) {
                (_, Some(number)) if unmoved => self.add_known(candidate, number),
                (Some(bytes), _) if unmoved => self.unwind_copy(slot, candidate, bytes),
                _ if candidate.goroutine.status == Status::Running => {
                    let Candidate { goroutine, standing, .. } = &*candidate;
                    let condition = self.running(goroutine, standing, slot.address)?;
                    if !unmoved {
                        candidate.marks = Marks::default();
                    }
                    self.add(candidate, condition);
                }
                _ => self.look_again(slot, candidate)?,
            }
        }
        drop(again);
        (self.after, self.stacks) = (after, stacks);
        Ok(())
    }

    /// Finds the copy of a stack among the known ones, or unwinds it.
    fn unwind_copy(&mut self, slot: &mut Slot, candidate: &Candidate, bytes: &[u8]) {
        let Candidate { goroutine, standing, .. } = candidate;
        let key = Key { pc: standing.pc, size: bytes.len() as u64, entry: goroutine.entry };
        let mut known = self.known.find(&key, bytes);
        let mut condition = Condition::Whole;
        if known.is_none() {
            self.words.clear();
            let (places, read) = (&mut self.places, &mut self.words);
            let mut stack = Copied { places, bytes, start: standing.sp, read };
            if unwind(&mut stack, standing.pc, standing.sp, &mut self.trace) {
                known = self.known.insert(key, &self.words, &self.trace);
            } else {
                condition = Condition::Cut;
            }
        }
        match known {
            Some(number) => {
                if self.leaves_traces(goroutine) {
                    slot.stack = number;
                }
                self.add_known(candidate, number);
            }
            None => self.add(candidate, condition),
        }
    }

    /// Whether it would be seen next time that a goroutine has run since. Coroutines hand over to each other
    /// without a trace.
    fn leaves_traces(&self, goroutine: &Goroutine) -> bool {
        goroutine.waits() && !self.reasons.is_empty() && self.coroutine != Some(goroutine.wait_reason)
    }

    /// Looks at one goroutine by itself, until it stands still meanwhile.
    fn look_again(&mut self, slot: &mut Slot, candidate: &mut Candidate) -> Result<(), Fault> {
        let mut condition = Condition::Moved;
        for _ in 0..ATTEMPTS {
            let (look, descriptor) = self.ages.look(|| self.descriptor(slot.address));
            self.look = look;
            match descriptor? {
                Some((now, stands)) => {
                    candidate.seen = self.see(slot, &now, &stands);
                    (candidate.goroutine, candidate.standing) = (now, stands);
                    if now.status == Status::Running {
                        condition = self.running(&now, &stands, slot.address)?;
                        break;
                    }
                    candidate.marks = self.marker.of(&stands)?;
                    match self.unwind_live(&now, &stands, slot.address)? {
                        Some(found) => condition = found,
                        None => continue,
                    }
                }
                // It has ended: that is no goroutine any more.
                None => {
                    slot.forget();
                    return Ok(());
                }
            }
            break;
        }
        if !matches!(condition, Condition::Whole | Condition::Cut) {
            self.trace.clear();
        }
        if matches!(condition, Condition::Moved) || candidate.goroutine.status == Status::Running {
            candidate.marks = Marks::default();
        }
        self.add(candidate, condition);
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

    pub(super) fn walk(&mut self, standing: &Standing) -> Condition {
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
    pub(super) fn descriptor(&self, address: u64) -> Result<Option<(Goroutine, Standing)>, Fault> {
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

    /// Adds a goroutine with the stack that was unwound last.
    fn add(&mut self, candidate: &Candidate, condition: Condition) {
        let record = self.record_of(candidate, condition);
        self.chunk.add(record, &self.trace);
    }

    /// Adds a goroutine with a known stack.
    fn add_known(&mut self, candidate: &Candidate, number: u32) {
        let record = self.record_of(candidate, Condition::Whole);
        self.chunk.add_known(record, &self.known, number);
    }

    fn record_of(&mut self, candidate: &Candidate, condition: Condition) -> Record {
        let mut record = self.record(&candidate.goroutine, &candidate.standing, candidate.seen, condition);
        record.marks.clone_from(&candidate.marks);
        record
    }

    fn record(
        &mut self,
        goroutine: &Goroutine,
        standing: &Standing,
        seen: Seen,
        condition: Condition,
    ) -> Record {
        let entry = goroutine.entry.wrapping_sub(self.reader.bias);
        let class = classify(&mut self.classes, &self.reader.binary, &*self.reader.source, entry);
        let system = match class {
            EntryClass::User => false,
            EntryClass::System => true,
            EntryClass::Callbacks => {
                goroutine.waits() && self.reasons.is_callback_idle(goroutine.wait_reason)
            }
        };
        let mut record = Record::new(*goroutine, condition, Bounds::default());
        if goroutine.waits() || goroutine.status == Status::Syscall {
            record.waited = self.ages.noted(standing.waiting_since, self.look).and_seen(seen);
        } else {
            record.seen_running = seen.again.then_some(seen.seconds);
        }
        if goroutine.waits() && Some(goroutine.wait_reason) == self.sleep && standing.sleeps_until != 0 {
            record.wakes_in = self.look.until(standing.sleeps_until);
        }
        (record.system, record.locked) = (system, standing.locked);
        record
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
    fn is_seen_in(&self, fields: &Fields, before: Option<&[u8]>, bytes: &[u8], address: u64) -> bool {
        // Nearly always nothing has changed: then there is nothing to take apart.
        before == Some(bytes)
            || matches!(fields.parse(bytes, address), Parsed::Live(now) if now == self.goroutine)
                && fields.standing(bytes).is_same_place(&self.standing)
    }
}
