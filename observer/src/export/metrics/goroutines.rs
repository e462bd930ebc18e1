//! Goroutines, by `go` statement, state and wait reason.

use std::sync::Arc;

use super::{Identity, Kind, Metric, Samples};
use crate::model::view::{CallsiteView, SeriesView, TargetView, TotalsView, View};
use crate::model::waits::{self, Wait, Waits};

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
        help: "Goroutines created, by go statement, counted by probes in the processes of this identity, also in those \
               that have ended. Absent without probes",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            counters(view, samples, |series| series.created, |(created, _)| created);
        },
    },
    Metric {
        name: "observer_goroutines_exited_total",
        help: "Goroutines that ended, by go statement, counted by probes in the processes of this identity, also in those \
               that have ended. Absent without probes",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            counters(view, samples, |series| series.exited, |(_, exited)| exited);
        },
    },
    Metric {
        name: "observer_goroutine_cpu_seconds_total",
        help: "CPU time of goroutines, by go statement: samples of the CPUs' clocks (--cpu-sampling-hz), so n seconds at \
               49 Hz are exact to about √(n/49) seconds. created_by=\"runtime\" is the runtime itself: its own goroutines \
               as the garbage collector's, the scheduler, threads without a goroutine; \"unknown\" what could not be read. \
               Absent without sampling",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            for totals in &view.totals {
                for (created_by, entry, seconds) in &totals.cpu_seconds {
                    samples.sum(totals, &[created_by, entry], *seconds);
                }
            }
        },
    },
    Metric {
        name: "observer_goroutine_parks_total",
        help: "Times that goroutines parked, by the Go runtime's own wait reason: measured in windows and scaled to how \
               often the program's goroutines ran between them by its own count, see observer_probe_coverage_ratio. Absent \
               without probes",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: &["wait_reason"],
        read: |view, samples| {
            for (totals, reason, wait) in waits(view) {
                samples.sum(totals, &[reason], wait.parks.round());
            }
        },
    },
    Metric {
        name: "observer_goroutine_callsite_parks_total",
        help: "Times that goroutines parked, by go statement; estimated from windows as observer_goroutine_parks_total. \
               created_by=\"runtime\" is the runtime itself, \"unknown\" what had no name. Absent without probes",
        kind: Kind::Counter,
        identity: Identity::Process,
        labels: CALLSITE,
        read: |view, samples| {
            for totals in &view.totals {
                for (created_by, entry, parks) in &totals.parks {
                    samples.sum(totals, &[created_by, entry], parks.round());
                }
            }
        },
    },
    Metric {
        name: "observer_goroutine_wait_seconds",
        help: "How long goroutines waited, from parking until they ran again, by wait reason; estimated from windows as \
               observer_goroutine_parks_total. Waits longer than a window are seldom or never in it: what is missing to \
               the parks; observer_goroutine_oldest_wait_seconds has them. Absent without probes",
        kind: Kind::Histogram,
        identity: Identity::Process,
        labels: &["wait_reason"],
        read: |view, samples| {
            for (totals, reason, wait) in waits(view) {
                samples.spread(totals, &[reason], &wait.until_run);
            }
        },
    },
    Metric {
        name: "observer_goroutine_run_queue_seconds",
        help: "How long goroutines that were made ready waited for a processor; estimated from windows. Without those that \
               the network poller made ready. Absent without probes",
        kind: Kind::Histogram,
        identity: Identity::Process,
        labels: &[],
        read: |view, samples| {
            for totals in view.totals.iter().filter(|totals| !totals.waits.is_empty()) {
                samples.spread(totals, &[], &waits::queued(&totals.waits));
            }
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
        help: "The longest that one goroutine of the go statement has waited at least: since it was first seen so, \
               or since a garbage collection saw it so. Processes of equal identity: the largest",
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

fn waits(view: &View) -> impl Iterator<Item = (&TotalsView, &str, &Wait)> {
    let reasons = |totals| -> (&TotalsView, &Waits<Arc<str>>) { (totals, &totals.waits) };
    view.totals
        .iter()
        .map(reasons)
        .flat_map(|(totals, waits)| waits.iter().map(move |(reason, wait)| (totals, &**reason, wait)))
}

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

/// A counter per callsite and one for `other`, from the model's running totals: summed over the processes of
/// the moment, they would fall when one ends.
fn counters(view: &View, samples: &mut Samples, own: fn(&SeriesView) -> u64, other: fn((u64, u64)) -> u64) {
    for totals in &view.totals {
        for series in &totals.series {
            samples.sum(totals, &[&series.created_by, &series.entry], own(series) as f64);
        }
        if let Some(counts) = totals.other {
            samples.sum(totals, &OTHER, other(counts) as f64);
        }
    }
}
