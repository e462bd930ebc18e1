//! What one snapshot counted.

use rustc_hash::FxHashMap;

use crate::gobin::naming::EntryClass;

/// Distinct callsites that are counted one by one. A target with more lies, or is beyond help by a table.
const MAX_CALLSITES: usize = 4096;

/// `g.atomicstatus` (`src/runtime/runtime2.go`), without the scan bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// In a run queue.
    Runnable,
    /// On a thread.
    Running,
    /// In a system call or in C code.
    Syscall,
    /// Parked.
    Waiting,
    /// Stopped by the garbage collector.
    Preempted,
    /// Found unreachable by the goroutine-leak profile (Go 1.26 and newer).
    Leaked,
}

impl Status {
    /// All of them, in the order of the index.
    pub const ALL: [Self; 6] =
        [Self::Runnable, Self::Running, Self::Syscall, Self::Waiting, Self::Preempted, Self::Leaked];

    /// Its name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::Preempted => "preempted",
            Self::Leaked => "leaked",
        }
    }
}

/// One goroutine, as its descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goroutine {
    /// `g.goid`.
    pub id: u64,
    /// `g.parentGoid`; 0 before Go 1.21.
    pub parent: u64,
    /// What it does.
    pub status: Status,
    /// Number of the wait reason; meaningful while it waits.
    pub wait_reason: u8,
    /// `g.trackingSeq`: changes when it stops running.
    pub tracking: u8,
    /// Creation PC in the target.
    pub gopc: u64,
    /// Entry PC in the target.
    pub entry: u64,
    /// Bytes of its stack; 0 when that can't be.
    pub stack: u64,
    /// Only one thread may run it (`runtime.LockOSThread`), which runs nothing else.
    pub locked: bool,
}

impl Goroutine {
    /// Whether it waits for something that has a name.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self.status, Status::Waiting | Status::Leaked)
    }
}

/// A `go` statement and the function it starts: addresses in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallsiteKey {
    /// Creation PC.
    pub gopc: u64,
    /// Entry PC.
    pub entry: u64,
}

impl CallsiteKey {
    /// Where callsites beyond the bound are counted.
    pub const OTHER: Self = Self { gopc: 0, entry: u64::MAX };
}

/// Goroutines of one callsite.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Whose goroutines they are.
    pub class: EntryClass,
    /// User goroutines.
    pub user: u64,
    /// System goroutines.
    pub system: u64,
    /// Waiting user goroutines by reason number.
    pub waiting: Vec<(u8, u64)>,
    /// The longest that a user goroutine was seen in the same park, seconds.
    pub oldest_wait: Option<f64>,
    /// User goroutines by status, in the order of [`Status::ALL`].
    pub states: [u64; 6],
    /// Bytes of the user goroutines' stacks.
    pub stacks: u64,
}

impl Tally {
    const fn new(class: EntryClass) -> Self {
        Self { class, user: 0, system: 0, waiting: Vec::new(), oldest_wait: None, states: [0; 6], stacks: 0 }
    }

    /// What probes count: user and system goroutines.
    #[must_use]
    pub const fn live(&self) -> u64 {
        self.user + self.system
    }
}

/// The counts of one snapshot. Every entry of the target's list is in one of `user`, `system`, `dead`,
/// `torn`, `unreadable` and `skipped`.
#[derive(Debug, Clone)]
pub struct Census {
    /// User goroutines.
    pub user: u64,
    /// System goroutines.
    pub system: u64,
    /// User goroutines by status, in the order of [`Status::ALL`].
    pub states: [u64; 6],
    /// Waiting user goroutines by reason number.
    pub waiting: [u64; 256],
    /// Every callsite that has goroutines.
    pub callsites: Vec<(CallsiteKey, Tally)>,
    /// Bytes of the stacks of all goroutines, system ones included.
    pub stacks: u64,
    /// Goroutines that are locked to a thread, system ones included.
    pub locked: u64,
    /// Descriptors without a goroutine: the runtime keeps them for new ones.
    pub dead: u64,
    /// Descriptors that contradicted themselves, and entries of the list that are none or are there twice.
    pub torn: u64,
    /// Descriptors whose memory couldn't be read.
    pub unreadable: u64,
    /// Descriptors that were not looked at because the time was up.
    pub skipped: u64,
    index: FxHashMap<CallsiteKey, usize>,
    last: usize,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            user: 0,
            system: 0,
            states: [0; 6],
            waiting: [0; 256],
            callsites: Vec::new(),
            stacks: 0,
            locked: 0,
            dead: 0,
            torn: 0,
            unreadable: 0,
            skipped: 0,
            index: FxHashMap::default(),
            last: 0,
        }
    }
}

impl Census {
    /// Counts one goroutine. `waited` = seconds it was seen in the same park; `classify` is asked once per
    /// callsite; `is_idle` tells whether a goroutine for callbacks waits for work with this reason.
    pub fn count(
        &mut self,
        goroutine: &Goroutine,
        waited: Option<f64>,
        classify: impl FnOnce() -> EntryClass,
        is_idle: impl FnOnce(u8) -> bool,
    ) {
        self.stacks += goroutine.stack;
        self.locked += u64::from(goroutine.locked);
        let tally = self.tally(CallsiteKey { gopc: goroutine.gopc, entry: goroutine.entry }, classify);
        let system = match tally.class {
            EntryClass::User => false,
            EntryClass::System => true,
            EntryClass::Callbacks => goroutine.waits() && is_idle(goroutine.wait_reason),
        };
        if system {
            tally.system += 1;
            self.system += 1;
            return;
        }
        tally.user += 1;
        tally.stacks += goroutine.stack;
        tally.states[goroutine.status as usize] += 1;
        if goroutine.waits() {
            match tally.waiting.iter_mut().find(|(reason, _)| *reason == goroutine.wait_reason) {
                Some((_, count)) => *count += 1,
                None => tally.waiting.push((goroutine.wait_reason, 1)),
            }
            tally.oldest_wait = longest(tally.oldest_wait, waited);
            self.waiting[usize::from(goroutine.wait_reason)] += 1;
        }
        self.user += 1;
        self.states[goroutine.status as usize] += 1;
    }

    /// Whether every descriptor was read.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.unreadable == 0 && self.skipped == 0
    }

    /// Number of entries of the target's list.
    #[must_use]
    pub const fn descriptors(&self) -> u64 {
        self.user + self.system + self.dead + self.torn + self.unreadable + self.skipped
    }

    /// Neighbours in memory are often of one callsite, so the last one is tried first.
    fn tally(&mut self, key: CallsiteKey, classify: impl FnOnce() -> EntryClass) -> &mut Tally {
        if self.callsites.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = self.position(key, classify);
        }
        &mut self.callsites[self.last].1
    }

    fn position(&mut self, key: CallsiteKey, classify: impl FnOnce() -> EntryClass) -> usize {
        if let Some(index) = self.index.get(&key) {
            return *index;
        }
        let full = self.callsites.len() >= MAX_CALLSITES;
        let (key, class) = if full { (CallsiteKey::OTHER, EntryClass::User) } else { (key, classify()) };
        if let Some(index) = self.index.get(&key) {
            return *index;
        }
        self.callsites.push((key, Tally::new(class)));
        self.index.insert(key, self.callsites.len() - 1);
        self.callsites.len() - 1
    }
}

fn longest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::{CallsiteKey, Census, Goroutine, MAX_CALLSITES, Status};
    use crate::gobin::naming::EntryClass;

    fn goroutine(gopc: u64, status: Status) -> Goroutine {
        Goroutine {
            id: 1,
            parent: 0,
            status,
            wait_reason: 7,
            tracking: 0,
            gopc,
            entry: 9,
            stack: 2048,
            locked: status == Status::Syscall,
        }
    }

    /// Stacks, locks and states are counted by callsite and in all.
    #[test]
    fn stacks_and_states() {
        let mut census = Census::default();
        for (gopc, status) in [(1, Status::Running), (1, Status::Syscall), (2, Status::Runnable)] {
            census.count(&goroutine(gopc, status), None, || EntryClass::User, |_| false);
        }
        let (_, first) = &census.callsites[0];
        assert_eq!((first.stacks, first.states), (4096, [0, 1, 1, 0, 0, 0]));
        assert_eq!((census.stacks, census.locked, census.states), (6144, 1, [1, 1, 1, 0, 0, 0]));
    }

    /// Goroutines that run callbacks count as system ones only while they wait for work.
    #[test]
    fn callback_goroutines() {
        let mut census = Census::default();
        for (status, idle) in [(Status::Waiting, true), (Status::Waiting, false), (Status::Running, true)] {
            census.count(&goroutine(1, status), None, || EntryClass::Callbacks, |_| idle);
        }
        assert_eq!((census.user, census.system), (2, 1));
        assert_eq!(census.callsites[0].1.live(), 3);
    }

    /// A target that invents callsites can't make the table grow; no goroutine is lost from the totals.
    #[test]
    fn callsites_are_bounded() {
        let mut census = Census::default();
        for gopc in 0..2 * MAX_CALLSITES as u64 {
            census.count(
                &goroutine(gopc, Status::Waiting),
                Some(gopc as f64),
                || EntryClass::User,
                |_| false,
            );
        }
        assert_eq!(census.callsites.len(), MAX_CALLSITES + 1);
        assert_eq!(census.user, 2 * MAX_CALLSITES as u64);
        let (key, other) = &census.callsites[MAX_CALLSITES];
        assert_eq!((*key, other.user), (CallsiteKey::OTHER, MAX_CALLSITES as u64));
        assert_eq!(other.oldest_wait, Some(2.0 * MAX_CALLSITES as f64 - 1.0));
    }
}
