//! The immutable result of one aggregation tick. Every exporter reads only this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use super::finding::{Evidence, Fact, Finding, Severity};
pub use super::recent::{CallsiteSample, CgroupSample, TargetSample};
use super::waits::Waits;
pub use crate::cgroup::{
    HugePages, Io, Limit, Memory, MemoryEvents, Pids, Pressure, Problem, Stall, Throttling,
};
pub use crate::container::Owner;
pub use crate::snapshot::runtime::Settings as RuntimeView;
pub use crate::snapshot::sources::Source;

/// Everything known at the end of one tick.
#[derive(Debug, Clone)]
pub struct View {
    /// When the tick ended (wall clock, for display only; rates use `interval`).
    pub taken_at: SystemTime,
    /// Time since the tick before, from the monotonic clock; `None` in the first view.
    pub interval: Option<Duration>,
    /// One entry per Go process, by pid.
    pub targets: Vec<TargetView>,
    /// One entry per cgroup (per controller set) that holds a target.
    pub cgroups: Vec<CgroupView>,
    /// One entry per workload: what its processes, also those that have ended, created and ended.
    pub totals: Vec<TotalsView>,
    /// About the observer itself.
    pub observer: ObserverView,
    /// What is wrong, worst first, a cause before its symptoms.
    pub findings: Vec<Finding>,
}

/// Running totals of processes with equal identity. They never fall.
#[derive(Debug, Clone)]
pub struct TotalsView {
    /// Who they belong to.
    pub owner: Owner,
    /// Base name of their executable.
    pub process: Arc<str>,
    /// Callsites with series of their own.
    pub series: Vec<SeriesView>,
    /// Created and ended at callsites while they had no series; `None` when there was none.
    pub other: Option<(u64, u64)>,
    /// CPU seconds by `created_by` and `entry`, `other` and the runtime itself among them.
    pub cpu_seconds: Vec<(Arc<str>, Arc<str>, f64)>,
    /// Parks by `created_by` and `entry`, `other` and the runtime itself among them.
    pub parks: Vec<(Arc<str>, Arc<str>, f64)>,
    /// Parks and waits by reason.
    pub waits: Waits<Arc<str>>,
    /// Garbage collections; `None` where nobody could count them.
    pub gc_cycles: Option<u64>,
    /// Processes that the kernel killed for lack of memory; `None` where it doesn't tell.
    pub oom_kills: Option<u64>,
}

/// Running totals of one callsite while it had series of its own.
#[derive(Debug, Clone)]
pub struct SeriesView {
    /// Function that contains the `go` statement.
    pub created_by: Arc<str>,
    /// Function the goroutine runs.
    pub entry: Arc<str>,
    /// Goroutines created.
    pub created: u64,
    /// Goroutines that ended.
    pub exited: u64,
}

/// How far a target can be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetState {
    /// Snapshots, and probes where they are enabled.
    Observed,
    /// Snapshots only, though probes were wanted.
    SnapshotOnly,
    /// It is a Go process, but nothing could be read of its goroutines.
    Unreadable,
}

impl TargetState {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Observed, Self::SnapshotOnly, Self::Unreadable];

    /// The state's name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::SnapshotOnly => "snapshot_only",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One Go process.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// Process id as the observer sees it.
    pub pid: u32,
    /// Seconds since the epoch at which the process started.
    pub start_time: f64,
    /// Process id in its own PID namespace, if that is another one than the observer's.
    pub inner_pid: Option<u32>,
    /// Base name of the executable, control characters replaced.
    pub process: Arc<str>,
    /// Path of the executable as the kernel shows it, control characters replaced.
    pub exe: Arc<str>,
    /// From the process's cgroup.
    pub owner: Owner,
    /// Path of the process's cgroup below its hierarchy's root.
    pub cgroup_path: Arc<str>,
    /// Id of the container that it is in.
    pub container_id: Option<Arc<str>>,
    /// systemd slice that its cgroup is in.
    pub slice: Option<Arc<str>>,
    /// Index into [`View::cgroups`], when its cgroup could be read.
    pub cgroup: Option<usize>,
    /// Such as `go1.24.11`; `None` when the binary can't be read.
    pub go_version: Option<Arc<str>>,
    /// CPUs that its threads may run on: affinity and cpuset.
    pub usable_cpus: Option<u32>,
    /// Whether its workload has no series of its own, because there are too many.
    pub folded: bool,
    /// How far it can be observed.
    pub state: TargetState,
    /// Why it is not fully observed: one sentence.
    pub reason: Option<Arc<str>>,
    /// From the newest snapshot.
    pub goroutines: Option<GoroutinesView>,
    /// The runtime's own settings, from the newest snapshot.
    pub runtime: Option<RuntimeView>,
    /// Counted by probes since they were attached.
    pub probes: Option<ProbesView>,
    /// CPU time by `go` statement; `None` where it isn't sampled.
    pub on_cpu: Option<OnCpuView>,
    /// Parks and waits of the last minute; `None` where none were measured.
    pub waits: Option<WaitsView>,
    /// Per `go` statement, most live first; bounded.
    pub callsites: Vec<CallsiteView>,
    /// The last ticks, oldest first.
    pub recent: Vec<TargetSample>,
}

/// Counts of one snapshot. Only user goroutines, as `runtime.NumGoroutine` counts, unless said.
#[derive(Debug, Clone, Default)]
pub struct GoroutinesView {
    /// User goroutines.
    pub user: u64,
    /// System goroutines.
    pub system: u64,
    /// User goroutines by state name (`runnable`, `running`, `syscall`, `waiting`, `preempted`, `leaked`).
    pub states: BTreeMap<&'static str, u64>,
    /// Waiting user goroutines by the runtime's own reason.
    pub wait_reasons: BTreeMap<Arc<str>, u64>,
    /// Goroutine descriptors that could not be read consistently: not in any count.
    pub torn: u64,
    /// Whether every descriptor of the target's list was read within the deadline.
    pub complete: bool,
    /// Goroutines that are locked to a thread, system ones included.
    pub locked: u64,
    /// Bytes of all goroutines' stacks, system ones included.
    pub stacks_bytes: u64,
    /// How long the snapshot took.
    pub duration: Duration,
}

/// What probes say about one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbesView {
    /// Creations since attach, user and system.
    pub created: u64,
    /// Exits since attach.
    pub exited: u64,
    /// Goroutines by which base + created − exited misses the newest snapshot, summed over callsites,
    /// after allowing for what happened while the snapshot was taken. 0 when both engines agree; `None` while
    /// probes come and go, so that counts are estimates.
    pub drift: Option<u64>,
    /// Whether probes were missing at some time since attach, so that counts are partly estimates.
    pub estimated: bool,
    /// Where each group of probes stands.
    pub groups: Vec<GroupView>,
}

/// One group of probes in one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupView {
    /// `lifecycle` or `waits`.
    pub probe: &'static str,
    /// `trial`, `on`, `windows` or `off`.
    pub state: &'static str,
    /// The same in words, with numbers.
    pub decision: Arc<str>,
    /// Share of the last minute in which the probes were in the target.
    pub coverage: f64,
    /// Share of one CPU that they cost the target, over about half a minute.
    pub overhead: f64,
    /// How often they ran in it so far.
    pub hits: u64,
    /// CPU time that they have cost it so far, seconds.
    pub spent_seconds: f64,
}

/// How often and for how long goroutines waited, estimated from windows. A time is the bound of a bucket, at
/// most twice the true one, and infinite above 69 s.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WaitsView {
    /// Most parks first.
    pub reasons: Vec<ReasonWaitsView>,
    /// Time in run queues that half of the goroutines that were made ready were below.
    pub run_queue_p50_seconds: Option<f64>,
    /// The same for 99 of 100.
    pub run_queue_p99_seconds: Option<f64>,
    /// Share of the time in which waits were measured.
    pub coverage: f64,
    /// Waits longer than this could not be measured; snapshots show them.
    pub longest_seconds: f64,
}

/// Waits with one reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReasonWaitsView {
    /// The runtime's own name.
    pub reason: Arc<str>,
    /// Times that goroutines parked, per second.
    pub parks_per_second: f64,
    /// Time until they ran again, that half of the waits were below.
    pub blocked_p50_seconds: Option<f64>,
    /// The same for 99 of 100.
    pub blocked_p99_seconds: Option<f64>,
}

/// Who used the CPU, from samples: a share of n samples is off by about √n of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OnCpuView {
    /// Most recent seconds first. The runtime itself is one of them, see [`super::on_cpu::RUNTIME`].
    pub callsites: Vec<CallsiteCpuView>,
}

/// CPU time of the goroutines of one `go` statement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallsiteCpuView {
    /// Function that contains the `go` statement.
    pub created_by: Arc<str>,
    /// Function the goroutine runs.
    pub entry: Arc<str>,
    /// CPU seconds per second over the last interval.
    pub cores: Option<f64>,
    /// CPU seconds over the last minute.
    pub recent_seconds: f64,
}

/// One `go` statement.
#[derive(Debug, Clone, Default)]
pub struct CallsiteView {
    /// Function that contains the `go` statement.
    pub created_by: Arc<str>,
    /// Function the goroutine runs.
    pub entry: Arc<str>,
    /// Source file of the `go` statement.
    pub file: Arc<str>,
    /// Its line.
    pub line: u32,
    /// Creation PC in the target (`g.gopc`).
    pub gopc: u64,
    /// Live goroutines in the newest snapshot.
    pub live: u64,
    /// Created since the probes were attached.
    pub created_total: Option<u64>,
    /// Ended since the probes were attached.
    pub exited_total: Option<u64>,
    /// Per second, over the last interval: creations, ends (probes) and change of `live` (snapshots).
    pub created_per_second: Option<f64>,
    /// See `created_per_second`.
    pub exited_per_second: Option<f64>,
    /// See `created_per_second`.
    pub growth_per_second: Option<f64>,
    /// Times that its goroutines parked per second of the last minute, estimated from windows; `None` if none was
    /// seen.
    pub parks_per_second: Option<f64>,
    /// The longest that one of its goroutines has waited at least, in seconds.
    pub oldest_wait_seconds: Option<f64>,
    /// Waiting goroutines by reason.
    pub wait_reasons: BTreeMap<Arc<str>, u64>,
    /// Goroutines by state name; those without a goroutine are left out.
    pub states: BTreeMap<&'static str, u64>,
    /// Bytes of their stacks.
    pub stacks_bytes: u64,
    /// Seconds since which every look found each of its goroutines ready to run or running: a lower bound.
    pub busy_seconds: Option<f64>,
    /// Whether it has metric series of its own; otherwise it is part of `other`.
    pub own_series: bool,
    /// The last ticks, oldest first; empty for callsites with few goroutines.
    pub recent: Vec<CallsiteSample>,
}

/// One cgroup and its effective limits (the tightest on the way to the root). Unlimited = `None`.
#[derive(Debug, Clone, Default)]
pub struct CgroupView {
    /// Path below the hierarchy's root.
    pub path: Arc<str>,
    /// Who it belongs to.
    pub owner: Owner,
    /// Whether all its targets are folded.
    pub folded: bool,
    /// CPU controller; `None` where it isn't there.
    pub cpu: Option<CpuView>,
    /// Memory controller.
    pub memory: Option<Memory>,
    /// pids controller.
    pub pids: Option<Pids>,
    /// io controller.
    pub io: Option<Io>,
    /// Huge pages by size.
    pub hugetlb: Vec<HugePages>,
    /// CPUs that the cpuset allows.
    pub cpuset_cpus: Option<u32>,
    /// Time spent waiting for resources.
    pub pressure: Pressure,
    /// Values that are missing above although the kernel should have them.
    pub problems: Vec<Problem>,
    /// The last ticks, oldest first.
    pub recent: Vec<CgroupSample>,
}

/// CPU use and throttling. Throttling is the own group's and, separately, the binding ancestor's.
#[derive(Debug, Clone, Default)]
pub struct CpuView {
    /// Quota ÷ period, in cores.
    pub limit_cores: Option<Limit<f64>>,
    /// CPU time used, seconds.
    pub usage_seconds: Option<f64>,
    /// Throttling of the own group, whether or not it has a quota.
    pub throttling: Option<Throttling>,
    /// Throttling of the binding cgroup, when that is another one.
    pub binding: Option<Throttling>,
    /// Time by which it may exceed its own quota in one period, seconds.
    pub burst_seconds: Option<f64>,
    /// Weight against its siblings; 1 is the default.
    pub weight: Option<f64>,
}

/// About the observer itself.
#[derive(Debug, Clone, Default)]
pub struct ObserverView {
    /// Probe hits by probe name, all targets.
    pub probe_hits: BTreeMap<&'static str, u64>,
    /// Events that could not be counted, by reason.
    pub events_lost: BTreeMap<&'static str, u64>,
    /// Failed snapshots by reason.
    pub snapshot_errors: BTreeMap<&'static str, u64>,
    /// Cgroups and values of cgroups that could not be read, by reason.
    pub cgroup_errors: BTreeMap<&'static str, u64>,
    /// Durations of successful snapshots.
    pub snapshot_durations: Durations,
    /// Times that a callsite was left without series of its own, since the observer started: never shrinks.
    pub series_folded: u64,
    /// Times that a process was left without series of its own, since the observer started: never shrinks.
    pub workloads_folded: u64,
    /// Questions for the names of containers since the start, by what came.
    pub container_lookups: BTreeMap<&'static str, u64>,
    /// Feature name → enabled.
    pub features: BTreeMap<&'static str, bool>,
    /// The observer's own CPU time, seconds.
    pub cpu_seconds: f64,
    /// The observer's own resident memory, bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// A cumulative histogram of durations.
#[derive(Debug, Clone, Default)]
pub struct Durations {
    /// Count of durations ≤ the bound of the same index in [`Durations::BOUNDS`].
    pub buckets: [u64; 10],
    /// All durations.
    pub count: u64,
    /// Their sum, seconds.
    pub sum: f64,
}

impl Durations {
    /// Upper bounds in seconds.
    pub const BOUNDS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

    /// Adds one duration.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (bucket, bound) in self.buckets.iter_mut().zip(Self::BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }
}
