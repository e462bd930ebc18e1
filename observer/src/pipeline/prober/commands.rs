//! What the pipeline and the probes' thread tell each other.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use observer_ebpf::abi::Group;
use rustc_hash::FxHashMap;

use crate::discover::process::Identity;
use crate::model::history::Counts;
use crate::model::on_cpu::Samples;
use crate::model::view::GroupView;
use crate::model::waits::WaitIncrement;
use crate::pipeline::executables::Executable;
use crate::probe::governor::Costs;
use crate::probe::{ProbeError, Removed};

/// A target to be watched.
pub(in crate::pipeline) struct Wanted {
    /// Who it must still be when probes are put into it.
    pub(in crate::pipeline) identity: Identity,
    /// Key of its counts.
    pub(in crate::pipeline) slot: u64,
    /// What it runs.
    pub(in crate::pipeline) executable: Arc<Executable>,
    /// Load address − link-time address.
    pub(in crate::pipeline) bias: u64,
}

pub(super) enum Message {
    /// From the pipeline: watch a target.
    Admit(Box<Wanted>),
    /// From the pipeline: a target has ended or runs another program. The answer is its last counts, if it was watched.
    Release { slot: u64, answer: SyncSender<Option<LastCounts>> },
    /// From the pipeline: what is known of all targets?
    Read(SyncSender<Readings>),
    /// From the attacher: probes are in a target, or why not.
    Attached { slot: u64, group: Group, result: Result<(), ProbeError> },
    /// From a remover: no probe of the group is left.
    Removed { slot: u64, group: Group, removed: Option<Removed> },
    /// From the attacher: what probes cost.
    Calibrated(Costs),
    /// From the pipeline: take all probes out, and end.
    Stop,
}

/// What was counted in a target up to its end.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct LastCounts {
    pub(in crate::pipeline) counts: Counts,
    pub(in crate::pipeline) samples: Samples,
    pub(in crate::pipeline) waits: Vec<WaitIncrement>,
}

/// How far probes came in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) enum Outcome {
    /// Nobody knows yet.
    Pending,
    /// They were in it at least once.
    Watched,
    /// They can't be put there: why, in one sentence.
    Refused(Arc<str>),
    /// Its process has ended, or runs another program.
    Gone,
}

/// One target at one time.
#[derive(Debug)]
pub(in crate::pipeline) struct TargetReading {
    /// How far probes came.
    pub(in crate::pipeline) outcome: Outcome,
    /// Counts since the beginning, estimated where probes were missing; `None` before the beginning.
    pub(in crate::pipeline) counts: Option<Counts>,
    /// See [`Estimate::unbroken`](crate::model::estimate::Estimate::unbroken).
    pub(in crate::pipeline) unbroken: Option<u64>,
    /// Whether nothing is estimated.
    pub(in crate::pipeline) exact: bool,
    /// By group.
    pub(in crate::pipeline) groups: Vec<GroupView>,
    /// What was measured since the last time.
    pub(in crate::pipeline) waits: Vec<WaitIncrement>,
}

/// All targets at one time, by slot.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Readings {
    pub(super) targets: FxHashMap<u64, TargetReading>,
    /// Samples since sampling began, also of targets that aren't watched.
    pub(super) samples: FxHashMap<u64, Samples>,
}

impl Readings {
    /// `None` for a target that isn't watched, or if nothing could be read.
    pub(in crate::pipeline) fn of(&self, slot: u64) -> Option<&TargetReading> {
        self.targets.get(&slot)
    }

    /// Samples that found a target on a CPU; `None` if there was none so far.
    pub(in crate::pipeline) fn samples(&self, slot: u64) -> Option<&Samples> {
        self.samples.get(&slot)
    }

    /// Waits that were measured in a target since the last reading.
    pub(in crate::pipeline) fn take_waits(&mut self, slot: u64) -> Vec<WaitIncrement> {
        self.targets.get_mut(&slot).map(|reading| std::mem::take(&mut reading.waits)).unwrap_or_default()
    }

    pub(super) fn is_anything_pending(&self) -> bool {
        self.targets.values().any(|reading| reading.outcome == Outcome::Pending)
    }
}
