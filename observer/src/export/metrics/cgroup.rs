//! Limits and use of the cgroups that hold targets.

use std::collections::BTreeMap;

use super::samples::Subject;
use super::{Identity, Kind, Metric, Samples};
use crate::model::view::{CgroupView, CpuView, Limit, View};

/// Levels from here on share one label value, so that deep trees don't make more series.
const DEEPEST_LEVEL: u32 = 8;

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "observer_cgroup_cpu_limit_cores",
        help: "Effective CPU limit (the smallest quota/period on the way to the root), in cores. Absent when \
               unlimited",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| {
            limits(view, samples, |cgroup| {
                Some(cgroup.cpu.as_ref()?.limit_cores.as_ref().map(|limit| (limit.value, &*limit.binding)))
            });
        },
    },
    Metric {
        name: "observer_cgroup_cpu_usage_seconds_total",
        help: "CPU time used by the cgroup",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| cpu(view, samples, |cpu| cpu.usage_seconds),
    },
    Metric {
        name: "observer_cgroup_cpu_periods_total",
        help: "CPU bandwidth enforcement periods of the cgroup",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| cpu(view, samples, |cpu| cpu.periods.map(|n| n as f64)),
    },
    Metric {
        name: "observer_cgroup_cpu_throttled_periods_total",
        help: "CPU bandwidth enforcement periods in which the cgroup was throttled",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| cpu(view, samples, |cpu| cpu.throttled_periods.map(|n| n as f64)),
    },
    Metric {
        name: "observer_cgroup_cpu_throttled_seconds_total",
        help: "Time for which the cgroup was throttled, summed over CPUs",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| cpu(view, samples, |cpu| cpu.throttled_seconds),
    },
    Metric {
        name: "observer_cgroup_memory_limit_bytes",
        help: "Effective memory limit (the smallest on the way to the root). Absent when unlimited",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| {
            limits(view, samples, |cgroup| {
                let limit = cgroup.memory.as_ref()?.limit_bytes.as_ref();
                Some(limit.map(|limit| (limit.value as f64, &*limit.binding)))
            });
        },
    },
    Metric {
        name: "observer_cgroup_memory_usage_bytes",
        help: "Memory charged to the cgroup now, page cache included",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| {
            sum(view, samples, |cgroup| cgroup.memory.as_ref()?.usage_bytes.map(|n| n as f64));
        },
    },
    Metric {
        name: "observer_cgroup_pids_limit",
        help: "Effective limit of tasks (processes and threads; the smallest on the way to the root). Absent \
               when unlimited",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| {
            limits(view, samples, |cgroup| {
                let limit = cgroup.pids.as_ref()?.limit.as_ref();
                Some(limit.map(|limit| (limit.value as f64, &*limit.binding)))
            });
        },
    },
    Metric {
        name: "observer_cgroup_pids",
        help: "Tasks (processes and threads) in the cgroup now",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| {
            sum(view, samples, |cgroup| cgroup.pids.as_ref()?.current.map(|n| n as f64));
        },
    },
    Metric {
        name: "observer_cgroup_limit_info",
        help: "1 for each effective limit: which cgroup sets it. Level 0 is the process's own, 1 its parent \
               and so on, 8+ anything above. Resource is cpu, memory or pids",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &["resource", "level"],
        read: |view, samples| {
            for cgroup in &view.cgroups {
                for (resource, level) in binding_levels(cgroup) {
                    samples.info(cgroup, &[resource, &level_name(level)]);
                }
            }
        },
    },
];

/// A limit in cores, bytes or tasks, and the cgroup that sets it.
type Binding<'a> = (f64, &'a str);

/// Limits of cgroups with equal identity: several below one ancestor share its limit, so it counts once; and
/// as soon as one has no limit, all of them together have none. `read` gives `None` where the controller
/// isn't there.
fn limits<'a>(
    view: &'a View,
    samples: &mut Samples,
    read: impl Fn(&'a CgroupView) -> Option<Option<Binding<'a>>>,
) {
    let mut groups: BTreeMap<Subject<'a>, Option<BTreeMap<&str, f64>>> = BTreeMap::new();
    for cgroup in &view.cgroups {
        let Some(limit) = read(cgroup) else { continue };
        let group = groups.entry(Subject::from(cgroup)).or_insert_with(|| Some(BTreeMap::new()));
        match (limit, &mut *group) {
            (Some((value, binding)), Some(bindings)) => _ = bindings.insert(binding, value),
            _ => *group = None,
        }
    }
    for (subject, bindings) in groups {
        if let Some(bindings) = bindings {
            samples.sum(subject, &[], bindings.values().sum());
        }
    }
}

fn sum(view: &View, samples: &mut Samples, read: fn(&CgroupView) -> Option<f64>) {
    for cgroup in &view.cgroups {
        if let Some(value) = read(cgroup) {
            samples.sum(cgroup, &[], value);
        }
    }
}

fn cpu(view: &View, samples: &mut Samples, read: fn(&CpuView) -> Option<f64>) {
    for cgroup in &view.cgroups {
        if let Some(value) = cgroup.cpu.as_ref().and_then(read) {
            samples.sum(cgroup, &[], value);
        }
    }
}

fn binding_levels(cgroup: &CgroupView) -> impl Iterator<Item = (&'static str, u32)> {
    fn level<T>(limit: Option<&Limit<T>>) -> Option<u32> {
        limit.map(|limit| limit.level)
    }
    [
        ("cpu", level(cgroup.cpu.as_ref().and_then(|cpu| cpu.limit_cores.as_ref()))),
        ("memory", level(cgroup.memory.as_ref().and_then(|memory| memory.limit_bytes.as_ref()))),
        ("pids", level(cgroup.pids.as_ref().and_then(|pids| pids.limit.as_ref()))),
    ]
    .into_iter()
    .filter_map(|(resource, level)| Some((resource, level?)))
}

fn level_name(level: u32) -> String {
    if level < DEEPEST_LEVEL { level.to_string() } else { format!("{DEEPEST_LEVEL}+") }
}
