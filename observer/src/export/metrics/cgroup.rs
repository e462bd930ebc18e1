//! Limits and use of the cgroups that hold targets.

use std::collections::BTreeMap;

use super::samples::Subject;
use super::{Identity, Kind, Metric, Samples};
use crate::model::view::{CgroupView, CpuView, HugePages, Limit, Pressure, Stall, Throttling, View};

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
        help: "CPU bandwidth enforcement periods. Level 0 is the process's own cgroup, whether or not it has a \
               quota; where an ancestor's quota binds, that one has a series too: level 1 is the parent and so on",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &["level"],
        read: |view, samples| throttling(view, samples, |t| t.periods as f64),
    },
    Metric {
        name: "observer_cgroup_cpu_throttled_periods_total",
        help: "CPU bandwidth enforcement periods in which the cgroup of that level was throttled",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &["level"],
        read: |view, samples| throttling(view, samples, |t| t.throttled_periods as f64),
    },
    Metric {
        name: "observer_cgroup_cpu_throttled_seconds_total",
        help: "Time for which the cgroup of that level was throttled, summed over CPUs",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &["level"],
        read: |view, samples| throttling(view, samples, |t| t.throttled_seconds),
    },
    Metric {
        name: "observer_cgroup_cpu_weight_ratio",
        help: "CPU weight (v1: shares) of the cgroup against its siblings, relative to the default. Of equal \
               identity: the smallest",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| min(view, samples, |cgroup| cgroup.cpu.as_ref()?.weight),
    },
    Metric {
        name: "observer_cgroup_cpuset_cpus",
        help: "CPUs that the cgroup's cpuset allows. Of equal identity: the smallest",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| min(view, samples, |cgroup| cgroup.cpuset_cpus.map(f64::from)),
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
        name: "observer_cgroup_memory_events_total",
        help: "What happened in the cgroup and below it. Event is low, high, max (an allocation met the limit; \
               v1's failcnt), oom or oom_kill (processes killed); v1 has max and oom_kill",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &["event"],
        read: |view, samples| {
            for cgroup in &view.cgroups {
                for (event, count) in cgroup.memory.iter().flat_map(|memory| memory.events.named()) {
                    if let Some(count) = count {
                        samples.sum(cgroup, &[event], count as f64);
                    }
                }
            }
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
        name: "observer_cgroup_pids_rejected_total",
        help: "Forks and new threads that a limit of tasks refused: those of the cgroup's own limit (v2 from \
               Linux 6.11 on), or those that the cgroup's tasks tried (v1, and v2 before)",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| {
            sum(view, samples, |cgroup| cgroup.pids.as_ref()?.refused.map(|n| n as f64));
        },
    },
    Metric {
        name: "observer_cgroup_io_weight",
        help: "Weight of the cgroup at block devices against its siblings, on the kernel's scale (the default is \
               100; 500 for v1's cfq). Absent where no weight is in force. Of equal identity: the smallest",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| min(view, samples, |cgroup| cgroup.io.as_ref()?.weight.map(|n| n as f64)),
    },
    Metric {
        name: "observer_cgroup_hugetlb_limit_bytes",
        help: "Effective limit of huge pages of that size, as the kernel has rounded it to whole pages. Absent \
               when unlimited. Of equal identity: the smallest",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &["pagesize"],
        read: |view, samples| {
            for (cgroup, pages) in huge_pages(view) {
                if let Some(limit) = &pages.limit_bytes {
                    samples.min(cgroup, &[pages.size], limit.value as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_cgroup_hugetlb_usage_bytes",
        help: "Huge pages of that size in use by the cgroup now",
        kind: Kind::Gauge,
        identity: Identity::Cgroup,
        labels: &["pagesize"],
        read: |view, samples| {
            for (cgroup, pages) in huge_pages(view) {
                if let Some(usage) = pages.usage_bytes {
                    samples.sum(cgroup, &[pages.size], usage as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_cgroup_pressure_cpu_waiting_seconds_total",
        help: "Time for which some task of the cgroup waited for a CPU (v2 only, as all pressure)",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| pressure(view, samples, |pressure| waiting(pressure.cpu)),
    },
    Metric {
        name: "observer_cgroup_pressure_cpu_stalled_seconds_total",
        help: "Time for which all tasks of the cgroup that had something to do waited for a CPU",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| pressure(view, samples, |pressure| pressure.cpu?.stalled_seconds),
    },
    Metric {
        name: "observer_cgroup_pressure_memory_waiting_seconds_total",
        help: "Time for which some task of the cgroup waited for memory",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| pressure(view, samples, |pressure| waiting(pressure.memory)),
    },
    Metric {
        name: "observer_cgroup_pressure_memory_stalled_seconds_total",
        help: "Time for which all tasks of the cgroup that had something to do waited for memory",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| pressure(view, samples, |pressure| pressure.memory?.stalled_seconds),
    },
    Metric {
        name: "observer_cgroup_pressure_io_waiting_seconds_total",
        help: "Time for which some task of the cgroup waited for a block device",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| pressure(view, samples, |pressure| waiting(pressure.io)),
    },
    Metric {
        name: "observer_cgroup_pressure_io_stalled_seconds_total",
        help: "Time for which all tasks of the cgroup that had something to do waited for a block device",
        kind: Kind::Counter,
        identity: Identity::Cgroup,
        labels: &[],
        read: |view, samples| pressure(view, samples, |pressure| pressure.io?.stalled_seconds),
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

fn min(view: &View, samples: &mut Samples, read: fn(&CgroupView) -> Option<f64>) {
    for cgroup in &view.cgroups {
        if let Some(value) = read(cgroup) {
            samples.min(cgroup, &[], value);
        }
    }
}

/// Throttling of the own groups and of the ancestors whose quota binds; several groups below one ancestor
/// share its counters, so they count once.
fn throttling(view: &View, samples: &mut Samples, read: fn(&Throttling) -> f64) {
    let mut ancestors: BTreeMap<(Subject<'_>, u32, &str), f64> = BTreeMap::new();
    for cgroup in &view.cgroups {
        let Some(cpu) = &cgroup.cpu else { continue };
        if let Some(own) = &cpu.throttling {
            samples.sum(cgroup, &[&level_name(0)], read(own));
        }
        if let (Some(binding), Some(limit)) = (&cpu.binding, &cpu.limit_cores) {
            ancestors.insert((Subject::from(cgroup), limit.level, &limit.binding), read(binding));
        }
    }
    for ((subject, level, _), value) in ancestors {
        samples.sum(subject, &[&level_name(level)], value);
    }
}

fn huge_pages(view: &View) -> impl Iterator<Item = (&CgroupView, &HugePages)> {
    view.cgroups.iter().flat_map(|cgroup| cgroup.hugetlb.iter().map(move |pages| (cgroup, pages)))
}

fn pressure(view: &View, samples: &mut Samples, read: fn(&Pressure) -> Option<f64>) {
    for cgroup in &view.cgroups {
        if let Some(seconds) = read(&cgroup.pressure) {
            samples.sum(cgroup, &[], seconds);
        }
    }
}

fn waiting(stall: Option<Stall>) -> Option<f64> {
    stall.map(|stall| stall.waiting_seconds)
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
