//! In which cgroup each target is, with each cgroup read once per tick.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cgroup::{Hierarchies, Membership, Reading};
use crate::container::{self, Group, LookupCounts, NameOptions, Names, Naming, Owner};
use crate::model::recent::{CgroupSample, Recent};
use crate::model::view::{CgroupView, CpuView};

/// The machine's cgroups; empty where there are none.
pub(super) struct Placement {
    hierarchies: Option<Hierarchies>,
    names: Names,
    /// Containers that hold a target in this tick.
    containers: HashSet<Arc<str>>,
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
    /// What the path tells.
    pub(super) group: Group,
    /// Who that belongs to.
    pub(super) owner: Owner,
    /// Whether the owner will stay the same; otherwise a name is awaited.
    pub(super) named: bool,
    membership: Option<Membership>,
}

impl Placement {
    /// Finds the hierarchies.
    pub(super) fn new(names: NameOptions) -> Self {
        let hierarchies = Hierarchies::discover()
            .inspect_err(
                |error| tracing::warn!(%error, "cgroups can't be read: limits and throttling are not shown"),
            )
            .ok();
        Self {
            hierarchies,
            names: Names::new(names),
            containers: HashSet::new(),
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
        self.containers.clear();
        self.hierarchies.iter_mut().for_each(Hierarchies::begin_sweep);
    }

    /// Waits for the names of containers, but no longer than `patience`.
    pub(super) fn await_names(&self, patience: Duration) {
        self.names.settle(patience);
    }

    /// Questions for names since the start, by what came.
    pub(super) fn lookups(&self) -> LookupCounts {
        self.names.counts()
    }

    /// What could not be read so far, by reason.
    pub(super) fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.errors.clone()
    }

    /// Where a process is now, and who that belongs to. A process that has ended is nowhere; what can't be
    /// read is counted by reason.
    pub(super) fn find(&mut self, pid: u32) -> Place {
        let Some(membership) = self.membership(pid) else { return Place::default() };
        let path = membership.path().clone();
        let group = container::group(&path);
        self.containers.extend(group.container.as_ref().map(|container| container.id.clone()));
        let naming = self.naming(&group);
        let named = naming != Naming::Awaited;
        let name = if let Naming::Settled(name) = naming { name } else { None };
        let owner = group.owner(name.as_deref());
        Place { path, group, owner, named, membership: Some(membership) }
    }

    /// Who a group belongs to, unless a name is awaited; for a process that may have left it since.
    pub(super) fn owner(&mut self, group: &Group) -> Option<Owner> {
        match self.naming(group) {
            Naming::Settled(name) => Some(group.owner(name.as_deref())),
            Naming::Awaited => None,
        }
    }

    fn naming(&mut self, group: &Group) -> Naming {
        group.container.as_ref().map_or(Naming::Settled(None), |container| self.names.of(container))
    }

    fn membership(&mut self, pid: u32) -> Option<Membership> {
        match self.hierarchies.as_ref()?.membership(pid) {
            Ok(membership) => Some(membership),
            Err(error) => {
                if let Some(name) = error.name() {
                    tracing::debug!(pid, %error, "cgroup is unknown");
                    *self.errors.entry(name).or_default() += 1;
                }
                None
            }
        }
    }

    /// Reads a place's cgroup, once per tick, and gives its index among those of the tick; `None` when it is
    /// gone.
    pub(super) fn read(&mut self, place: &Place) -> Option<usize> {
        let membership = place.membership.as_ref()?;
        if let Some(index) = self.index.get(membership) {
            return Some(*index);
        }
        let reading = match self.hierarchies.as_mut()?.read(membership) {
            Ok(reading) => reading,
            Err(gone) => {
                tracing::debug!(%gone, "cgroup is no more");
                *self.errors.entry("removed").or_default() += 1;
                return None;
            }
        };
        for problem in &reading.problems {
            tracing::debug!(%problem, "cgroup value is missing");
            *self.errors.entry(problem.reason.name()).or_default() += 1;
        }
        let mut view = view(place.path.clone(), place.owner.clone(), reading);
        let recent = self.recent.entry(membership.clone()).or_default();
        recent.push(sample(&view, self.epoch.elapsed().as_secs_f64()));
        view.recent = recent.to_vec();
        self.views.push(view);
        self.index.insert(membership.clone(), self.views.len() - 1);
        Some(self.views.len() - 1)
    }

    /// The cgroups of this tick.
    pub(super) fn finish(&mut self) -> Vec<CgroupView> {
        self.hierarchies.iter_mut().for_each(Hierarchies::end_sweep);
        let left = self.recent.extract_if(|membership, _| !self.index.contains_key(membership));
        for (membership, _) in left {
            if let Some(hierarchies) = &mut self.hierarchies {
                hierarchies.close(&membership);
            }
        }
        self.names.retain(&self.containers);
        std::mem::take(&mut self.views)
    }
}

fn view(path: Arc<str>, owner: Owner, reading: Reading) -> CgroupView {
    CgroupView {
        path,
        owner,
        folded: false,
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
