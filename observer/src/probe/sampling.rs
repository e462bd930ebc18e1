//! Sampling which goroutines are on a CPU.

use std::fs;
use std::os::unix::fs::MetadataExt;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::PerfEvent;
use aya::programs::perf_event::{
    PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::util::online_cpus;
use observer_ebpf::abi::{KernelLayout, Sampled};
use rustc_hash::{FxHashMap, FxHashSet};

use super::btf::Btf;
use super::refusal::one_line;
use super::{ProbeError, SampledTarget};

const PROGRAM: &str = "sample_cpu";
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The sampling program on every CPU, and the targets that it looks for.
pub(super) struct Sampling {
    targets: HashMap<MapData, u32, [u64; 6]>,
    pids: FxHashMap<u64, u32>,
    /// Slots that are sampled no more, whose counts are still there.
    ended: FxHashSet<u64>,
    /// Slots whose counts were deleted after that. A sample that was under way may have been booked since: the kernel
    /// waits for the programs of probes that leave, not for those of clocks.
    late: Vec<u64>,
    // Dropping them ends the sampling.
    _clocks: Vec<PerfEventLink>,
}

impl Sampling {
    /// Starts the clock of every CPU that is online; of one that comes later, nothing is sampled.
    pub(super) fn start(ebpf: &mut Ebpf, hz: u32) -> Result<Self, String> {
        let targets = ebpf.take_map("SAMPLED").and_then(|map| HashMap::try_from(map).ok());
        let targets = targets.ok_or_else(|| ProbeError::Object("map SAMPLED").to_string())?;
        let program: Option<&mut PerfEvent> =
            ebpf.program_mut(PROGRAM).and_then(|program| program.try_into().ok());
        let program = program.ok_or_else(|| ProbeError::Object(PROGRAM).to_string())?;
        program.load().map_err(|error| one_line(&error))?;
        let cpus = online_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;
        let clocks = cpus.into_iter().map(|cpu| {
            let id = program.attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                SamplePolicy::Frequency(hz.into()),
                false,
            );
            id.and_then(|id| program.take_link(id)).map_err(|error| one_line(&error))
        });
        let clocks = clocks.collect::<Result<_, _>>()?;
        Ok(Self {
            targets,
            pids: FxHashMap::default(),
            ended: FxHashSet::default(),
            late: Vec::new(),
            _clocks: clocks,
        })
    }

    /// Samples a target from now on.
    pub(super) fn add(&mut self, target: &SampledTarget<'_>) -> Result<(), ProbeError> {
        let (g, m) = (&target.layout.g, &target.layout.m);
        let value = Sampled {
            slot: target.slot,
            tls_offset: target.tls_offset,
            g_m: g.m.into(),
            g_sched_g: g.sched_g.into(),
            g_gopc: g.gopc.into(),
            m_curg: m.curg.into(),
        };
        self.targets
            .insert(target.pid, value.words(), 0)
            .map_err(|error| ProbeError::Sampling(one_line(&error)))?;
        self.pids.insert(target.slot, target.pid);
        Ok(())
    }

    /// Samples a target no more.
    pub(super) fn remove(&mut self, slot: u64) {
        let Some(pid) = self.pids.remove(&slot) else { return };
        self.ended.insert(slot);
        // Another target may have the pid by now.
        if !self.pids.values().any(|other| *other == pid) {
            // It can only fail for an entry that isn't there.
            let _ = self.targets.remove(&pid);
        }
    }

    /// A slot's counts are deleted.
    pub(super) fn deleted(&mut self, slot: u64) {
        if self.ended.remove(&slot) {
            self.late.push(slot);
        }
    }

    /// The slots that may have counts again, though nothing counts on.
    pub(super) fn take_late(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.late)
    }

    pub(super) fn has(&self, slot: u64) -> bool {
        self.pids.contains_key(&slot)
    }
}

/// What the program must know of this kernel.
pub(super) fn kernel_layout() -> Result<KernelLayout, String> {
    let bytes = fs::read(KERNEL_TYPES)
        .map_err(|error| format!("no type information of this kernel in {KERNEL_TYPES}: {error}"))?;
    let own_ns = fs::metadata("/proc/self/ns/pid")
        .map_err(|error| format!("the observer's own PID namespace is unknown: {error}"))?
        .ino();
    let found = Btf::parse(&bytes).and_then(|btf| {
        Some(KernelLayout {
            task_fsbase: btf.offset("task_struct", &["thread", "fsbase"])?,
            task_group_leader: btf.offset("task_struct", &["group_leader"])?,
            task_thread_pid: btf.offset("task_struct", &["thread_pid"])?,
            pid_level: btf.offset("pid", &["level"])?,
            pid_numbers: btf.offset("pid", &["numbers"])?,
            upid_size: btf.size("upid")?,
            upid_nr: btf.offset("upid", &["nr"])?,
            upid_ns: btf.offset("upid", &["ns"])?,
            ns_inum: btf.offset("pid_namespace", &["ns", "inum"])?,
            own_ns: u32::try_from(own_ns).ok()?,
        })
    });
    found.ok_or_else(|| format!("{KERNEL_TYPES} lacks a type that is needed"))
}
