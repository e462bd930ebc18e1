//! Every goroutine with its stack, in chunks: of goroutines that have gone nothing is kept, and of those that are
//! there 24 bytes each, so that the stack of one that hasn't run since isn't read again.

use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::census::Goroutine;
use super::descriptors::Slot;
use super::known_stacks::{Knowledge, KnownStacks, NONE, Renumbered};
use super::marks::Marks;
use super::memory::{Fault, Memory, Until};
use super::reader::{Reader, SnapshotError};
use super::stack_pass::{Learnt, Pass};
use super::unwind::Trace;
use super::wait_reasons::WaitReasons;
use super::yielding;
use crate::gobin::Layouts;

pub use super::ages::Bounds;
pub use super::unwind::{INNER, MAX_KEPT};

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
    /// How long it has waited.
    pub waited: Bounds,
    /// Seconds until it wakes up: it sleeps (Go 1.23 and newer).
    pub wakes_in: Option<f64>,
    /// It was seen to run, or to wait for a processor, at each look since so many seconds.
    pub seen_running: Option<f64>,
    /// What is known of its stack.
    pub condition: Condition,
    /// How many functions were left out behind the first [`INNER`].
    pub elided: u64,
    /// Number of its stack: goroutines of one pass with the same number have the same one.
    pub known: Option<u32>,
    pub(super) stack: Range<usize>,
}

impl Record {
    /// A user goroutine that any thread may run, without its stack.
    #[must_use]
    pub const fn new(goroutine: Goroutine, condition: Condition, waited: Bounds) -> Self {
        Self {
            goroutine,
            system: false,
            locked: false,
            marks: Marks { scanned: false, labels: None, bubble: None },
            waited,
            wakes_in: None,
            seen_running: None,
            condition,
            elided: 0,
            known: None,
            stack: 0..0,
        }
    }
}

/// Goroutines that are worth handing over: each time a thread is woken.
const LARGE: usize = 550;
/// Room for those of the batch that makes a chunk large, too: just less than the heap would map anew for each chunk
/// (`heap.rs`).
const ROOM: usize = LARGE + 150;
const _: () = assert!(ROOM * size_of::<Record>() < crate::heap::LARGE);

/// Some goroutines.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Who they are.
    pub records: Vec<Record>,
    pcs: Vec<u64>,
    /// Where known stacks stand in `pcs`.
    known: FxHashMap<u32, Range<usize>>,
}

impl Chunk {
    /// Program counters of a goroutine's functions, the innermost first.
    #[must_use]
    pub fn stack(&self, record: &Record) -> &[u64] {
        self.pcs.get(record.stack.clone()).unwrap_or_default()
    }

    pub(super) fn empty() -> Self {
        Self { records: Vec::with_capacity(ROOM), ..Self::default() }
    }

    /// Whether it is time to hand it over.
    pub(super) const fn is_large(&self) -> bool {
        self.records.len() >= LARGE
    }

    /// Adds a goroutine whose stack is no known one.
    pub(super) fn add(&mut self, mut record: Record, trace: &Trace) {
        (record.stack, record.elided) = (self.place(&trace.pcs), trace.elided);
        self.records.push(record);
    }

    /// Adds a goroutine whose stack is known.
    pub(super) fn add_known(&mut self, mut record: Record, known: &Knowledge<'_>, number: u32) {
        record.known = Some(number);
        record.stack = match self.known.get(&number) {
            Some(stack) => stack.clone(),
            None => {
                let stack = self.place(known.pcs(number).unwrap_or_default());
                self.known.insert(number, stack.clone());
                stack
            }
        };
        self.records.push(record);
    }

    fn place(&mut self, pcs: &[u64]) -> Range<usize> {
        let start = self.pcs.len();
        self.pcs.extend_from_slice(pcs);
        start..self.pcs.len()
    }
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Descriptors that contradicted themselves.
    pub torn: u64,
    /// Descriptors whose memory couldn't be read.
    pub unreadable: u64,
    /// Descriptors that were not looked at because nobody wanted more, or no thread could be had.
    pub skipped: u64,
    /// Goroutines whose stack was not read again, because they have not run since the last pass.
    pub unchanged: u64,
    /// How long it took, whoever took the chunks included.
    pub took: Duration,
}

impl Totals {
    fn add(&mut self, part: &Self) {
        self.torn += part.torn;
        self.unreadable += part.unreadable;
        self.skipped += part.skipped;
        self.unchanged += part.unchanged;
    }

    /// Whether every goroutine was seen.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.torn == 0 && self.unreadable == 0 && self.skipped == 0
    }
}

/// Takes goroutines from several threads at a time; false when no more are wanted.
pub type Emit<'a> = dyn Fn(Chunk) -> bool + Sync + 'a;

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
        // Before whoever takes the goroutines is told, and runs.
        self.helpers = idle_processors().min(MAX_HELPERS);
        Ok((reasons, self.descriptors.slots.len()))
    }

    /// Reads all goroutines and gives them to `emit`, until that returns false. Stacks of goroutines that have
    /// not run since the last time are not read again.
    ///
    /// # Errors
    /// When the target has ended, or closed its memory to us.
    pub fn stacks(
        &mut self,
        memory: &dyn Memory,
        reasons: &WaitReasons,
        emit: &Emit<'_>,
    ) -> Result<Totals, SnapshotError> {
        let began = Instant::now();
        let mut slots = std::mem::take(&mut self.descriptors.slots);
        let mut kept = self.known_stacks(&mut slots);
        let (parts, skipped) = in_parts((&*self, memory, reasons), &mut slots, &kept, emit);
        let mut renumbered = Renumbered::default();
        let mut totals = Totals { torn: self.descriptors.implausible, skipped, ..Totals::default() };
        let mut fault = None;
        for part in parts {
            match part {
                Ok(part) => {
                    self.ages.merge(&part.ages);
                    self.classes.extend(part.classes);
                    renumbered.keep(&mut kept, &part.found);
                    totals.add(&part.totals);
                }
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        slots.iter_mut().for_each(|slot| slot.stack = renumbered.kept(slot.stack));
        (self.descriptors.slots, self.known) = (slots, kept);
        match fault {
            Some(fault) => Err(fault.into()),
            None => Ok(Totals { took: began.elapsed(), ..totals }),
        }
    }

    /// The stacks known so far. If they are too many they begin anew.
    fn known_stacks(&mut self, slots: &mut [Slot]) -> KnownStacks {
        let known = std::mem::replace(&mut self.known, KnownStacks::new());
        if known.is_crowded() {
            slots.iter_mut().for_each(|slot| slot.stack = NONE);
            return KnownStacks::new();
        }
        known
    }
}

/// Goroutines of one target that several threads read: fewer are read before these have started.
const WORTH_THREADS: usize = 16 << 10;
/// Threads of a pass besides the first: they share the target's memory lock.
const MAX_HELPERS: usize = 3;
/// Goroutines that a thread takes at a time: what it has taken is waited for, however little of a processor it gets.
const PIECE: usize = 512;

/// Processors that had nothing to do just now: as many as are left beside what runs or wants to (`/proc/loadavg`,
/// proc_loadavg(5)), this thread included. On a busy machine a helper would have to be waited for.
fn idle_processors() -> usize {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let wants = load.split(' ').nth(3).and_then(|tasks| tasks.split_once('/')?.0.parse().ok());
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    wants.map_or(0, |wants| processors.saturating_sub(wants))
}

/// Threads take piece by piece. All but this one use only processors that nobody else wants. Returns what each has
/// learnt, and how many goroutines nobody looked at because no more were wanted.
fn in_parts(
    (reader, memory, reasons): (&Reader, &dyn Memory, &WaitReasons),
    slots: &mut [Slot],
    kept: &KnownStacks,
    emit: &Emit<'_>,
) -> (Vec<Result<Learnt, Fault>>, u64) {
    let helpers = if slots.len() < WORTH_THREADS { 0 } else { reader.helpers };
    let pieces = Mutex::new(slots.chunks_mut(PIECE));
    let next = |thread: usize| {
        let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        // Neighbours' pages have a lock in common: this thread and the first of the others stay apart.
        if thread == 0 { pieces.next() } else { pieces.next_back() }
    };
    let skipped = AtomicUsize::new(0);
    let run = |thread: usize| {
        let mut pass = Pass::new(reader, memory, reasons, Knowledge::new(kept, thread));
        let mut outcome = Ok(());
        while let (Ok(()), Some(piece)) = (&outcome, next(thread)) {
            match pass.read(piece, emit) {
                // A machine that had room for helpers stays as lively as it was: who woke up here need not wait until
                // this thread's turn is over.
                Ok(true) if helpers > 0 => thread::yield_now(),
                Ok(true) => {}
                Ok(false) => {
                    let left = std::iter::from_fn(|| next(thread)).map(|piece| piece.len()).sum();
                    skipped.fetch_add(left, Ordering::Relaxed);
                }
                Err(fault) => outcome = Err(fault),
            }
        }
        let learnt = pass.finish(emit);
        outcome.map(|()| learnt)
    };
    let parts = thread::scope(|scope| {
        let run = &run;
        // They start before this thread reads. Without them it reads alone.
        let others: Vec<_> = (1..=helpers)
            .filter_map(|number| {
                let thread = thread::Builder::new().name("observer-stacks".to_owned());
                let helper = move || {
                    yielding::yield_to_all();
                    run(number)
                };
                thread.spawn_scoped(scope, helper).ok()
            })
            .collect();
        let own = run(0);
        let others =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    (parts, skipped.into_inner() as u64)
}
