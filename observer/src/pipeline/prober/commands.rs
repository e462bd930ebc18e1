//! What the pipeline and the probes' thread tell each other.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use observer_ebpf::abi::Group;
use rustc_hash::FxHashMap;

use crate::discover::process::Identity;
use crate::model::history::Counts;
use crate::model::view::GroupView;
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
    /// From the pipeline: a target has ended or runs another program. The answer is its last counts.
    Release { slot: u64, answer: SyncSender<Counts> },
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
}

/// All targets at one time, by slot.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Readings(pub(super) FxHashMap<u64, TargetReading>);

impl Readings {
    /// `None` for a target that isn't watched, or if nothing could be read.
    pub(in crate::pipeline) fn of(&self, slot: u64) -> Option<&TargetReading> {
        self.0.get(&slot)
    }

    pub(super) fn is_anything_pending(&self) -> bool {
        self.0.values().any(|reading| reading.outcome == Outcome::Pending)
    }
}
