//! Types that both the kernel side and user space read: integers only, `repr(C)`, no padding.

/// Key of [`COUNTS`](crate): one `go` statement of one attached target.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CallsiteKey {
    /// Slot of the target: unique for the life of the observer, so a reused pid can't inherit counts.
    pub slot: u64,
    /// `g.gopc`: address in the target behind the `go` statement's call.
    pub gopc: u64,
    /// `g.startpc`: address in the target of the function the goroutine runs.
    pub entry: u64,
}

/// Value of `COUNTS`, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CallsiteCounts {
    /// Goroutines created.
    pub created: u64,
    /// Goroutines that ended.
    pub exited: u64,
}

/// One `exec` seen by the kernel, sent through the `EXECS` ring buffer.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExecEvent {
    /// Process id in the kernel's initial PID namespace.
    pub pid: u32,
    /// Always 0: keeps the record a multiple of eight bytes.
    pub reserved: u32,
}

/// Index into the per-CPU array `LOSSES`: why an event could not be counted.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// `COUNTS` has no room for another callsite.
    CountsFull = 0,
    /// The goroutine's descriptor could not be read (paged out, or not memory).
    DescriptorUnreadable = 1,
    /// The `EXECS` ring buffer was full.
    ExecsFull = 2,
    /// The kernel had no memory at hand for another callsite.
    CountsNoMemory = 3,
}

impl Loss {
    /// Every reason, in index order.
    pub const ALL: [Self; 4] =
        [Self::CountsFull, Self::DescriptorUnreadable, Self::ExecsFull, Self::CountsNoMemory];
}

/// Index into the per-CPU array `HITS`: which probe ran.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// `go` statements: the call of `runtime.runqput` in `runtime.newproc.func1`.
    Create = 0,
    /// Coroutines (`iter.Pull`): the call of `runtime.newproc1` in `runtime.newcoro.func1`.
    CreateCoroutine = 1,
    /// Ends: `runtime.gdestroy`, before Go 1.22 `runtime.goexit0`.
    Exit = 2,
}

impl Probe {
    /// Every probe, in index order.
    pub const ALL: [Self; 3] = [Self::Create, Self::CreateCoroutine, Self::Exit];

    /// The group that it is put into targets with.
    #[must_use]
    pub const fn group(self) -> Group {
        match self {
            Self::Create | Self::CreateCoroutine | Self::Exit => Group::Lifecycle,
        }
    }
}

/// Probes that are in a target together or not at all: what one of them counts means nothing without the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Group {
    /// Goroutines that start and end.
    Lifecycle,
    /// Goroutines that park, are woken and run again.
    Waits,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 2] = [Self::Lifecycle, Self::Waits];
}

/// The attach cookie: all a probe must know of its target, so that a hit needs no look-up.
///
/// Bits 0–15 hold the offset of `gopc` in the target's `struct g`, the others the target's slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Packs a slot (48 bits are kept) and the offset of `gopc` in bytes.
    #[must_use]
    pub const fn new(slot: u64, gopc_offset: u16) -> Self {
        Self((slot << 16) | gopc_offset as u64)
    }

    /// The target's slot.
    #[must_use]
    pub const fn slot(self) -> u64 {
        self.0 >> 16
    }

    /// Offset of `gopc` in `struct g`, in bytes.
    #[must_use]
    pub const fn gopc_offset(self) -> u64 {
        self.0 & 0xffff
    }
}

/// Compile-time proof that a shared type has no padding: its size is the sum of its fields.
const _: () = {
    assert!(size_of::<CallsiteKey>() == 8 + 8 + 8);
    assert!(size_of::<CallsiteCounts>() == 8 + 8);
    assert!(size_of::<ExecEvent>() == 4 + 4);
};
