//! Where the Go runtime keeps what observer reads, per minor version of Go.
//!
//! Offsets are in bytes from the start of the struct. They are the same on amd64 and arm64, and hold for
//! every patch release of their minor version: what moves between two of them is absent. A member that the
//! version does not have is `None`. `cargo xtask layouts` measures them.

mod generated;

/// The structs of one minor version of Go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// `runtime.g`: a goroutine.
    pub g: GLayout,
    /// `runtime.synctestBubble`: goroutines with a time of their own; Go 1.25 and newer.
    pub bubble: BubbleLayout,
    /// `runtime.m`: a thread.
    pub m: MLayout,
    /// `runtime.p`: a processor, of which there are `GOMAXPROCS`.
    pub p: PLayout,
    /// `runtime.schedt`, the type of the variable `runtime.sched`.
    pub sched: SchedLayout,
    /// `runtime.timeHistogram`, the type of `schedt.timeToRun`.
    pub time_histogram: TimeHistogramLayout,
    /// `runtime.gcControllerState`, the type of the variable `runtime.gcController`.
    pub gc_controller: GcControllerLayout,
    /// `runtime.moduledata`, the type of the variable `runtime.firstmoduledata`.
    pub moduledata: ModuledataLayout,
    /// `runtime._func`: one function in pclntab.
    pub func: FuncLayout,
}

/// `runtime.g`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GLayout {
    /// Bytes in one `g`.
    pub size: u16,
    /// `u64`: lowest address of the stack.
    pub stack_lo: u16,
    /// `u64`: address behind the stack.
    pub stack_hi: u16,
    /// Pointer: the `m` that runs it, or 0.
    pub m: u16,
    /// `u64`: stack pointer while it does not run.
    pub sched_sp: u16,
    /// `u64`: program counter while it does not run.
    pub sched_pc: u16,
    /// Pointer to this very `g`, in every initialised one.
    pub sched_g: u16,
    /// `u64`: link register while it does not run; 0 on amd64.
    pub sched_lr: u16,
    /// `u64`: frame pointer while it does not run.
    pub sched_bp: u16,
    /// `u64`: stack pointer in a system call, else 0.
    pub syscallsp: u16,
    /// `u64`: program counter in a system call.
    pub syscallpc: u16,
    /// `u64`: frame pointer in a system call.
    pub syscallbp: Option<u16>,
    /// Pointer: what a wake-up hands over.
    pub param: u16,
    /// `u32`: status.
    pub atomicstatus: u16,
    /// `u64`: id; 0 for one that never ran.
    pub goid: u16,
    /// `i64`: monotonic nanoseconds that bound the begin of the wait, or 0.
    pub waitsince: u16,
    /// `u8`: index into `runtime.waitReasonStrings`.
    pub waitreason: u16,
    /// `u8`: grows with every end of running.
    pub tracking_seq: u16,
    /// Pointer: the `m` it is locked to, or 0.
    pub lockedm: u16,
    /// `u64`: id of the goroutine that created it.
    pub parent_goid: Option<u16>,
    /// `u64`: address behind the call of the `go` statement.
    pub gopc: u16,
    /// `u64`: address of its function.
    pub startpc: u16,
    /// Pointer to the profiler's labels, or 0.
    pub labels: u16,
    /// `i64`: monotonic nanoseconds of the end of `time.Sleep`.
    pub sleep_when: Option<u16>,
    /// Pointer to its `testing/synctest` bubble, or 0.
    pub bubble: Option<u16>,
}

/// `runtime.synctestBubble`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BubbleLayout {
    /// `u64`: its number.
    pub id: Option<u16>,
}

/// `runtime.m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MLayout {
    /// `u64`: thread id in the target's innermost PID namespace.
    pub procid: u16,
    /// Pointer: the `g` it runs, or 0.
    pub curg: u16,
    /// Pointer: the `p` it holds, or 0.
    pub p: u16,
    /// `i64`: number of the `m`.
    pub id: u16,
    /// `bool`: executes C code.
    pub incgo: u16,
    /// `u64`: calls of C so far.
    pub ncgocall: Option<u16>,
}

/// `runtime.p`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PLayout {
    /// `i32`: index in `runtime.allp`.
    pub id: u16,
    /// `u32`: idle, running, system call, stopped for the GC, dead.
    pub status: u16,
    /// Pointer: the `m` that holds it, or 0.
    pub m: u16,
    /// `u32`: its run queue has `runqtail - runqhead` goroutines.
    pub runqhead: u16,
    /// `u32`: see [`runqhead`](Self::runqhead).
    pub runqtail: u16,
    /// Pointer: one more runnable `g`, which runs next, or 0.
    pub runnext: u16,
    /// `i32`: dead `g`s kept for reuse.
    pub gfree_count: u16,
}

/// `runtime.schedt`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchedLayout {
    /// `u64`: highest goroutine id given out so far, to a goroutine or to a `p` for its next ones.
    pub goidgen: u16,
    /// The lock: what `runtime.GOMAXPROCS` refers to.
    pub lock: u16,
    /// List of idle `m`s: what `runtime.mput` refers to.
    pub midle: u16,
    /// `i32`: idle `m`s.
    pub nmidle: u16,
    /// `i64`: `m`s created; `mnext - nmfreed` exist.
    pub mnext: u16,
    /// `i64`: `m`s that ended.
    pub nmfreed: u16,
    /// `i32`: system goroutines.
    pub ngsys: u16,
    /// `i32`: idle `p`s.
    pub npidle: u16,
    /// `i32`: goroutines in the global run queue.
    pub runqsize: u16,
    /// `i32` each: dead `g`s kept for reuse, to be added up with those of every `p`.
    pub gfree_counts: &'static [u16],
    /// `bool`: somebody set `GOMAXPROCS`.
    pub custom_gomaxprocs: Option<u16>,
    /// `runtime.timeHistogram`: how long goroutines that were ready waited for a processor; one of eight is noted.
    pub time_to_run: u16,
}

/// `runtime.timeHistogram`: nothing but `u64` counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeHistogramLayout {
    /// Its bytes.
    pub size: u16,
}

/// `runtime.gcControllerState`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GcControllerLayout {
    /// `i32`: `GOGC`, or -1 when it is off.
    pub gc_percent: u16,
    /// `i64`: `GOMEMLIMIT` in bytes; the largest `i64` when there is none.
    pub memory_limit: u16,
    /// `u64`: heap size in bytes that started the running cycle, all ones before the first.
    pub triggered: u16,
    /// `u64`: heap goal in bytes of the cycle before.
    pub last_heap_goal: u16,
    /// `u64`: bytes that the last cycle found live, and those allocated since.
    pub heap_live: u16,
    /// `u64`: bytes that the last cycle found live.
    pub heap_marked: u16,
    /// `u64`: bytes in spans in use.
    pub heap_in_use: Option<u16>,
    /// `u64`: bytes ever allocated.
    pub total_alloc: Option<u16>,
    /// `u64`: bytes mapped and ready for use.
    pub mapped_ready: Option<u16>,
}

/// `runtime.moduledata`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuledataLayout {
    /// Bytes in one `moduledata`.
    pub size: u16,
    /// Slice of bytes: functions and what belongs to them.
    pub pclntable: u16,
    /// Slice: one entry address and one offset into `pclntable` per function.
    pub ftab: u16,
    /// `u64`: begin of Go code.
    pub text: u16,
    /// `u64`: end of Go code.
    pub etext: u16,
    /// `u64`: begin of initialised data without pointers, the first data section.
    pub noptrdata: u16,
    /// `u64`: its end.
    pub enoptrdata: u16,
    /// `u64`: begin of initialised data with pointers.
    pub data: u16,
    /// `u64`: its end.
    pub edata: u16,
    /// `u64`: begin of zeroed data with pointers.
    pub bss: u16,
    /// `u64`: its end.
    pub ebss: u16,
    /// `u64`: begin of zeroed data without pointers, the last data section.
    pub noptrbss: u16,
    /// `u64`: its end.
    pub enoptrbss: u16,
    /// `u64`: end of everything.
    pub end: u16,
    /// `u64`: begin of read-only data.
    pub rodata: u16,
    /// `u64`: what the offsets in funcdata count from.
    pub gofunc: u16,
    /// Pointer to the next module's, or 0.
    pub next: u16,
}

/// `runtime._func`, whose first words are the entry's offset (`u32`) and the name's (`i32`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuncLayout {
    /// Bytes in one `_func`; `npcdata` and then `nfuncdata` offsets of 4 bytes follow it.
    pub size: u16,
    /// `u32`: offset of the table of stack pointer deltas.
    pub pcsp: u16,
    /// `u32`: offset of the table of files.
    pub pcfile: u16,
    /// `u32`: offset of the table of lines.
    pub pcln: u16,
    /// `u32`: number of pcdata offsets.
    pub npcdata: u16,
    /// `u32`: index of the function's compilation unit in the table of files.
    pub cu_offset: u16,
    /// `i32`: line of the keyword `func`.
    pub start_line: Option<u16>,
    /// `u8`: what the runtime knows this function as.
    pub func_id: u16,
    /// `u8`: top frame, writes the stack pointer, assembly.
    pub flag: u16,
    /// `u8`: number of funcdata offsets.
    pub nfuncdata: u16,
}

/// The layout of Go 1.`minor`.
#[must_use]
pub fn for_minor(minor: u32) -> Option<&'static Layout> {
    generated::LAYOUTS.iter().find(|(known, _)| *known == minor).map(|(_, layout)| layout)
}

/// The newest known minor version below Go 1.`minor` and its layout, to be tried on an unknown one.
#[must_use]
pub fn newest_below(minor: u32) -> Option<(u32, &'static Layout)> {
    let below = generated::LAYOUTS.iter().rev().find(|(known, _)| *known < minor);
    below.map(|(known, layout)| (*known, layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of the table are measured versions, and a version in a gap is unknown rather than guessed.
    #[test]
    fn knows_measured_versions_only() {
        assert_eq!(for_minor(19).map(|layout| layout.g.gopc), Some(296));
        assert_eq!(for_minor(18), None);
        let (minor, layout) = newest_below(u32::MAX).unwrap();
        assert_eq!(for_minor(minor), Some(layout));
        assert_eq!(for_minor(minor + 1), None);
        assert_eq!(newest_below(20).map(|(minor, _)| minor), Some(19));
        assert_eq!(newest_below(19), None);
    }

    /// Versions are in order, so that the last is the newest and a look-up cannot find two.
    #[test]
    fn versions_ascend() {
        assert!(generated::LAYOUTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
