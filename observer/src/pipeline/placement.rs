//! In which cgroup each target is, with each cgroup read once per tick.

use std::collections::{BTreeMap, HashMap};
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
    errors: BTreeMap<&'static str, u64>,
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
            errors: BTreeMap::new(),
            epoch: Instant::now(),
        }
    }

    /// Begins a tick: everything is read anew.
    pub(super) fn begin(&mut self) {
        self.index.clear();
        self.views.clear();
        self.hierarchies.iter_mut().for_each(Hierarchies::begin_sweep);
    }

    /// Where a process is now. A process that has ended is nowhere; what can't be read is counted by reason.
    pub(super) fn of(&mut self, pid: u32) -> Place {
        let Some(place) = self.place(pid) else { return Place::default() };
        match place {
            // The group was removed after the process had moved out of it.
            Place { index: None, .. } => self.place(pid).unwrap_or_default(),
            place => place,
        }
    }

    fn place(&mut self, pid: u32) -> Option<Place> {
        let hierarchies = self.hierarchies.as_mut()?;
        let membership = match hierarchies.membership(pid) {
            Ok(membership) => membership,
            Err(error) => {
                if let Some(name) = error.name() {
                    tracing::debug!(pid, %error, "cgroup is unknown");
                    *self.errors.entry(name).or_default() += 1;
                }
                return None;
            }
        };
        let path = membership.path().clone();
        let owner = container::owner(&path);
        if let Some(index) = self.index.get(&membership) {
            return Some(Place { path, owner, index: Some(*index) });
        }
        let reading = match hierarchies.read(&membership) {
            Ok(reading) => reading,
            Err(gone) => {
                tracing::debug!(pid, %gone, "cgroup is no more");
                *self.errors.entry("removed").or_default() += 1;
                return Some(Place { path, owner, index: None });
            }
        };
        for problem in &reading.problems {
            tracing::debug!(%problem, "cgroup value is missing");
            *self.errors.entry(problem.reason.name()).or_default() += 1;
        }
        let mut view = view(path.clone(), owner.clone(), reading);
        let recent = self.recent.entry(membership.clone()).or_default();
        recent.push(sample(&view, self.epoch.elapsed().as_secs_f64()));
        view.recent = recent.to_vec();
        self.views.push(view);
        let index = self.views.len() - 1;
        self.index.insert(membership, index);
        Some(Place { path, owner, index: Some(index) })
    }

    /// What could not be read so far, by reason.
    pub(super) fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.errors.clone()
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
        problems: reading.problems,
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
