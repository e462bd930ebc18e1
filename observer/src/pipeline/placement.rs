//! In which cgroup each target is, with each cgroup read once per tick.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::cgroup::{Hierarchies, Membership, Reading};
use crate::container::{self, Owner};
use crate::model::recent::{CgroupSample, Recent};
use crate::model::view::{CgroupView, CpuView};

/// The machine's cgroups; empty where there are none.
pub(super) struct Placement {
    hierarchies: Option<Hierarchies>,
    index: HashMap<Membership, usize>,
    views: Vec<CgroupView>,
    recent: HashMap<Membership, Recent<CgroupSample>>,
    epoch: Instant,
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
        Self {
            hierarchies,
            index: HashMap::new(),
            views: Vec::new(),
            recent: HashMap::new(),
            epoch: Instant::now(),
        }
    }

    /// Begins a tick: everything is read anew.
    pub(super) fn begin(&mut self) {
        self.index.clear();
        self.views.clear();
        self.hierarchies.iter_mut().for_each(Hierarchies::begin_sweep);
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
            let mut view = view(path.clone(), owner.clone(), reading);
            let recent = self.recent.entry(membership.clone()).or_default();
            recent.push(sample(&view, self.epoch.elapsed().as_secs_f64()));
            view.recent = recent.to_vec();
            self.views.push(view);
            self.views.len() - 1
        });
        if let Some(index) = index {
            self.index.insert(membership, index);
        }
        Place { path, owner, index }
    }

    /// The cgroups of this tick.
    pub(super) fn finish(&mut self) -> Vec<CgroupView> {
        self.hierarchies.iter_mut().for_each(Hierarchies::end_sweep);
        self.recent.retain(|membership, _| self.index.contains_key(membership));
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
            throttling: cpu.throttling,
            binding: cpu.binding_throttling,
            burst_seconds: cpu.burst_seconds,
            weight: cpu.weight,
        }),
        memory: reading.memory,
        pids: reading.pids,
        io: reading.io,
        hugetlb: reading.hugetlb,
        cpuset_cpus: reading.cpuset_cpus,
        pressure: reading.pressure,
        recent: Vec::new(),
    }
}

/// What rules compare over time: of throttling, refusals and limit hits the binding group's.
fn sample(view: &CgroupView, at: f64) -> CgroupSample {
    let cpu = view.cpu.as_ref();
    let throttling = cpu.and_then(|cpu| cpu.binding.or(cpu.throttling));
    let memory = view.memory.as_ref();
    let io = view.pressure.io;
    CgroupSample {
        at,
        periods: throttling.map(|throttling| throttling.periods),
        throttled_periods: throttling.map(|throttling| throttling.throttled_periods),
        throttled_seconds: throttling.map(|throttling| throttling.throttled_seconds),
        oom_kills: memory.and_then(|memory| memory.events.oom_kill),
        memory_limit_hits: memory.and_then(|memory| memory.binding_events.unwrap_or(memory.events).max),
        forks_refused: view.pids.as_ref().and_then(|pids| pids.refused.max(pids.binding_refused)),
        io_waiting: io.map(|stall| stall.waiting_seconds),
        io_stalled: io.and_then(|stall| stall.stalled_seconds),
    }
}
