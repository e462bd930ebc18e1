//! The Go runtime of each target: what it is, its settings, its heap and scheduler.

use super::{Identity, Kind, Metric, Samples};
use crate::model::view::{RuntimeView, TargetView, View};

/// Processes that have an information series.
const MAX_INFOS: usize = 5000;

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "observer_target_info",
        help: "1 for each observed process, for joins on the identity labels: pid as the observer sees it, \
               inner_pid in the process's own PID namespace, container id, systemd slice, cgroup path and \
               executable. The only metric with labels of one process. Those of the first 5000 processes",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["pid", "inner_pid", "container_id", "slice", "cgroup", "exe"],
        read: |view, samples| {
            for target in view.targets.iter().filter(|target| !target.folded).take(MAX_INFOS) {
                let inner = target.inner_pid.map(|pid| pid.to_string()).unwrap_or_default();
                let id = target.container_id.as_deref().unwrap_or_default();
                let slice = target.slice.as_deref().unwrap_or_default();
                let pid = target.pid.to_string();
                samples.info(target, &[&pid, &inner, id, slice, &target.cgroup_path, &target.exe]);
            }
        },
    },
    Metric {
        name: "observer_oom_kills_total",
        help: "Processes that the kernel killed for lack of memory since the observer first saw their like. They count when \
               the cgroup is gone, too, as a container's is. Absent where the kernel doesn't tell (feature oom_events)",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            for totals in &view.totals {
                if let Some(kills) = totals.oom_kills {
                    samples.sum(totals, &[], kills as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_go_info",
        help: "1 for each Go version in use",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["go_version"],
        read: |view, samples| {
            for target in &view.targets {
                if let Some(version) = &target.go_version {
                    samples.info(target, &[version]);
                }
            }
        },
    },
    Metric {
        name: "observer_go_system_goroutines",
        help: "System goroutines in the newest snapshot, which runtime.NumGoroutine leaves out",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            sum(view, samples, |target| Some(target.goroutines.as_ref()?.system as f64));
        },
    },
    Metric {
        name: "observer_go_gomaxprocs_threads",
        help: "GOMAXPROCS in force, read from the runtime",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| settings(view, samples, |runtime| runtime.gomaxprocs.map(f64::from)),
    },
    Metric {
        name: "observer_go_gomaxprocs_info",
        help: "1 for each source of GOMAXPROCS in use: default (the runtime's own choice), environment or call. \
               Absent where it can't be told",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["source"],
        read: |view, samples| {
            for target in &view.targets {
                if let Some(source) = target.runtime.as_ref().and_then(|runtime| runtime.gomaxprocs_source) {
                    samples.info(target, &[source.name()]);
                }
            }
        },
    },
    Metric {
        name: "observer_go_gogc_percent",
        help: "GOGC in force, read from the runtime; -1 is off. Processes of equal identity: the smallest",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            for target in &view.targets {
                if let Some(percent) = target.runtime.as_ref().and_then(|runtime| runtime.gogc_percent) {
                    samples.min(target, &[], f64::from(percent));
                }
            }
        },
    },
    Metric {
        name: "observer_go_gomemlimit_bytes",
        help: "GOMEMLIMIT in force, read from the runtime. Absent when unlimited or unknown",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| settings(view, samples, |runtime| runtime.gomemlimit_bytes.map(|n| n as f64)),
    },
    Metric {
        name: "observer_go_heap_live_bytes",
        help: "Heap that is live or not yet swept, as the garbage collector's pacer counts it",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| settings(view, samples, |runtime| runtime.heap_live_bytes.map(|n| n as f64)),
    },
    Metric {
        name: "observer_go_heap_goal_bytes",
        help: "Heap size that the garbage collector aimed at in its last cycle",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| settings(view, samples, |runtime| runtime.heap_goal_bytes.map(|n| n as f64)),
    },
    Metric {
        name: "observer_go_gc_cycles_total",
        help: "Garbage collections that ended since the observer first looked, by the runtime's own count in each snapshot. \
               Absent where that can't be read",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            for totals in &view.totals {
                if let Some(cycles) = totals.gc_cycles {
                    samples.sum(totals, &[], cycles as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_go_threads",
        help: "Operating-system threads that the runtime holds",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| settings(view, samples, |runtime| runtime.threads.map(|n| n as f64)),
    },
    Metric {
        name: "observer_go_run_queue_goroutines",
        help: "Goroutines in the global and all local run queues: ready, and without a thread to run on",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            settings(view, samples, |runtime| runtime.run_queue_goroutines.map(|n| n as f64));
        },
    },
    Metric {
        name: "observer_finding",
        help: "1 for each finding of a rule in the newest view; docs/rules.md says what each means",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["rule", "severity"],
        read: |view, samples| {
            for finding in &view.findings {
                if let Some(target) = view.targets.get(finding.target) {
                    samples.info(target, &[finding.rule, finding.severity.name()]);
                }
            }
        },
    },
];

fn settings(view: &View, samples: &mut Samples, read: fn(&RuntimeView) -> Option<f64>) {
    for target in &view.targets {
        if let Some(value) = target.runtime.as_ref().and_then(read) {
            samples.sum(target, &[], value);
        }
    }
}

fn sum(view: &View, samples: &mut Samples, read: fn(&TargetView) -> Option<f64>) {
    for target in &view.targets {
        if let Some(value) = read(target) {
            samples.sum(target, &[], value);
        }
    }
}
