//! One target, as the probes' thread knows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use observer_ebpf::abi::{self, Group};

use super::commands::{Outcome, Wanted};
use crate::discover::process;
use crate::gobin::Layouts;
use crate::gobin::source::le64;
use crate::model::estimate::Estimate;
use crate::model::history::{Counted, Counts};
use crate::model::on_cpu::{Sampled, Samples};
use crate::model::waits::{Parked, WaitIncrement, WaitMeter};
use crate::pipeline::worker::Worker;
use crate::probe::{ProbeError, TargetCounts, TargetWaits};
use crate::snapshot::census::CallsiteKey;
use crate::snapshot::memory::{Memory, ProcessMemory};

/// How often putting probes into a target is tried again when the reason may pass.
const MAX_ATTEMPTS: u32 = 3;
/// Increments of waits that are kept until they are asked for.
const MAX_INCREMENTS: usize = 256;
/// How long reading one word of a target may take.
const READ: Duration = Duration::from_millis(200);

pub(super) struct Watched {
    pub(super) wanted: Arc<Wanted>,
    pub(super) outcome: Outcome,
    pub(super) estimate: Estimate,
    /// Hits by the counts, by group.
    counted: BTreeMap<Group, u64>,
    /// Hits that were charged, by group.
    charged: BTreeMap<Group, u64>,
    /// Whether probes on waits are in it, or on their way out.
    waits_are_watched: bool,
    cpu: Option<(Instant, f64)>,
    attempts: u32,
    /// Where the number of the goroutine created last is.
    last_goid: Option<u64>,
    /// Where it counts how often goroutines ran (`sched.timeToRun`), and the bytes of that.
    runs: Option<(u64, usize)>,
    meter: WaitMeter,
    /// Waits that the pipeline hasn't been told of.
    waits: Vec<WaitIncrement>,
    /// Names of the decisions that were logged.
    pub(super) logged: BTreeMap<Group, &'static str>,
}

/// What a failure to attach means.
pub(super) enum Failed {
    /// It is tried again.
    Again,
    /// It isn't.
    Never,
}

impl Watched {
    pub(super) fn new(wanted: Wanted) -> Self {
        let binary = &wanted.executable.binary;
        // `goidgen` is the first field of `schedt` in every version of Go.
        let last_goid = binary.globals.sched.map(|sched| sched.wrapping_add(wanted.bias));
        let runs = match binary.layouts {
            Layouts::Measured(layout) => binary.globals.sched.map(|sched| {
                let offset = u64::from(layout.sched.time_to_run);
                (sched.wrapping_add(wanted.bias).wrapping_add(offset), layout.time_histogram.size.into())
            }),
            Layouts::Tried(..) => None,
        };
        Self {
            last_goid,
            runs,
            wanted: Arc::new(wanted),
            outcome: Outcome::Pending,
            estimate: Estimate::default(),
            counted: BTreeMap::new(),
            charged: BTreeMap::new(),
            waits_are_watched: false,
            cpu: None,
            attempts: 0,
            meter: WaitMeter::new(Instant::now()),
            waits: Vec::new(),
            logged: BTreeMap::new(),
        }
    }

    /// Time passes without a window on waits.
    pub(super) fn pass_waits(&mut self, at: Instant, worker: &mut Worker) {
        if let Some((_, runs)) = self.own_runs(worker) {
            let increment = self.meter.pass(at, runs);
            self.keep(increment);
        }
    }

    /// A window on waits begins. `parks` tells how often goroutines have parked so far, where that is known.
    pub(super) fn open_waits(&mut self, worker: &mut Worker, parks: impl Fn() -> Option<u64>) {
        let mark = self.mark(worker, parks);
        self.meter.open(Instant::now(), mark);
    }

    /// A window on waits is about to be closed: from now on its probes go, one after the other.
    pub(super) fn end_waits(&mut self, worker: &mut Worker, parks: impl Fn() -> Option<u64>) {
        let mark = self.mark(worker, parks);
        self.meter.end(mark);
    }

    /// Runs and parks at one time. Windows may be so short that a thread's delay is a part of them: what the kernel had
    /// counted when the target's count was read lies between what it had before and what it had after.
    fn mark(&mut self, worker: &mut Worker, parks: impl Fn() -> Option<u64>) -> Option<(u64, u64)> {
        let (begin, before) = (Instant::now(), parks()?);
        let (read, runs) = self.own_runs(worker)?;
        let (end, after) = (Instant::now(), parks()?);
        let part = (read - begin).as_secs_f64() / (end - begin).as_secs_f64().max(f64::MIN_POSITIVE);
        Some((runs, before + (after.saturating_sub(before) as f64 * part.min(1.0)) as u64))
    }

    /// Measures waits of a window that goes on.
    pub(super) fn read_waits(
        &mut self,
        at: Instant,
        waits: &TargetWaits,
        counts: &TargetCounts,
        worker: &mut Worker,
        parks: impl Fn() -> Option<u64>,
    ) {
        let mark = self.mark(worker, parks);
        let increment = self.meter.read(at, waits, &parked(counts), mark);
        self.keep(increment);
    }

    /// Measures waits of a window that was closed.
    pub(super) fn close_waits(&mut self, at: Instant, waits: &TargetWaits, counts: &TargetCounts) {
        let increment = self.meter.close(at, waits, &parked(counts));
        self.keep(increment);
    }

    fn keep(&mut self, increment: WaitIncrement) {
        // Nobody reads them while the pipeline is busy.
        if increment.elapsed > Duration::ZERO && self.waits.len() < MAX_INCREMENTS {
            self.waits.push(increment);
        }
    }

    /// Share of the last minute in which waits were measured.
    pub(super) fn waits_coverage(&self, now: Instant) -> f64 {
        self.meter.coverage(now)
    }

    /// What was measured since this was asked last.
    pub(super) fn take_waits(&mut self) -> Vec<WaitIncrement> {
        std::mem::take(&mut self.waits)
    }

    /// Groups that have sites in what it runs.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group> + use<> {
        let sites = &self.wanted.executable.binary.sites.found;
        let has = |group: &Group| sites.iter().any(|site| site.probe.group() == *group);
        Group::ALL.into_iter().filter(has).collect::<Vec<_>>().into_iter()
    }

    /// Hits by group since this was asked last; `waits` are those of the probes on waits, where that is known better
    /// than by the counts.
    pub(super) fn new_hits(
        &mut self,
        counts: Option<&TargetCounts>,
        waits: Option<u64>,
    ) -> Vec<(Group, u64)> {
        let new = |group| {
            let new = counts.map_or(0, |counts| self.newly_counted(group, counts));
            let new = waits.filter(|_| group == Group::Waits).unwrap_or(new);
            *self.charged.entry(group).or_default() += new;
            (group, new)
        };
        Group::ALL.into_iter().map(new).collect()
    }

    fn newly_counted(&mut self, group: Group, counts: &TargetCounts) -> u64 {
        let hits = hits(group, counts);
        let before = self.counted.insert(group, hits).unwrap_or(0);
        // After a failure to attach the kernel counts from zero again.
        hits.checked_sub(before).unwrap_or(hits)
    }

    /// How often the probes of a group ran in it.
    pub(super) fn hits(&self, group: Group) -> u64 {
        self.charged.get(&group).copied().unwrap_or(0)
    }

    /// Whether probes on waits are in it.
    pub(super) const fn waits_are_watched(&self) -> bool {
        self.waits_are_watched
    }

    /// CPUs that it kept busy since it was asked last.
    pub(super) fn busy(&mut self, now: Instant) -> f64 {
        let Some(cpu) = self.cpu_seconds() else { return 1.0 };
        match self.cpu.replace((now, cpu)) {
            Some((before, cpu_before)) if now > before => (cpu - cpu_before) / (now - before).as_secs_f64(),
            _ => 1.0,
        }
    }

    fn cpu_seconds(&self) -> Option<f64> {
        process::cpu_time(self.wanted.identity.pid).map(|time| time.as_secs_f64())
    }

    /// How many goroutines it has created, by its own count: the numbers that it has given out.
    pub(super) fn own_count(&mut self, worker: &mut Worker) -> Option<u64> {
        let address = self.last_goid?;
        let memory = ProcessMemory(self.wanted.identity.pid);
        match worker.run(READ, move || memory.u64(address)) {
            Ok(read) => read.ok(),
            // Memory that doesn't answer is never asked again.
            Err(_) => {
                self.last_goid = None;
                None
            }
        }
    }

    /// One of eight times that a goroutine got a processor, by its own count, and when that was read.
    fn own_runs(&mut self, worker: &mut Worker) -> Option<(Instant, u64)> {
        let (address, size) = self.runs?;
        let memory = ProcessMemory(self.wanted.identity.pid);
        let counts = worker.run(READ, move || {
            let mut counts = vec![0; size];
            memory.read(address, &mut counts).map(|()| (Instant::now(), counts))
        });
        match counts {
            Ok(read) => {
                let (at, counts) = read.ok()?;
                Some((at, counts.chunks_exact(8).map(le64).fold(0, u64::wrapping_add)))
            }
            Err(_) => {
                self.runs = None;
                None
            }
        }
    }

    pub(super) fn attached(&mut self, group: Group) {
        self.waits_are_watched |= group == Group::Waits;
        self.attempts = 0;
        self.outcome = Outcome::Watched;
    }

    /// No probe of a group is left in it.
    pub(super) fn removed(&mut self, group: Group) {
        self.waits_are_watched &= group != Group::Waits;
    }

    pub(super) fn failed(&mut self, group: Group, error: &ProbeError) -> Failed {
        let pid = self.wanted.identity.pid;
        if may_pass(error) && self.attempts < MAX_ATTEMPTS {
            tracing::debug!(pid, %error, "probes will be tried again");
            self.attempts += 1;
            return Failed::Again;
        }
        match error {
            ProbeError::Gone { .. } => self.outcome = Outcome::Gone,
            _ => {
                tracing::info!(pid, %error, "no probes in this target");
                if group == Group::Lifecycle {
                    self.outcome = Outcome::Refused(error.to_string().into());
                }
            }
        }
        Failed::Never
    }
}

/// How often the probes of a group ran in a target.
fn hits(group: Group, counts: &TargetCounts) -> u64 {
    let of = |counts: &observer_ebpf::abi::CallsiteCounts| match group {
        Group::Lifecycle => counts.created + counts.exited,
        // Whoever parks is woken and runs again; new goroutines run without.
        Group::Waits => 3 * counts.parked,
    };
    counts.values().map(of).sum()
}

/// A process that the kernel is still loading has no code to read yet, and none to keep a breakpoint in.
const fn may_pass(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Memory { .. } | ProbeError::NotInstalled { .. })
}

pub(super) fn by_callsite(counts: &TargetCounts) -> Counts {
    counts
        .iter()
        // A callsite that only parked or ran says nothing about creations.
        .filter(|(_, counts)| counts.created + counts.exited > 0)
        .map(|(&(gopc, entry), counts)| {
            (CallsiteKey { gopc, entry }, Counted { created: counts.created, exited: counts.exited })
        })
        .collect()
}

/// Parks of one target.
fn parked(counts: &TargetCounts) -> Parked {
    let parked = counts.iter().filter(|(_, counts)| counts.parked > 0);
    parked.map(|(&(gopc, entry), counts)| (CallsiteKey { gopc, entry }, counts.parked)).collect()
}

/// Samples of one target.
pub(super) fn samples(counts: &TargetCounts) -> Samples {
    let sampled = |gopc, entry| {
        let key = abi::CallsiteKey { slot: 0, gopc, entry };
        if key == abi::CallsiteKey::no_goroutine(0) {
            Sampled::Runtime
        } else if key == abi::CallsiteKey::unreadable(0) {
            Sampled::Unknown
        } else {
            Sampled::Callsite(CallsiteKey { gopc, entry })
        }
    };
    let on_cpu = counts.iter().filter(|(_, counts)| counts.on_cpu > 0);
    on_cpu.map(|(&(gopc, entry), counts)| (sampled(gopc, entry), counts.on_cpu)).collect()
}
