//! Probes: eBPF programs on instructions of a target's Go runtime, and what they counted.
//!
//! The kernel counts creations and exits per callsite; nothing here sees a
//! single event. A target's text is touched only where its bytes are the
//! expected ones, in the file and in memory, and only at instructions that the
//! kernel emulates. All links are bound to file descriptors: when the observer
//! ends in any way, the kernel removes the breakpoints.
//!
//! Without the cargo feature `bpf` this module has the same types, and
//! [`Probes::load`] fails with [`ProbeError::NotBuilt`].

use std::time::Duration;

use observer_ebpf::abi::{CallsiteCounts, Group, Loss, Probe, WaitCounts};
use rustc_hash::FxHashMap;

use crate::gobin::layout::Layout;
use crate::gobin::sites::Site;

mod error;
pub mod features;
pub mod governor;
mod kernel;

#[cfg(feature = "bpf")]
mod batch;
#[cfg(feature = "bpf")]
mod btf;
#[cfg(feature = "bpf")]
mod instruction;
#[cfg(feature = "bpf")]
mod links;
#[cfg(feature = "bpf")]
mod multi;
#[cfg(feature = "bpf")]
mod object;
#[cfg(feature = "bpf")]
mod process;
#[cfg(feature = "bpf")]
mod programs;
#[cfg(feature = "bpf")]
mod refusal;
#[cfg(feature = "bpf")]
mod sampling;
#[cfg(feature = "bpf")]
mod stub;
#[cfg(feature = "bpf")]
mod syscall;
#[cfg(feature = "bpf")]
mod undertaker;
#[cfg(feature = "bpf")]
mod verify;
#[cfg(feature = "bpf")]
mod waits;

#[cfg(not(feature = "bpf"))]
mod without_bpf;

pub use error::{ProbeError, SiteBytes};
#[cfg(feature = "bpf")]
pub use links::{Removal, Removed};
#[cfg(feature = "bpf")]
pub use process::ProcessWatch;
#[cfg(feature = "bpf")]
pub use programs::Probes;
#[cfg(feature = "bpf")]
pub use stub::calibrate;
#[cfg(not(feature = "bpf"))]
pub use without_bpf::{Probes, ProcessWatch, Removal, Removed, calibrate};

/// How to load the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Most callsites that the kernel counts at a time, over all targets; more are counted as
    /// [`Loss::CountsFull`]. Kernels before 6.1 hold at most 4 096.
    pub max_callsites_in_kernel: u32,
    /// How often each CPU's clock looks which goroutine runs, per second; 0 = never.
    pub cpu_sampling_hz: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_callsites_in_kernel: 65_536, cpu_sampling_hz: 0 }
    }
}

/// A target to put probes into.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// Process id in the observer's own PID namespace.
    pub pid: u32,
    /// Key of the target's counts, below 2³⁷; never used for another target, so that a reused pid can't
    /// inherit counts.
    pub slot: u64,
    /// Offset of `gopc` in the target's `struct g`, in bytes.
    pub gopc_offset: u16,
    /// Offset of `waitreason` in the target's `struct g`, in bytes.
    pub waitreason_offset: u16,
    /// What to add to a link-time address to get the address in the target: 0 unless it is a PIE.
    pub load_bias: u64,
    /// Which probes.
    pub group: Group,
    /// The target's sites; those of the group get a probe, all of them or none.
    pub sites: &'a [Site],
}

/// A target whose goroutines on a CPU are sampled.
#[derive(Debug, Clone, Copy)]
pub struct SampledTarget<'a> {
    /// See [`Attachment`].
    pub pid: u32,
    /// See [`Attachment`].
    pub slot: u64,
    /// See [`crate::gobin::tls::offset`].
    pub tls_offset: i64,
    /// Where its runtime keeps things.
    pub layout: &'a Layout,
}

impl<'a> Attachment<'a> {
    /// The group's sites.
    pub fn group_sites(&self) -> impl Iterator<Item = &'a Site> + use<'a> {
        let group = self.group;
        self.sites.iter().filter(move |site| site.probe.group() == group)
    }
}

/// Counts of one target by callsite: `(gopc, entry)`, both addresses in the target.
pub type TargetCounts = FxHashMap<(u64, u64), CallsiteCounts>;

/// Counts of every target by slot, summed over the CPUs.
pub type Counts = FxHashMap<u64, TargetCounts>;

/// Waits of every target with the group [`Group::Waits`], by slot.
pub type Waits = FxHashMap<u64, TargetWaits>;

/// What the group [`Group::Waits`] measured in one target since it was attached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetWaits {
    /// How long it measured.
    pub on: OnTime,
    /// By `g.waitreason`.
    pub reasons: FxHashMap<u8, ReasonWaits>,
}

/// Waits of one target with one wait reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReasonWaits {
    /// Parks, and the waits that both began and ended meanwhile.
    pub counts: WaitCounts,
    /// Waits that ended meanwhile and had begun before, so that nobody knows how long they were; without
    /// those that the network poller ended, which aren't seen.
    pub unknown_start: u64,
    /// Waits that began meanwhile and haven't ended.
    pub open: u64,
}

/// How long a group of probes was in a target.
///
/// Where the kernel can't remove them at once, probes go one after the other, the last attached first; of
/// [`Group::Waits`] that is the one that counts parks, so that waits which began in time are still measured while they
/// end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnTime {
    /// From the last probe's attachment to the begin of the removal: how long all of them counted.
    pub complete: Duration,
    /// How long the second probe counted on after that: of [`Group::Waits`], wake-ups; 0 where all went at once.
    pub second: Duration,
    /// How long the first probe counted on: of [`Group::Waits`], goroutines that run again; 0 where all went at once.
    pub first: Duration,
}

/// How often each probe ran since the programs were loaded, over all targets.
pub type Hits = [(Probe, u64); Probe::ALL.len()];

/// What was not counted since the programs were loaded, over all targets.
pub type Losses = [(Loss, u64); Loss::ALL.len()];
