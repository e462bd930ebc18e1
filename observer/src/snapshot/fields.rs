//! What is read of one goroutine's descriptor (`struct g`).

use super::census::{Goroutine, Status};
use crate::gobin::layout::Layout;
use crate::gobin::source::{le32, le64};

/// Where a goroutine goes on, and on which stack. Meaningless while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Program counter of its innermost function.
    pub(super) pc: u64,
    /// Its stack pointer.
    pub(super) sp: u64,
    /// First address of its stack, and the one behind the last.
    pub(super) stack: (u64, u64),
    /// It is in a system call or in C code, and this is where it went there.
    pub(super) in_call: bool,
    /// Monotonic nanoseconds: it has not waited since before then; 0 = unknown (`g.waitsince`).
    pub(super) waiting_since: u64,
    /// Only one thread may run it.
    pub(super) locked: bool,
    /// The garbage collector looks at its stack.
    pub(super) scanned: bool,
    /// Where its profiler labels are; 0 = it has none.
    pub(super) labels: u64,
    /// Where its `testing/synctest` bubble is; 0 = it is in none.
    pub(super) bubble: u64,
}

/// Offsets of the fields of `struct g` that are read.
pub(super) struct Fields {
    status: usize,
    back: usize,
    id: usize,
    parent: Option<usize>,
    reason: usize,
    tracking: usize,
    gopc: usize,
    entry: usize,
    stack: usize,
    sched: (usize, usize),
    syscall: (usize, usize),
    waiting_since: usize,
    locked: usize,
    labels: usize,
    bubble: Option<usize>,
    /// Behind the last of them.
    pub(super) end: usize,
}

/// What a descriptor says.
pub(super) enum Parsed {
    /// A descriptor without a goroutine.
    None,
    /// A goroutine.
    Live(Goroutine),
    /// It contradicts itself.
    Torn,
}

/// The largest stack that is believed; Go's own bound is 1 GiB unless the program changes it.
const MAX_STACK: u64 = 4 << 30;

/// `_Gscan`: the garbage collector looks at the goroutine's stack.
const SCAN: u32 = 0x1000;

impl Fields {
    pub(super) fn of(layout: &Layout) -> Self {
        let g = &layout.g;
        let at = usize::from;
        let fields = Self {
            status: at(g.atomicstatus),
            back: at(g.sched_g),
            id: at(g.goid),
            parent: g.parent_goid.map(at),
            reason: at(g.waitreason),
            tracking: at(g.tracking_seq),
            gopc: at(g.gopc),
            entry: at(g.startpc),
            stack: at(g.stack_lo),
            sched: (at(g.sched_pc), at(g.sched_sp)),
            syscall: (at(g.syscallpc), at(g.syscallsp)),
            waiting_since: at(g.waitsince),
            locked: at(g.lockedm),
            labels: at(g.labels),
            bubble: g.bubble.map(at),
            end: 0,
        };
        let words = [
            fields.status,
            fields.back,
            fields.id,
            fields.gopc,
            fields.entry,
            fields.parent.unwrap_or(0),
            fields.reason,
            fields.tracking,
            fields.stack + 8,
            fields.sched.0.max(fields.sched.1),
            fields.syscall.0.max(fields.syscall.1),
            fields.waiting_since,
            fields.locked,
            fields.labels,
            fields.bubble.unwrap_or(0),
        ];
        Self { end: words.into_iter().max().unwrap_or(0) + 8, ..fields }
    }

    /// Reads a descriptor that stands at `address`.
    pub(super) fn parse(&self, bytes: &[u8], address: u64) -> Parsed {
        let status = match le32(&bytes[self.status..]) & !SCAN {
            // _Gidle, _Gdead, _Gdeadextra: descriptors without a goroutine.
            0 | 6 | 11 => return Parsed::None,
            1 => Status::Runnable,
            // _Gcopystack: its stack grows, which it does while it runs.
            2 | 8 => Status::Running,
            3 => Status::Syscall,
            4 => Status::Waiting,
            9 => Status::Preempted,
            10 => Status::Leaked,
            _ => return Parsed::Torn,
        };
        let id = le64(&bytes[self.id..]);
        if le64(&bytes[self.back..]) != address || id == 0 {
            return Parsed::Torn;
        }
        Parsed::Live(Goroutine {
            id,
            parent: self.parent.map_or(0, |at| le64(&bytes[at..])),
            status,
            wait_reason: bytes[self.reason],
            tracking: bytes[self.tracking],
            gopc: le64(&bytes[self.gopc..]),
            entry: le64(&bytes[self.entry..]),
            stack: self.stack_size(bytes),
            locked: le64(&bytes[self.locked..]) != 0,
        })
    }

    fn stack_size(&self, bytes: &[u8]) -> u64 {
        let (low, high) = (le64(&bytes[self.stack..]), le64(&bytes[self.stack + 8..]));
        high.checked_sub(low).filter(|size| *size <= MAX_STACK).unwrap_or(0)
    }

    /// Where the goroutine stands, in the bytes of a descriptor.
    pub(super) fn standing(&self, bytes: &[u8]) -> Standing {
        let word = |at: usize| le64(&bytes[at..]);
        let in_call = word(self.syscall.1) != 0;
        let (pc, sp) = if in_call { self.syscall } else { self.sched };
        Standing {
            pc: word(pc),
            sp: word(sp),
            stack: (word(self.stack), word(self.stack + 8)),
            in_call,
            waiting_since: word(self.waiting_since),
            locked: word(self.locked) != 0,
            scanned: le32(&bytes[self.status..]) & SCAN != 0,
            labels: word(self.labels),
            bubble: self.bubble.map_or(0, word),
        }
    }
}
