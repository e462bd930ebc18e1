//! In which cgroup each target is, with each cgroup read once per tick.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cgroup::{Hierarchies, Membership, Reading};
use crate::container::{self, Owner};
use crate::model::view::{CgroupView, CpuView, MemoryView, PidsView};

/// The machine's cgroups; empty where there are none.
pub(super) struct Placement {
    hierarchies: Option<Hierarchies>,
    index: HashMap<Membership, usize>,
    views: Vec<CgroupView>,
}

/// Where one process is.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Path of its cgroup, fit to show.
    pub(super) path: Arc<str>,
    /// Who that belongs to.
    pub(super) owner: Owner,
    /// Index into the tick's cgroups, if it could be read.
    pub(super) index: Option<usize>,
}

impl Placement {
    /// Finds the hierarchies.
    pub(super) fn new() -> Self {
        let hierarchies = Hierarchies::discover()
            .inspect_err(
                |error| tracing::warn!(%error, "cgroups can't be read: limits and throttling are not shown"),
            )
            .ok();
        Self { hierarchies, index: HashMap::new(), views: Vec::new() }
    }

    /// Begins a tick: everything is read anew.
    pub(super) fn begin(&mut self) {
        self.index.clear();
        self.views.clear();
    }

    /// Where a process is now. A process that has ended, and a cgroup that is gone, are nowhere.
    pub(super) fn of(&mut self, pid: u32) -> Place {
        let Some(hierarchies) = &mut self.hierarchies else { return Place::default() };
        let Ok(membership) = hierarchies.membership(pid) else { return Place::default() };
        let path = membership.path().clone();
        let owner = container::owner(&path);
        if let Some(index) = self.index.get(&membership) {
            return Place { path, owner, index: Some(*index) };
        }
        let index = hierarchies.read(&membership).ok().map(|reading| {
            for problem in &reading.problems {
                tracing::debug!(%problem, "cgroup value is missing");
            }
            self.views.push(view(path.clone(), owner.clone(), reading));
            self.views.len() - 1
        });
        if let Some(index) = index {
            self.index.insert(membership, index);
        }
        Place { path, owner, index }
    }

    /// The cgroups of this tick.
    pub(super) fn finish(&mut self) -> Vec<CgroupView> {
        std::mem::take(&mut self.views)
    }
}

fn view(path: Arc<str>, owner: Owner, reading: Reading) -> CgroupView {
    CgroupView {
        path,
        owner,
        cpu: reading.cpu.map(|cpu| CpuView {
            limit_cores: cpu.limit_cores,
            usage_seconds: cpu.usage_seconds,
            periods: cpu.throttling.as_ref().map(|own| own.periods),
            throttled_periods: cpu.throttling.as_ref().map(|own| own.throttled_periods),
            throttled_seconds: cpu.throttling.as_ref().map(|own| own.throttled_seconds),
            binding: cpu.binding_throttling,
        }),
        memory: reading.memory.map(|memory| MemoryView {
            limit_bytes: memory.limit_bytes,
            usage_bytes: memory.usage_bytes,
            binding_usage_bytes: memory.binding_usage_bytes,
        }),
        pids: reading.pids.map(|pids| PidsView {
            limit: pids.limit,
            current: pids.current,
            binding_current: pids.binding_current,
        }),
    }
}
