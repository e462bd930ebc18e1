//! What the observer sees, misses and costs.

use std::collections::BTreeMap;

use super::samples::Subject;
use super::{Identity, Kind, Metric, Samples};
use crate::model::view::{GroupView, TargetState, TargetView, View};

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "observer_targets",
        help: "Go processes, by how far they can be observed: observed, snapshot_only (probes were wanted, \
               but can't be had), unreadable",
        kind: Kind::Gauge,
        identity: Identity::Observer,
        labels: &["state"],
        read: |view, samples| {
            for state in TargetState::ALL {
                let count = view.targets.iter().filter(|target| target.state == state).count();
                samples.sum(Subject::OBSERVER, &[state.name()], count as f64);
            }
        },
    },
    Metric {
        name: "observer_probe_hits_total",
        help: "Times that a probe ran, in all targets",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &["probe"],
        read: |view, samples| counts(&view.observer.probe_hits, samples),
    },
    Metric {
        name: "observer_probe_drift_goroutines",
        help: "Goroutines by which the probes' count misses the newest snapshot, summed over callsites; 0 \
               when both agree. Absent while probes come and go, because counts are estimates then",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            for target in &view.targets {
                if let Some(drift) = target.probes.as_ref().and_then(|probes| probes.drift) {
                    samples.sum(target, &[], drift as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_probe_coverage_ratio",
        help: "Share of the last minute in which a group of probes was in the process: lifecycle (starts and ends \
               of goroutines), waits. Below 1, what they count is scaled. Processes of equal identity: the smallest",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["probe"],
        read: |view, samples| {
            for (target, group) in groups(view) {
                samples.min(target, &[group.probe], group.coverage);
            }
        },
    },
    Metric {
        name: "observer_probe_overhead_ratio",
        help: "Share of one CPU that probes cost the process, over about half a minute: hits, with what a hit was \
               measured to cost on this machine, and their coming and going. Processes of equal identity: the \
               largest",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            for target in &view.targets {
                if let Some(probes) = &target.probes {
                    samples.max(target, &[], probes.groups.iter().map(|group| group.overhead).sum());
                }
            }
        },
    },
    Metric {
        name: "observer_probe_state",
        help: "Go processes by what was decided for a group of probes: trial (its cost is not known yet), on, windows \
               (it comes and goes, to stay within --overhead-budget), off (it costs so much that it is tried again \
               after more than a minute)",
        kind: Kind::Gauge,
        identity: Identity::Observer,
        labels: &["probe", "state"],
        read: |view, samples| {
            for (_, group) in groups(view) {
                samples.sum(Subject::OBSERVER, &[group.probe, group.state], 1.0);
            }
        },
    },
    Metric {
        name: "observer_snapshot_duration_seconds",
        help: "How long successful snapshots took",
        kind: Kind::Histogram,
        identity: Identity::Observer,
        labels: &[],
        read: |view, samples| samples.histogram(&view.observer.snapshot_durations),
    },
    Metric {
        name: "observer_snapshot_errors_total",
        help: "Snapshots that failed, by reason",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &["reason"],
        read: |view, samples| counts(&view.observer.snapshot_errors, samples),
    },
    Metric {
        name: "observer_cgroup_errors_total",
        help: "Cgroups, and values of cgroups, that could not be read, by reason: removed (the group, while it was \
               read), ambiguous (a name that may be forged), unreadable, malformed, too_large, denied, \
               no_descriptors, io, too_deep, outside (no mount shows the group)",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &["reason"],
        read: |view, samples| counts(&view.observer.cgroup_errors, samples),
    },
    Metric {
        name: "observer_events_lost_total",
        help: "Events that a probe saw but could not count, by reason",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &["reason"],
        read: |view, samples| counts(&view.observer.events_lost, samples),
    },
    Metric {
        name: "observer_series_folded_total",
        help: "Callsites that were put into created_by=\"other\" because their workload has --max-callsites \
               others with more goroutines, or the machine --max-callsites-node, or because the whole workload is in other",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &[],
        read: |view, samples| samples.sum(Subject::OBSERVER, &[], view.observer.series_folded as f64),
    },
    Metric {
        name: "observer_workloads_folded_total",
        help: "Snapshots of processes that were put into unit=\"other\",process=\"other\" because the machine has \
               --max-workloads other workloads; their cgroups are in unit=\"other\"",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &[],
        read: |view, samples| samples.sum(Subject::OBSERVER, &[], view.observer.workloads_folded as f64),
    },
    Metric {
        name: "observer_container_lookups_total",
        help: "Questions to the container runtime for the name of a container, by result: named, unknown (it \
               has no such container), failed (no answer, or one that can't be true). Each is asked again \
               until it is named",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &["result"],
        read: |view, samples| counts(&view.observer.container_lookups, samples),
    },
    Metric {
        name: "observer_feature_enabled",
        help: "1 when the feature works on this machine with these privileges, else 0; observer check says \
               why",
        kind: Kind::Gauge,
        identity: Identity::Observer,
        labels: &["feature"],
        read: |view, samples| {
            for (feature, enabled) in &view.observer.features {
                samples.sum(Subject::OBSERVER, &[feature], f64::from(*enabled));
            }
        },
    },
    Metric {
        name: "observer_build_info",
        help: "1, with the version of the observer",
        kind: Kind::Gauge,
        identity: Identity::Observer,
        labels: &["version"],
        read: |_, samples| samples.info(Subject::OBSERVER, &[env!("CARGO_PKG_VERSION")]),
    },
    Metric {
        name: "process_cpu_seconds_total",
        help: "CPU time that the observer used, user and system",
        kind: Kind::Counter,
        identity: Identity::Observer,
        labels: &[],
        read: |view, samples| samples.sum(Subject::OBSERVER, &[], view.observer.cpu_seconds),
    },
    Metric {
        name: "process_resident_memory_bytes",
        help: "Resident memory of the observer",
        kind: Kind::Gauge,
        identity: Identity::Observer,
        labels: &[],
        read: |view, samples| samples.sum(Subject::OBSERVER, &[], view.observer.resident_bytes as f64),
    },
    Metric {
        name: "process_open_fds",
        help: "File descriptors that the observer has open",
        kind: Kind::Gauge,
        identity: Identity::Observer,
        labels: &[],
        read: |view, samples| samples.sum(Subject::OBSERVER, &[], view.observer.open_fds as f64),
    },
];

fn groups(view: &View) -> impl Iterator<Item = (&TargetView, &GroupView)> {
    view.targets.iter().flat_map(|target| {
        target.probes.iter().flat_map(|probes| &probes.groups).map(move |group| (target, group))
    })
}

fn counts(counts: &BTreeMap<&'static str, u64>, samples: &mut Samples) {
    for (name, count) in counts {
        samples.sum(Subject::OBSERVER, &[name], *count as f64);
    }
}
