//! What one target's callsites did, tick by tick: rates, and drift between the two engines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::recent::{CallsiteSample, Recent, TargetSample};
use super::reconcile::Base;
use super::view::{CallsiteView, GoroutinesView, GroupView, ProbesView, RuntimeView};
use crate::discover::environment::Environment;
use crate::gobin::naming::CallsiteName;
use crate::snapshot::census::{CallsiteKey, Census, Status, Tally};
use crate::snapshot::reader::Snapshot;

/// Goroutines from which on a callsite's last ticks are kept.
const MANY: u64 = 50;
/// Callsites of one target whose last ticks are kept.
const MAX_RECENT: usize = 64;

/// What probes counted of one callsite since they were attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Creations.
    pub created: u64,
    /// Ends.
    pub exited: u64,
}

impl Counted {
    /// Adds an increment.
    pub const fn add(&mut self, increment: Self) {
        self.created += increment.created;
        self.exited += increment.exited;
    }

    /// What was counted since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            created: self.created.saturating_sub(before.created),
            exited: self.exited.saturating_sub(before.exited),
        }
    }
}

/// Counts of one target by callsite.
pub type Counts = FxHashMap<CallsiteKey, Counted>;

/// One tick's readings of one target.
pub struct Readings<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// What probes say; `None` without probes.
    pub probed: Option<Probed<'a>>,
    /// Names of all callsites in the snapshot and in the counts.
    pub names: &'a FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
    /// What its environment said when it started, if that could be read.
    pub environment: Option<&'a Environment>,
}

/// Probe counts read before and after a snapshot, estimated where probes were missing.
#[derive(Debug, Clone, Copy)]
pub struct Probed<'a> {
    /// Before.
    pub before: &'a Counts,
    /// After.
    pub after: &'a Counts,
    /// See [`Estimate::unbroken`](super::estimate::Estimate::unbroken); `None` if anything between the
    /// readings is estimated.
    pub unbroken: Option<u64>,
    /// Whether nothing is estimated since the beginning.
    pub exact: bool,
    /// Where each group of probes stands.
    pub groups: &'a [GroupView],
}

/// A callsite's name in shared strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallsiteLabel {
    /// See [`CallsiteName`].
    pub created_by: Arc<str>,
    /// See [`CallsiteName`].
    pub entry: Arc<str>,
    /// See [`CallsiteName`].
    pub file: Arc<str>,
    /// See [`CallsiteName`].
    pub line: u32,
    /// Whether its goroutines are the runtime's own.
    pub system: bool,
}

impl CallsiteLabel {
    /// Makes names safe to show; `safe` replaces what must not reach a terminal or a label.
    #[must_use]
    pub fn new(name: &CallsiteName, system: bool, safe: impl Fn(&str) -> String) -> Self {
        let text = |text: &str| -> Arc<str> { safe(text).into() };
        Self {
            created_by: text(&name.created_by),
            entry: text(&name.entry),
            file: text(&name.file),
            line: name.line,
            system,
        }
    }
}

/// The goroutines of one target, over time.
#[derive(Debug, Default)]
pub struct History {
    callsites: FxHashMap<CallsiteKey, Callsite>,
    last: Option<Instant>,
    epoch: Option<Instant>,
    /// What [`Probed::unbroken`] was.
    unbroken: Option<u64>,
    /// The runtime's count of garbage collections, when it was last known.
    gc_cycles: Option<u64>,
    recent: Recent<TargetSample>,
}

#[derive(Debug, Default)]
struct Callsite {
    live: Option<u64>,
    counted: Counted,
    base: Base,
    /// When every goroutine was first seen busy, of an unbroken row of ticks.
    busy_since: Option<f64>,
    recent: Recent<CallsiteSample>,
}

/// A target's part of the view.
#[derive(Debug, Default)]
pub struct Digest {
    /// See the view.
    pub goroutines: GoroutinesView,
    /// See the view.
    pub runtime: RuntimeView,
    /// See the view.
    pub probes: Option<ProbesView>,
    /// See the view.
    pub callsites: Vec<CallsiteView>,
    /// See the view.
    pub recent: Vec<TargetSample>,
    /// What probes counted at each of `callsites` since the tick before; empty without probes.
    pub increments: Vec<Counted>,
    /// Garbage collections since the count was known before, 0 the first time; `None` where it isn't known.
    pub gc_cycles: Option<u64>,
}

impl History {
    /// Forgets what snapshots and probes agreed on when something was missed since.
    fn rebase(&mut self, unbroken: Option<u64>) {
        if std::mem::replace(&mut self.unbroken, unbroken) != unbroken {
            self.callsites.values_mut().for_each(|callsite| callsite.base = Base::default());
        }
    }

    /// Adds one tick.
    pub fn digest(&mut self, readings: &Readings<'_>) -> Digest {
        let census = &readings.snapshot.census;
        let tallies: FxHashMap<CallsiteKey, &Tally> =
            census.callsites.iter().map(|(key, tally)| (*key, tally)).collect();
        let elapsed = self.last.replace(readings.snapshot.ended).map(|last| readings.snapshot.ended - last);
        let mut keys: FxHashSet<CallsiteKey> = tallies.keys().copied().collect();
        let mut probes = None;
        if let Some(probed) = readings.probed {
            keys.extend(probed.after.keys());
            self.rebase(probed.unbroken);
            probes = Some(ProbesView {
                drift: probed.unbroken.map(|_| 0),
                estimated: !probed.exact,
                groups: probed.groups.to_vec(),
                ..ProbesView::default()
            });
        }
        let mut views: Vec<(CallsiteKey, CallsiteView, Counted)> = Vec::new();
        for key in keys {
            let tally = tallies.get(&key).copied();
            let counted = readings.probed.map(|probed| {
                let of = |counts: &Counts| counts.get(&key).copied().unwrap_or_default();
                (of(probed.before), of(probed.after))
            });
            let gapless = counted.filter(|_| self.unbroken.is_some());
            let drift = self.reconcile(key, tally, gapless, census);
            if let (Some(probes), Some((_, after))) = (&mut probes, counted) {
                probes.created += after.created;
                probes.exited += after.exited;
                probes.drift = probes.drift.map(|sum| sum + drift);
            }
            // What has no name yet is shown, and booked, when it has one.
            if !readings.names.contains_key(&key) {
                continue;
            }
            let view = self.view(key, tally, counted.map(|counted| counted.1), elapsed, readings);
            let increment = self.note(key, tally, counted.map(|counted| counted.1));
            views.extend(view.map(|view| (key, view, increment)));
        }
        // Of callsites that have neither goroutines nor counts nothing is kept. Counts are, also when they
        // could not be read this time: they would be booked twice.
        self.callsites
            .retain(|key, callsite| tallies.contains_key(key) || callsite.counted != Counted::default());
        views.sort_by(|(a_key, a, _), (b_key, b, _)| b.live.cmp(&a.live).then(a_key.cmp(b_key)));
        let epoch = *self.epoch.get_or_insert(readings.snapshot.began);
        let at = readings.snapshot.ended.saturating_duration_since(epoch).as_secs_f64();
        let exact = readings.probed.is_some_and(|probed| probed.exact);
        self.remember(&mut views, at, census.is_whole(), exact);
        let goroutines = goroutines(readings.snapshot);
        let runtime = runtime(readings.snapshot, readings.environment);
        self.recent.push(sample(&goroutines, &runtime, at));
        Digest {
            gc_cycles: self.collected(runtime.gc_cycles),
            goroutines,
            runtime,
            recent: self.recent.to_vec(),
            probes,
            increments: views
                .iter()
                .filter(|_| readings.probed.is_some())
                .map(|(_, _, increment)| *increment)
                .collect(),
            callsites: views.into_iter().map(|(_, view, _)| view).collect(),
        }
    }

    /// How many garbage collections there were since this was last known.
    fn collected(&mut self, now: Option<u64>) -> Option<u64> {
        let now = now?;
        Some(now.saturating_sub(self.gc_cycles.replace(now).unwrap_or(now)))
    }

    fn reconcile(
        &mut self,
        key: CallsiteKey,
        tally: Option<&Tally>,
        counted: Option<(Counted, Counted)>,
        census: &Census,
    ) -> u64 {
        let base = &mut self.callsites.entry(key).or_default().base;
        // A snapshot that missed descriptors can't tell what the probes missed.
        match counted {
            Some((before, after)) if census.is_whole() => {
                base.observe(tally.map_or(0, Tally::live), before, after)
            }
            _ => 0,
        }
    }

    /// `None` for the runtime's own callsites.
    fn view(
        &self,
        key: CallsiteKey,
        tally: Option<&Tally>,
        counted: Option<Counted>,
        elapsed: Option<Duration>,
        readings: &Readings<'_>,
    ) -> Option<CallsiteView> {
        let callsite = self.callsites.get(&key);
        let live = tally.map_or(0, |tally| tally.user);
        let label = readings.names.get(&key)?;
        if label.system && live == 0 {
            return None;
        }
        let rate =
            |now: u64, before: u64| elapsed.map(|elapsed| per_second(now as f64 - before as f64, elapsed));
        let previous = callsite.map(|callsite| callsite.counted).unwrap_or_default();
        Some(CallsiteView {
            created_by: label.created_by.clone(),
            entry: label.entry.clone(),
            file: label.file.clone(),
            line: label.line,
            gopc: key.gopc,
            live,
            created_total: counted.map(|counted| counted.created),
            exited_total: counted.map(|counted| counted.exited),
            created_per_second: counted.and_then(|counted| rate(counted.created, previous.created)),
            exited_per_second: counted.and_then(|counted| rate(counted.exited, previous.exited)),
            growth_per_second: rate(live, callsite.and_then(|callsite| callsite.live).unwrap_or(0)),
            parks_per_second: None,
            oldest_wait_seconds: tally.and_then(|tally| tally.oldest_wait),
            wait_reasons: tally.map(|tally| reasons(tally, readings.snapshot)).unwrap_or_default(),
            states: tally.map(states).unwrap_or_default(),
            stacks_bytes: tally.map_or(0, |tally| tally.stacks),
            busy_seconds: None,
            own_series: false,
            recent: Vec::new(),
        })
    }

    /// Keeps what the callsites with most goroutines did over the last ticks. A snapshot that missed some
    /// goroutines would look like a change.
    fn remember(
        &mut self,
        views: &mut [(CallsiteKey, CallsiteView, Counted)],
        at: f64,
        whole: bool,
        exact: bool,
    ) {
        for (index, (key, view, _)) in views.iter_mut().enumerate() {
            let Some(callsite) = self.callsites.get_mut(key) else { continue };
            callsite.busy_since = callsite.busy_since.or(Some(at)).filter(|_| is_busy(view));
            view.busy_seconds = callsite.busy_since.map(|since| at - since);
            if index >= MAX_RECENT || view.live < MANY {
                callsite.recent.clear();
                continue;
            }
            if whole {
                // An estimate can't show that none has ended.
                let exited = view.exited_total.filter(|_| exact);
                callsite.recent.push(CallsiteSample { at, live: view.live, exited });
            }
            view.recent = callsite.recent.to_vec();
        }
    }

    /// Remembers this tick's numbers, and returns what was counted since the tick before.
    fn note(&mut self, key: CallsiteKey, tally: Option<&Tally>, counted: Option<Counted>) -> Counted {
        let callsite = self.callsites.entry(key).or_default();
        callsite.live = Some(tally.map_or(0, |tally| tally.user));
        counted.map_or_else(Counted::default, |counted| {
            counted.since(std::mem::replace(&mut callsite.counted, counted))
        })
    }

    /// What was counted since the last tick of a target that has ended, by callsite.
    pub fn rest<'a>(&'a self, last: &'a Counts) -> impl Iterator<Item = (CallsiteKey, Counted)> + 'a {
        last.iter().map(|(key, counted)| {
            let before = self.callsites.get(key).map(|callsite| callsite.counted).unwrap_or_default();
            (*key, counted.since(before))
        })
    }
}

/// Whether each goroutine runs, or could.
fn is_busy(view: &CallsiteView) -> bool {
    let busy = [Status::Runnable, Status::Running].map(|status| view.states.get(status.name()));
    view.live > 0 && busy.into_iter().flatten().sum::<u64>() == view.live
}

fn per_second(difference: f64, elapsed: Duration) -> f64 {
    difference / elapsed.as_secs_f64().max(0.001)
}

fn reasons(tally: &Tally, snapshot: &Snapshot) -> BTreeMap<Arc<str>, u64> {
    tally.waiting.iter().map(|(reason, count)| (snapshot.reasons.name(*reason), *count)).collect()
}

fn goroutines(snapshot: &Snapshot) -> GoroutinesView {
    let census = &snapshot.census;
    let mut wait_reasons = BTreeMap::new();
    for (reason, count) in census.waiting.iter().enumerate().filter(|(_, count)| **count > 0) {
        *wait_reasons.entry(snapshot.reasons.name(reason as u8)).or_default() += count;
    }
    GoroutinesView {
        user: census.user,
        system: census.system,
        states: Status::ALL.iter().map(|status| (status.name(), census.states[*status as usize])).collect(),
        wait_reasons,
        torn: census.torn,
        locked: census.locked,
        stacks_bytes: census.stacks,
        complete: census.is_whole(),
        duration: snapshot.ended - snapshot.began,
    }
}

fn runtime(snapshot: &Snapshot, environment: Option<&Environment>) -> RuntimeView {
    let mut settings = snapshot.settings.clone();
    settings.attribute(environment);
    settings
}

/// User goroutines by state, those of none left out.
fn states(tally: &Tally) -> BTreeMap<&'static str, u64> {
    let all = Status::ALL.iter().map(|status| (status.name(), tally.states[*status as usize]));
    all.filter(|(_, count)| *count > 0).collect()
}

fn sample(goroutines: &GoroutinesView, runtime: &RuntimeView, at: f64) -> TargetSample {
    let state = |name| goroutines.states.get(name).copied().unwrap_or(0);
    TargetSample {
        at,
        threads: runtime.threads,
        runnable: state(Status::Runnable.name()),
        syscall: state(Status::Syscall.name()),
        gc_cycles: runtime.gc_cycles,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CallsiteKey = CallsiteKey { gopc: 1, entry: 2 };

    /// One tick of a target without goroutines, whose probes counted `created` so far at one callsite.
    fn tick(history: &mut History, created: Option<u64>, named: bool) -> Vec<u64> {
        let digest = tick_with(history, created, Some(0), named);
        digest.increments.iter().map(|increment| increment.created).collect()
    }

    /// The same while probes come and go: `unbroken` as of [`Probed`].
    fn tick_with(history: &mut History, created: Option<u64>, unbroken: Option<u64>, named: bool) -> Digest {
        let now = Instant::now();
        let snapshot = Snapshot {
            census: Census::default(),
            reasons: Arc::default(),
            settings: RuntimeView::default(),
            began: now,
            ended: now,
        };
        let counts = created.map(|created| Counts::from_iter([(KEY, Counted { created, exited: created })]));
        let name = CallsiteName { created_by: "f".into(), entry: "g".into(), file: String::new(), line: 1 };
        let label = Arc::new(CallsiteLabel::new(&name, false, str::to_owned));
        let names: FxHashMap<_, _> = named.then_some((KEY, label)).into_iter().collect();
        history.digest(&Readings {
            snapshot: &snapshot,
            probed: counts.as_ref().map(|counts| Probed {
                before: counts,
                after: counts,
                unbroken,
                exact: unbroken == Some(0),
                groups: &[],
            }),
            names: &names,
            environment: None,
        })
    }

    /// Garbage collections count from the first look on, also across a look that couldn't read them.
    #[test]
    fn collections_count_from_the_first_look() {
        let mut history = History::default();
        let collected = [None, Some(40), Some(43), None, Some(45)].map(|count| history.collected(count));
        assert_eq!(collected, [None, Some(0), Some(3), None, Some(2)]);
    }

    /// What was counted before a callsite's name was known is booked when it is known.
    #[test]
    fn a_late_name_loses_no_count() {
        let mut history = History::default();
        assert_eq!(tick(&mut history, Some(5), false), [0; 0]);
        assert_eq!(tick(&mut history, Some(7), true), [7]);
        assert_eq!(tick(&mut history, Some(8), true), [1]);
    }

    /// While something is missed nobody speaks of drift; afterwards it is measured against what is known from
    /// then on, and every count is booked once all along.
    #[test]
    fn a_gap_is_no_drift() {
        let mut history = History::default();
        let mut told = Vec::new();
        for (created, unbroken) in
            [(5, Some(0)), (900, None), (1800, None), (2000, Some(1)), (2000, Some(1)), (2007, Some(1))]
        {
            let digest = tick_with(&mut history, Some(created), unbroken, true);
            let probes = digest.probes.unwrap();
            assert_eq!(probes.estimated, unbroken != Some(0));
            told.push((probes.drift, digest.increments[0].created));
        }
        let expected = [(Some(0), 5), (None, 895), (None, 900), (Some(0), 200), (Some(0), 0), (Some(0), 7)];
        assert_eq!(told, expected);
    }

    /// Counts that can't be read for one tick are not booked a second time afterwards.
    #[test]
    fn unread_counts_are_not_booked_twice() {
        let mut history = History::default();
        assert_eq!(tick(&mut history, Some(5), true), [5]);
        assert_eq!(tick(&mut history, None, true), [0; 0]);
        assert_eq!(tick(&mut history, Some(6), true), [1]);
    }
}
