//! Types that both the kernel side and user space read: integers only, `repr(C)`, no padding.

/// Key of [`COUNTS`](crate): one `go` statement of one attached target.
///
/// In the order of `struct g`, where `gopc`, `ancestors` and `startpc` follow one another: a probe reads all three
/// to where the key is, and overwrites what isn't of it. Its stack has no room to spare, see `probe/object.rs`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CallsiteKey {
    /// `g.gopc`: address in the target behind the `go` statement's call.
    pub gopc: u64,
    /// Slot of the target: unique for the life of the observer, so a reused pid can't inherit counts.
    pub slot: u64,
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
    /// Times that its goroutines parked.
    pub parked: u64,
    /// Samples of the CPU clock that found one of its goroutines running.
    pub on_cpu: u64,
}

impl CallsiteKey {
    /// Time on a CPU without a goroutine: the scheduler, signal handlers, threads that only run C.
    #[must_use]
    pub const fn no_goroutine(slot: u64) -> Self {
        Self { slot, gopc: 0, entry: 0 }
    }

    /// Time on a CPU where the goroutine could not be read.
    #[must_use]
    pub const fn unreadable(slot: u64) -> Self {
        Self { slot, gopc: 0, entry: 1 }
    }
}

/// Value of `SAMPLED`: how to find the goroutine that a thread of a target runs. Offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sampled {
    /// The target's slot.
    pub slot: u64,
    /// What to add to the thread pointer to find the pointer to the current `g`.
    pub tls_offset: i64,
    /// Of `m` in `struct g`.
    pub g_m: u64,
    /// Of `sched.g` in `struct g`, which points to the `g` itself.
    pub g_sched_g: u64,
    /// Of `gopc` in `struct g`.
    pub g_gopc: u64,
    /// Of `curg` in `struct m`.
    pub m_curg: u64,
}

impl Sampled {
    /// Its fields in order.
    #[must_use]
    pub const fn words(&self) -> [u64; 6] {
        [self.slot, self.tls_offset as u64, self.g_m, self.g_sched_g, self.g_gopc, self.m_curg]
    }
}

/// Where the kernel keeps what samples and kills are told by, from its type information; and which PID namespace ours is.
/// Offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KernelLayout {
    /// Of `thread.fsbase` in `struct task_struct`.
    pub task_fsbase: u32,
    /// Of `group_leader` in `struct task_struct`.
    pub task_group_leader: u32,
    /// Of `thread_pid` in `struct task_struct`.
    pub task_thread_pid: u32,
    /// Of `level` in `struct pid`.
    pub pid_level: u32,
    /// Of `numbers` in `struct pid`.
    pub pid_numbers: u32,
    /// Bytes in `struct upid`.
    pub upid_size: u32,
    /// Of `nr` in `struct upid`.
    pub upid_nr: u32,
    /// Of `ns` in `struct upid`.
    pub upid_ns: u32,
    /// Of `ns.inum` in `struct pid_namespace`.
    pub ns_inum: u32,
    /// Inode number of the observer's PID namespace.
    pub own_ns: u32,
}

impl KernelLayout {
    /// Its fields in order.
    #[must_use]
    pub const fn words(&self) -> [u32; 10] {
        [
            self.task_fsbase,
            self.task_group_leader,
            self.task_thread_pid,
            self.pid_level,
            self.pid_numbers,
            self.upid_size,
            self.upid_nr,
            self.upid_ns,
            self.ns_inum,
            self.own_ns,
        ]
    }
}

/// Key of `PARKED`: one goroutine descriptor of one attached target.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ParkedKey {
    /// The target's slot.
    pub slot: u64,
    /// Address of the `g` in the target.
    pub g: u64,
}

/// Value of `PARKED`: where a goroutine is between parking and running. Times are `CLOCK_MONOTONIC`, in
/// nanoseconds, and 0 for what hasn't happened.
///
/// It stays when the goroutine runs, with `parked_at` 0: the next park then needs no new room.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Parked {
    /// When it parked, if it waits.
    pub parked_at: u64,
    /// When it was made ready, if it waits for a processor.
    pub ready_at: u64,
    /// When it was made ready without having been seen to park: it waited since before the probes came.
    pub woken_unseen_at: u64,
    /// `g.waitreason` of that wait.
    pub woken_reason: u64,
    /// `g.waitreason` of the last park.
    pub reason: u64,
}

impl Parked {
    /// Nothing happened yet.
    pub const NONE: Self = Self { parked_at: 0, ready_at: 0, woken_unseen_at: 0, woken_reason: 0, reason: 0 };
}

/// Key of `WAITS`: one wait reason of one attached target.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct WaitKey {
    /// The target's slot.
    pub slot: u64,
    /// `g.waitreason`.
    pub reason: u64,
}

/// Value of `WAITS`, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WaitCounts {
    /// Times that goroutines parked.
    pub parks: u64,
    /// From parking to `runtime.ready`; not for wake-ups by the network poller, which don't pass there.
    pub until_ready: Durations,
    /// From parking to running again.
    pub until_run: Durations,
    /// From `runtime.ready` to running: time in a run queue.
    pub queued: Durations,
}

impl WaitCounts {
    /// Nothing happened yet.
    pub const NONE: Self =
        Self { parks: 0, until_ready: Durations::NONE, until_run: Durations::NONE, queued: Durations::NONE };
}

/// Durations by powers of two: bucket 0 is below 1.024 µs, each next one twice as wide, and the last one
/// begins at 68.7 s.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Durations {
    /// Number of durations in each bucket.
    pub buckets: [u64; Self::BUCKETS],
    /// All durations together, in nanoseconds.
    pub sum_ns: u64,
}

impl Durations {
    /// No duration.
    pub const NONE: Self = Self { buckets: [0; Self::BUCKETS], sum_ns: 0 };
    /// Number of buckets.
    pub const BUCKETS: usize = 28;
    /// Bucket 0 ends at two to this power, in nanoseconds.
    const FIRST_POWER: u32 = 10;

    /// The bucket of a duration.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(nanoseconds: u64) -> usize {
        let index = (u64::BITS - (nanoseconds >> Self::FIRST_POWER).leading_zeros()) as usize;
        if index < Self::BUCKETS { index } else { Self::BUCKETS - 1 }
    }

    /// Where a bucket ends, in nanoseconds; the last one doesn't.
    #[must_use]
    pub const fn end_ns(bucket: usize) -> Option<u64> {
        if bucket + 1 < Self::BUCKETS { Some(1 << (Self::FIRST_POWER + bucket as u32)) } else { None }
    }
}

/// What happened to a process, sent through the ring buffer `PROCESSES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessEvent {
    /// Process id in the kernel's initial PID namespace.
    pub pid: u32,
    /// A [`ProcessChange`].
    pub change: u32,
}

/// What happened to a process.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessChange {
    /// It executed a program.
    Exec = 0,
    /// The kernel kills it for lack of memory. May be told more than once of a process.
    OomKill = 1,
}

/// Index into the per-CPU array `LOSSES`: why an event could not be counted.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// `COUNTS` has no room for another callsite.
    CountsFull = 0,
    /// The goroutine's descriptor could not be read (paged out, or not memory).
    DescriptorUnreadable = 1,
    /// The ring buffer `PROCESSES` was full.
    ProcessesFull = 2,
    /// The kernel had no memory at hand for another callsite.
    CountsNoMemory = 3,
    /// `PARKED` has no room for another goroutine: it parked, but for how long is unknown.
    ParkedFull = 4,
    /// `WAITS` has no room for another wait reason.
    WaitsFull = 5,
    /// The kernel had no memory at hand for another goroutine or wait reason.
    WaitsNoMemory = 6,
}

impl Loss {
    /// Every reason, in index order.
    pub const ALL: [Self; 7] = [
        Self::CountsFull,
        Self::DescriptorUnreadable,
        Self::ProcessesFull,
        Self::CountsNoMemory,
        Self::ParkedFull,
        Self::WaitsFull,
        Self::WaitsNoMemory,
    ];
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
    /// Goroutines that run: `runtime.execute`.
    Run = 3,
    /// Wake-ups: `runtime.ready`.
    Ready = 4,
    /// Goroutines that park: `runtime.park_m`.
    Park = 5,
}

impl Probe {
    /// Every probe, in index order.
    pub const ALL: [Self; 6] =
        [Self::Create, Self::CreateCoroutine, Self::Exit, Self::Run, Self::Ready, Self::Park];

    /// The group that it is put into targets with.
    #[must_use]
    pub const fn group(self) -> Group {
        match self {
            Self::Create | Self::CreateCoroutine | Self::Exit => Group::Lifecycle,
            Self::Run | Self::Ready | Self::Park => Group::Waits,
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

/// The attach cookie: all that is to be known of a site when its probe runs, so that a hit needs no look-up.
///
/// From the lowest bit: 12 bits with the offset of `gopc` in the target's `struct g`, 12 with that of
/// `waitreason`, 3 with the probe, 37 with the target's slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Bits that hold a slot.
    pub const SLOT_BITS: u32 = 37;
    const OFFSET_BITS: u32 = 12;
    const OFFSET_MASK: u64 = (1 << Self::OFFSET_BITS) - 1;
    const PROBE_BITS: u32 = 3;

    /// Packs a slot, a probe and the offsets of `gopc` and `waitreason` in bytes; `None` if one doesn't fit.
    #[must_use]
    pub const fn new(slot: u64, probe: Probe, gopc_offset: u16, waitreason_offset: u16) -> Option<Self> {
        let (gopc, reason) = (gopc_offset as u64, waitreason_offset as u64);
        if slot >> Self::SLOT_BITS != 0 || gopc > Self::OFFSET_MASK || reason > Self::OFFSET_MASK {
            return None;
        }
        let above = slot << Self::PROBE_BITS | probe as u64;
        Some(Self(above << (2 * Self::OFFSET_BITS) | reason << Self::OFFSET_BITS | gopc))
    }

    /// The target's slot.
    #[must_use]
    #[inline(always)]
    pub const fn slot(self) -> u64 {
        self.0 >> (2 * Self::OFFSET_BITS + Self::PROBE_BITS)
    }

    /// Index of the probe.
    #[must_use]
    #[inline(always)]
    pub const fn probe(self) -> u32 {
        (self.0 >> (2 * Self::OFFSET_BITS)) as u32 & ((1 << Self::PROBE_BITS) - 1)
    }

    /// Offset of `gopc` in `struct g`, in bytes.
    #[must_use]
    #[inline(always)]
    pub const fn gopc_offset(self) -> u64 {
        self.0 & Self::OFFSET_MASK
    }

    /// Offset of `waitreason` in `struct g`, in bytes.
    #[must_use]
    #[inline(always)]
    pub const fn waitreason_offset(self) -> u64 {
        self.0 >> Self::OFFSET_BITS & Self::OFFSET_MASK
    }
}

/// Compile-time proof that a shared type has no padding: its size is the sum of its fields.
const _: () = {
    assert!(size_of::<CallsiteKey>() == 8 + 8 + 8);
    assert!(size_of::<CallsiteCounts>() == 4 * 8);
    assert!(size_of::<Sampled>() == 6 * 8);
    assert!(size_of::<KernelLayout>() == 10 * 4);
    assert!(size_of::<ParkedKey>() == 8 + 8);
    assert!(size_of::<Parked>() == 5 * 8);
    assert!(size_of::<WaitKey>() == 8 + 8);
    assert!(size_of::<Durations>() == Durations::BUCKETS * 8 + 8);
    assert!(size_of::<WaitCounts>() == 8 + 3 * size_of::<Durations>());
    assert!(size_of::<ProcessEvent>() == 4 + 4);
    assert!(Probe::ALL.len() <= 1 << Cookie::PROBE_BITS);
};
