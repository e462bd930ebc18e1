//! What a build without the cargo feature `bpf` has instead: the same types, which can't exist.

use std::convert::Infallible;

use observer_ebpf::abi::{Group, ProcessChange};

use super::governor::Costs;
use super::{
    Attachment, Counts, Hits, Losses, Options, ProbeError, SampledTarget, TargetCounts, TargetWaits, Waits,
};

/// Never made in this build.
pub struct Probes(Infallible);

/// Never made in this build.
pub struct Removal(Infallible);

/// Never made in this build.
pub struct Removed(Infallible);

/// Never made in this build.
pub struct ProcessWatch(Infallible);

/// # Errors
/// Always [`ProbeError::NotBuilt`].
pub fn calibrate() -> Result<Costs, ProbeError> {
    Err(ProbeError::NotBuilt)
}

impl Probes {
    /// # Errors
    /// Always [`ProbeError::NotBuilt`].
    pub fn load(_options: &Options) -> Result<Self, ProbeError> {
        Err(ProbeError::NotBuilt)
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn attach(&self, _target: &Attachment<'_>) -> Result<(), ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn detach(&self, _slot: u64, _group: Group) -> Result<TargetCounts, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    pub fn remove(&self, _slot: u64, _group: Group) -> Option<Removal> {
        match self.0 {}
    }

    /// Never called in this build.
    pub fn removed(&self, removed: Removed) {
        match removed.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn forget(&self, _slot: u64) -> Result<TargetCounts, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn waits(&self) -> Result<Waits, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn take_waits(&self, _slot: u64) -> Result<TargetWaits, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn sample(&self, _target: &SampledTarget<'_>) -> Result<(), ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    pub fn end_sampling(&self, _slot: u64) {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn can_sample(&self) -> Result<(), ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[must_use]
    pub fn attached(&self) -> usize {
        match self.0 {}
    }

    /// Never called in this build.
    #[must_use]
    pub fn closing(&self) -> usize {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn counts(&self) -> Result<Counts, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn hits(&self) -> Result<Hits, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub fn watch_processes(&self) -> Result<ProcessWatch, ProbeError> {
        match self.0 {}
    }
}

impl Removal {
    /// Never called in this build.
    #[must_use]
    pub fn finish(self) -> Removed {
        match self.0 {}
    }
}

impl ProcessWatch {
    /// Never called in this build.
    #[must_use]
    pub fn tells_oom_kills(&self) -> bool {
        match self.0 {}
    }

    /// Never called in this build.
    #[allow(clippy::missing_errors_doc, reason = "never called")]
    pub async fn next(&mut self) -> Result<(u32, ProcessChange), ProbeError> {
        match self.0 {}
    }
}
