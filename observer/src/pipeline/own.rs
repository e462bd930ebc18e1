//! What the observer says about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use procfs::process::Process;

use super::placement::Placement;
use super::prober::Prober;
use crate::model::view::{Durations, ObserverView, TargetView};
use crate::probe::features::{FEATURES, Feature};

/// Totals over the life of the observer.
pub(super) struct Own {
    durations: Durations,
    errors: BTreeMap<&'static str, u64>,
    folded: u64,
    workloads_folded: u64,
    features: BTreeMap<&'static str, bool>,
}

impl Own {
    /// `check_features` tries what the kernel allows, which takes some tens of milliseconds.
    pub(super) fn new(check_features: bool) -> Self {
        let checked = FEATURES.iter().filter(|_| check_features);
        Self {
            durations: Durations::default(),
            errors: BTreeMap::new(),
            folded: 0,
            workloads_folded: 0,
            features: checked.map(|feature| (feature.name, works(feature))).collect(),
        }
    }

    /// Counts a snapshot.
    pub(super) fn snapshot_taken(&mut self, duration: Duration) {
        self.durations.observe(duration);
    }

    /// Counts a failed snapshot.
    pub(super) fn snapshot_failed(&mut self, reason: &'static str) {
        *self.errors.entry(reason).or_default() += 1;
    }

    /// The observer's part of the view.
    pub(super) fn view(
        &mut self,
        prober: &Prober,
        placement: &Placement,
        targets: &[TargetView],
    ) -> ObserverView {
        let (probe_hits, events_lost) = prober.totals();
        let folded =
            targets.iter().flat_map(|target| &target.callsites).filter(|callsite| !callsite.own_series);
        self.folded += folded.count() as u64;
        self.workloads_folded += targets.iter().filter(|target| target.folded).count() as u64;
        let (cpu_seconds, resident_bytes, open_fds) = usage().unwrap_or_default();
        ObserverView {
            probe_hits,
            events_lost,
            snapshot_errors: self.errors.clone(),
            cgroup_errors: placement.errors(),
            snapshot_durations: self.durations.clone(),
            series_folded: self.folded,
            workloads_folded: self.workloads_folded,
            container_lookups: BTreeMap::new(),
            features: self.features.clone(),
            cpu_seconds,
            resident_bytes,
            open_fds,
        }
    }
}

/// Tries a feature; what is missing is said once, with what would enable it.
fn works(feature: &Feature) -> bool {
    let refused = feature.check().err();
    if let Some(reason) = &refused {
        tracing::warn!("no {}, so no {}: {reason}", feature.name, feature.gives);
    }
    refused.is_none()
}

fn usage() -> Option<(f64, u64, u64)> {
    let own = Process::myself().ok()?;
    let stat = own.stat().ok()?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let resident = own.statm().ok()?.resident * rustix::param::page_size() as u64;
    Some(((stat.utime + stat.stime) as f64 / ticks, resident, own.fd_count().ok()? as u64))
}
