//! Goroutines, by `go` statement, state and wait reason.

use super::{Identity, Kind, Metric, Samples};
use crate::model::view::{CallsiteView, TargetView, View};

const CALLSITE: &[&str] = &["created_by", "entry"];
/// Both labels of the series that holds every callsite without series of its own.
const OTHER: [&str; 2] = ["other", "other"];

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "observer_goroutines",
        help: "User goroutines alive in the newest snapshot, as runtime.NumGoroutine counts, by go \
               statement: created_by is the function that contains it, entry the function the goroutine \
               runs. Callsites past --max-callsites are in created_by=\"other\",entry=\"other\"",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            each_callsite(view, |target, labels, callsite| samples.sum(target, labels, callsite.live as f64));
        },
    },
    Metric {
        name: "observer_goroutines_created_total",
        help: "Goroutines created since the probes were attached, by go statement. Absent without probes",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            counters(view, samples, |callsite| callsite.created_total, |target| target.other_created_total);
        },
    },
    Metric {
        name: "observer_goroutines_exited_total",
        help: "Goroutines that ended since the probes were attached, by go statement. Absent without probes",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            counters(view, samples, |callsite| callsite.exited_total, |target| target.other_exited_total);
        },
    },
    Metric {
        name: "observer_goroutine_states",
        help: "User goroutines alive in the newest snapshot, by state: runnable, running, syscall, waiting, \
               preempted, leaked",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["state"],
        read: |view, samples| {
            for (target, goroutines) in snapshots(view) {
                for (state, count) in &goroutines.states {
                    samples.sum(target, &[state], *count as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_goroutines_waiting",
        help: "Waiting user goroutines in the newest snapshot, by the Go runtime's own wait reason",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: &["wait_reason"],
        read: |view, samples| {
            for (target, goroutines) in snapshots(view) {
                for (reason, count) in &goroutines.wait_reasons {
                    samples.sum(target, &[reason], *count as f64);
                }
            }
        },
    },
    Metric {
        name: "observer_goroutine_oldest_wait_seconds",
        help: "The longest that one goroutine of the go statement was seen in the same wait: a lower bound. \
               Processes of equal identity: the largest",
        kind: Kind::Gauge,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            each_callsite(view, |target, labels, callsite| {
                if let Some(seconds) = callsite.oldest_wait_seconds {
                    samples.max(target, labels, seconds);
                }
            });
        },
    },
];

fn snapshots(view: &View) -> impl Iterator<Item = (&TargetView, &crate::model::view::GoroutinesView)> {
    view.targets.iter().filter_map(|target| Some((target, target.goroutines.as_ref()?)))
}

/// Calls `each` with every callsite and its labels, `other` for those without series of their own.
fn each_callsite(view: &View, mut each: impl FnMut(&TargetView, &[&str], &CallsiteView)) {
    for target in &view.targets {
        for callsite in &target.callsites {
            let own = [&*callsite.created_by, &*callsite.entry];
            each(target, if callsite.own_series { &own } else { &OTHER }, callsite);
        }
    }
}

/// A counter per callsite. What is in `other` changes as callsites gain and lose series of their own, so its
/// total is kept by the model and not summed here: summed, it would jump back.
fn counters(
    view: &View,
    samples: &mut Samples,
    own: fn(&CallsiteView) -> Option<u64>,
    other: fn(&TargetView) -> u64,
) {
    for target in view.targets.iter().filter(|target| target.probes.is_some()) {
        for callsite in target.callsites.iter().filter(|callsite| callsite.own_series) {
            if let Some(total) = own(callsite) {
                samples.sum(target, &[&callsite.created_by, &callsite.entry], total as f64);
            }
        }
        if other(target) > 0 || target.callsites.iter().any(|callsite| !callsite.own_series) {
            samples.sum(target, &OTHER, other(target) as f64);
        }
    }
}
