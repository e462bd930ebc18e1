//! The runtime's settings and gauges, read from its globals.

use super::memory::{Fault, MAX_RANGES, Memory};
use super::sources::Source;
use crate::gobin::globals::Globals;
use crate::gobin::layout::Layout;
use crate::gobin::source::{le32, le64};
use crate::gobin::{GoBinary, Layouts};

/// GOMAXPROCS has no limit of its own, but no machine has more processors than this.
const MAX_PROCS: u64 = 1 << 16;
/// `GOMEMLIMIT=off` (`math.MaxInt64`).
const NO_LIMIT: u64 = i64::MAX as u64;

/// What the runtime says of itself. `None` = unknown, or unlimited where that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// GOMAXPROCS in force.
    pub gomaxprocs: Option<u32>,
    /// Whether the environment or a call set GOMAXPROCS. The runtime notes it from Go 1.25 on.
    pub gomaxprocs_set: Option<bool>,
    /// Who chose GOMAXPROCS; see [`Settings::attribute`].
    pub gomaxprocs_source: Option<Source>,
    /// Whether the runtime takes GOMAXPROCS from the CPU limit of the cgroup (Go 1.25 and newer, unless the
    /// build or GODEBUG says otherwise) when nobody else chooses it.
    pub container_aware: bool,
    /// GOGC in force, percent; −1 = off.
    pub gogc_percent: Option<i32>,
    /// Who chose GOGC.
    pub gogc_source: Option<Source>,
    /// GOMEMLIMIT in force, bytes; `None` = unlimited or unknown.
    pub gomemlimit_bytes: Option<u64>,
    /// Who chose GOMEMLIMIT, or that there is none.
    pub gomemlimit_source: Option<Source>,
    /// Live heap as the pacer counts it (`gcController.heapLive`), bytes.
    pub heap_live_bytes: Option<u64>,
    /// What the last collection found live (`gcController.heapMarked`), bytes.
    pub heap_marked_bytes: Option<u64>,
    /// Heap that the last cycle aimed at (`gcController.lastHeapGoal`), bytes; `None` before the first, or
    /// when the garbage collector is off.
    pub heap_goal_bytes: Option<u64>,
    /// Garbage collections since the start (`memstats.numgc`).
    pub gc_cycles: Option<u64>,
    /// Threads that the runtime holds (`mcount`).
    pub threads: Option<u64>,
    /// Those of them that wait for something to do (`sched.nmidle`).
    pub threads_idle: Option<u64>,
    /// Goroutines in the global and the local run queues.
    pub run_queue_goroutines: Option<u64>,
}

impl Settings {
    /// Reads them. What can't be read, or contradicts itself, is left out.
    ///
    /// # Errors
    /// When the process is gone or its memory is closed to us.
    pub fn read(memory: &dyn Memory, binary: &GoBinary, bias: u64) -> Result<Self, Fault> {
        let reader = Reader { memory, globals: &binary.globals, layout: binary.layouts.layout(), bias };
        let mut settings = Self {
            gomaxprocs: reader.gomaxprocs()?,
            gc_cycles: reader.gc_cycles()?,
            container_aware: super::sources::aware(binary),
            ..Self::default()
        };
        reader.gc(&mut settings, matches!(binary.layouts, Layouts::Measured(_)))?;
        // Offsets in sched and p can't be checked against anything: only measured ones are used.
        if matches!(binary.layouts, Layouts::Measured(_)) {
            reader.scheduler(&mut settings)?;
        }
        Ok(settings)
    }
}

struct Reader<'a> {
    memory: &'a dyn Memory,
    globals: &'a Globals,
    layout: &'a Layout,
    bias: u64,
}

impl Reader<'_> {
    /// `len` bytes at a global; `None` when the global is unknown or its page unreadable.
    fn global(&self, address: Option<u64>, len: usize) -> Result<Option<Vec<u8>>, Fault> {
        let Some(address) = address else { return Ok(None) };
        self.bytes(address.wrapping_add(self.bias), len)
    }

    fn bytes(&self, address: u64, len: usize) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = vec![0; len];
        match self.memory.read(address, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(Fault::Unmapped(_) | Fault::Late(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn gomaxprocs(&self) -> Result<Option<u32>, Fault> {
        let bytes = self.global(self.globals.gomaxprocs, 4)?;
        Ok(bytes.map(|bytes| le32(&bytes)).filter(|procs| (1..=MAX_PROCS).contains(&u64::from(*procs))))
    }

    /// A count of 32 bits.
    fn gc_cycles(&self) -> Result<Option<u64>, Fault> {
        Ok(self.global(self.globals.numgc, 4)?.map(|bytes| u64::from(le32(&bytes))))
    }

    /// gcPercent and memoryLimit have stood at offsets 0 and 8 in every version; the heap's size moves.
    fn gc(&self, settings: &mut Settings, measured: bool) -> Result<(), Fault> {
        let layout = &self.layout.gc_controller;
        let end = usize::from(layout.heap_live.max(layout.heap_marked).max(layout.last_heap_goal)) + 8;
        let Some(bytes) = self.global(self.globals.gc_controller, end)? else { return Ok(()) };
        let at = |offset: u16| &bytes[usize::from(offset)..];
        settings.gogc_percent = Some(le32(at(layout.gc_percent)) as i32).filter(|percent| *percent >= -1);
        settings.gomemlimit_bytes = Some(le64(at(layout.memory_limit))).filter(|limit| *limit < NO_LIMIT);
        if measured {
            settings.heap_live_bytes = Some(le64(at(layout.heap_live)));
            settings.heap_marked_bytes = Some(le64(at(layout.heap_marked))).filter(|marked| *marked > 0);
            settings.heap_goal_bytes =
                Some(le64(at(layout.last_heap_goal))).filter(|goal| (1..NO_LIMIT).contains(goal));
        }
        Ok(())
    }

    fn scheduler(&self, settings: &mut Settings) -> Result<(), Fault> {
        let sched = &self.layout.sched;
        let set = sched.custom_gomaxprocs;
        let last = sched.mnext.max(sched.nmfreed).max(sched.runqsize).max(sched.nmidle).max(set.unwrap_or(0));
        let size = usize::from(last) + 8;
        let Some(bytes) = self.global(self.globals.sched, size)? else { return Ok(()) };
        let at = |offset: u16| &bytes[usize::from(offset)..];
        settings.threads = le64(at(sched.mnext)).checked_sub(le64(at(sched.nmfreed)));
        let idle = u64::from(le32(at(sched.nmidle)));
        settings.threads_idle = settings.threads.and_then(|threads| (idle <= threads).then_some(idle));
        settings.gomaxprocs_set = match set.map(|set| at(set)[0]) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        };
        let local = self.local_queues(settings.gomaxprocs)?;
        let global = u64::from(le32(at(sched.runqsize)));
        settings.run_queue_goroutines = local.map(|local| local + global);
        Ok(())
    }

    /// Σ (tail − head + next) over `allp`; `None` when its length isn't GOMAXPROCS (it is being resized).
    fn local_queues(&self, gomaxprocs: Option<u32>) -> Result<Option<u64>, Fault> {
        let Some(header) = self.global(self.globals.allp, 16)? else { return Ok(None) };
        let (pointer, count) = (le64(&header), le64(&header[8..]));
        if gomaxprocs.map(u64::from) != Some(count) {
            return Ok(None);
        }
        let Some(pointers) = self.bytes(pointer, count as usize * 8)? else { return Ok(None) };
        let pointers: Vec<u64> = pointers.chunks_exact(8).map(le64).collect();
        let mut total = 0;
        for some in pointers.chunks(MAX_RANGES / 2) {
            let Some(length) = self.queues_of(some)? else { return Ok(None) };
            total += length;
        }
        Ok(Some(total))
    }

    /// Queue lengths of some processors, with one copy.
    fn queues_of(&self, processors: &[u64]) -> Result<Option<u64>, Fault> {
        let layout = &self.layout.p;
        let (head, next) = (u64::from(layout.runqhead), u64::from(layout.runnext));
        let ranges: Vec<(u64, usize)> =
            processors.iter().flat_map(|p| [(p.wrapping_add(head), 8), (p.wrapping_add(next), 8)]).collect();
        let mut bytes = vec![0; ranges.len() * 8];
        match self.memory.gather(&ranges, &mut bytes) {
            Ok(read) if read == bytes.len() => {}
            Ok(_) | Err(Fault::Unmapped(_) | Fault::Late(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        }
        Ok(bytes.chunks_exact(16).map(queue_length).sum())
    }
}

/// Head, tail (`u32` each) and next (a pointer); `None` when they contradict each other.
fn queue_length(bytes: &[u8]) -> Option<u64> {
    /// Capacity of a local queue (`p.runq`).
    const CAPACITY: u32 = 256;
    let queued = le32(&bytes[4..]).wrapping_sub(le32(bytes));
    (queued <= CAPACITY).then(|| u64::from(queued) + u64::from(le64(&bytes[8..]) != 0))
}
