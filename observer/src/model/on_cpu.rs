//! CPU time by `go` statement, from samples of the CPUs' clocks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::history::CallsiteLabel;
use super::view::{CallsiteCpuView, OnCpuView};
use crate::snapshot::census::CallsiteKey;

/// What is said of the recent past reaches back so far: as far as what is said of throttling.
const RECENT: Duration = Duration::from_secs(60);

/// `created_by` and `entry` of what the runtime itself uses: its own goroutines, as those of the garbage
/// collector, its scheduler, and threads without a goroutine.
pub const RUNTIME: &str = "runtime";
/// `created_by` and `entry` of samples whose goroutine couldn't be read.
pub const UNKNOWN: &str = "unknown";

/// Whose time on a CPU a sample found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sampled {
    /// A goroutine's.
    Callsite(CallsiteKey),
    /// No goroutine's.
    Runtime,
    /// Nobody knows whose.
    Unknown,
}

/// Samples of one target since sampling began.
pub type Samples = FxHashMap<Sampled, u64>;

/// `created_by`, `entry` and seconds.
pub type CpuIncrement = (Arc<str>, Arc<str>, f64);

/// The samples of one target, over time.
#[derive(Debug, Default)]
pub struct OnCpu {
    before: Samples,
    last: Option<Instant>,
    /// What each of the last ticks added.
    recent: VecDeque<(Instant, Samples)>,
}

impl OnCpu {
    /// Adds one tick. What was sampled since the tick before is returned by callsite, to be booked.
    pub fn digest(
        &mut self,
        now: Instant,
        samples: &Samples,
        names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
        hz: u32,
    ) -> (OnCpuView, Vec<CpuIncrement>) {
        let added = self.added(samples, names);
        let elapsed = self.last.replace(now).map(|last| (now - last).as_secs_f64().max(0.001));
        let seconds = |samples: u64| samples as f64 / f64::from(hz.max(1));
        let booked = named(&added, names, seconds);
        for (key, count) in &added {
            *self.before.entry(*key).or_default() += count;
        }
        let latest = named(&added, names, seconds);
        self.recent.push_back((now, added));
        while self.recent.front().is_some_and(|(at, _)| now - *at > RECENT) {
            self.recent.pop_front();
        }
        let recent = self.recent.iter().flat_map(|(_, added)| added.iter());
        let mut sums = Samples::default();
        recent.for_each(|(key, count)| *sums.entry(*key).or_default() += count);
        let rate = |by: &Arc<str>, entry: &Arc<str>| {
            let of = latest.iter().find(|(b, e, _)| (b, e) == (by, entry)).map_or(0.0, |found| found.2);
            elapsed.map(|elapsed| of / elapsed)
        };
        let mut callsites: Vec<CallsiteCpuView> = named(&sums, names, seconds)
            .into_iter()
            .map(|(created_by, entry, recent_seconds)| CallsiteCpuView {
                cores: rate(&created_by, &entry),
                created_by,
                entry,
                recent_seconds,
            })
            .collect();
        callsites.sort_by(|a, b| b.recent_seconds.total_cmp(&a.recent_seconds));
        (OnCpuView { callsites }, booked)
    }

    /// What was sampled since the last tick of a target that has ended.
    #[must_use]
    pub fn rest(
        &self,
        last: &Samples,
        names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
        hz: u32,
    ) -> Vec<CpuIncrement> {
        named(&self.added(last, names), names, |samples| samples as f64 / f64::from(hz.max(1)))
    }

    /// What has a name and wasn't there before; what has no name yet is added when it has one.
    fn added(&self, samples: &Samples, names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>) -> Samples {
        let known = |key: &Sampled| match key {
            Sampled::Callsite(key) => names.contains_key(key),
            Sampled::Runtime | Sampled::Unknown => true,
        };
        samples
            .iter()
            .filter(|(key, _)| known(key))
            .map(|(key, count)| (*key, count.saturating_sub(self.before.get(key).copied().unwrap_or(0))))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Seconds by name: several lines of one function are one, and so is all that is the runtime's.
fn named(
    samples: &Samples,
    names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
    seconds: impl Fn(u64) -> f64,
) -> Vec<CpuIncrement> {
    let mut sums: FxHashMap<(Arc<str>, Arc<str>), u64> = FxHashMap::default();
    for (key, count) in samples {
        let label = match key {
            Sampled::Runtime => fixed(RUNTIME),
            Sampled::Unknown => fixed(UNKNOWN),
            Sampled::Callsite(key) => names_of(*key, names),
        };
        *sums.entry(label).or_default() += count;
    }
    let mut named: Vec<CpuIncrement> =
        sums.into_iter().map(|((created_by, entry), count)| (created_by, entry, seconds(count))).collect();
    named.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    named
}

/// `created_by` and `entry` of what is booked to a callsite.
pub(super) fn names_of(
    key: CallsiteKey,
    names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
) -> (Arc<str>, Arc<str>) {
    match names.get(&key) {
        Some(label) if label.system => fixed(RUNTIME),
        Some(label) => (label.created_by.clone(), label.entry.clone()),
        None => fixed(UNKNOWN),
    }
}

fn fixed(name: &str) -> (Arc<str>, Arc<str>) {
    (name.into(), name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gobin::naming::CallsiteName;

    const KEY: CallsiteKey = CallsiteKey { gopc: 1, entry: 2 };

    fn names(system: bool) -> FxHashMap<CallsiteKey, Arc<CallsiteLabel>> {
        let name = CallsiteName { created_by: "f".into(), entry: "g".into(), file: String::new(), line: 1 };
        FxHashMap::from_iter([(KEY, Arc::new(CallsiteLabel::new(&name, system, str::to_owned)))])
    }

    fn samples(callsite: u64, runtime: u64) -> Samples {
        Samples::from_iter([(Sampled::Callsite(KEY), callsite), (Sampled::Runtime, runtime)])
    }

    fn shown(increments: &[CpuIncrement]) -> Vec<(&str, f64)> {
        increments.iter().map(|(_, entry, seconds)| (&**entry, *seconds)).collect()
    }

    /// Samples become seconds, are booked once, and give cores from the second tick on.
    #[test]
    fn samples_become_seconds() {
        let (mut on_cpu, now) = (OnCpu::default(), Instant::now());
        let (view, booked) = on_cpu.digest(now, &samples(100, 50), &names(false), 50);
        assert_eq!(shown(&booked), [("g", 2.0), ("runtime", 1.0)]);
        assert_eq!(view.callsites[0].cores, None);
        let later = now + Duration::from_secs(2);
        let (view, booked) = on_cpu.digest(later, &samples(150, 50), &names(false), 50);
        assert_eq!(shown(&booked), [("g", 1.0)]);
        assert_eq!((view.callsites[0].cores, view.callsites[0].recent_seconds), (Some(0.5), 3.0));
        assert_eq!(view.callsites[1].cores, Some(0.0));
        assert_eq!(shown(&on_cpu.rest(&samples(150, 75), &names(false), 50)), [("runtime", 0.5)]);
    }

    /// What was sampled before its name was known is booked when it is, and the runtime's own goroutines are
    /// booked to the runtime.
    #[test]
    fn a_late_name_loses_no_sample() {
        let (mut on_cpu, now) = (OnCpu::default(), Instant::now());
        let (_, booked) = on_cpu.digest(now, &samples(50, 0), &FxHashMap::default(), 50);
        assert_eq!(shown(&booked), []);
        let (_, booked) = on_cpu.digest(now, &samples(100, 50), &names(true), 50);
        assert_eq!(shown(&booked), [("runtime", 3.0)]);
    }

    /// The recent past ends after a minute.
    #[test]
    fn the_past_is_forgotten() {
        let (mut on_cpu, now) = (OnCpu::default(), Instant::now());
        on_cpu.digest(now, &samples(50, 0), &names(false), 50);
        let (view, _) = on_cpu.digest(now + 2 * RECENT, &samples(75, 0), &names(false), 50);
        assert_eq!(view.callsites[0].recent_seconds, 0.5);
    }
}
