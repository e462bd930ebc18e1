//! What probes would have counted had they been in the target all the time.
//!
//! In a window every event is counted. The time since the window before is represented by the counts of the
//! window that follows it, and the time after the last window by that one. What happened in the gaps is so an
//! estimate; without gaps every number is exact.
//!
//! A hit slows the target down. A program that runs as fast as it can does less in a window than outside, so a
//! gap isn't measured by the clock alone, but by the CPU time that the target itself used.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::history::{Counted, Counts};
use crate::snapshot::census::CallsiteKey;

/// A gap is represented by so much of the window that follows it, if that is longer.
const REPRESENTATIVE: Duration = Duration::from_secs(1);
/// Coverage is that of so much of the past.
const REMEMBERED: Duration = Duration::from_secs(60);

/// One reading of a target.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// When.
    pub at: Instant,
    /// What the kernel has counted since the target was admitted, in windows and while they end.
    pub counts: &'a Counts,
    /// CPU seconds that the target has used for itself: without what probes cost it. `None` if unknown.
    pub work: Option<f64>,
    /// CPU seconds that probes have cost it.
    pub cost: f64,
}

/// The counts of one target.
#[derive(Debug)]
pub struct Estimate {
    totals: FxHashMap<CallsiteKey, (f64, f64)>,
    phase: Phase,
    /// Times at which coverage began (`true`) or ended, oldest first.
    changes: VecDeque<(Instant, bool)>,
    gaps: u64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was counted yet.
    Before,
    Window {
        begin: Mark,
        gap: Option<Gap>,
    },
    Gap {
        begin: Mark,
        /// Counts for each second of the window before.
        rates: Vec<(CallsiteKey, f64, f64)>,
    },
}

#[derive(Debug, Clone, Default)]
struct Mark {
    at: Option<Instant>,
    counts: Counts,
    work: Option<f64>,
    cost: f64,
}

/// A gap that is over.
#[derive(Debug, Clone, Copy)]
struct Gap {
    seconds: f64,
    work: Option<f64>,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { totals: FxHashMap::default(), phase: Phase::Before, changes: VecDeque::new(), gaps: 0 }
    }
}

impl Estimate {
    /// All probes are in the target from now on.
    pub fn open(&mut self, reading: Reading<'_>) {
        self.note_change(reading.at, true);
        let (counts, gap) = match &self.phase {
            Phase::Window { .. } => return,
            // The probes came one after the other; what they counted so far is all there is.
            Phase::Before => (Counts::default(), None),
            Phase::Gap { begin, .. } => (reading.counts.clone(), Some(gap(begin, &reading))),
        };
        self.phase = Phase::Window { begin: Mark { counts, ..mark(&reading) }, gap };
    }

    /// From now on probes are missing.
    pub fn close(&mut self, reading: Reading<'_>) {
        let Phase::Window { begin, .. } = &self.phase else { return };
        let seconds = seconds_between(begin, &reading).max(1e-3);
        let rates = increments(&begin.counts, reading.counts)
            .map(|(key, counted)| (key, counted.created as f64 / seconds, counted.exited as f64 / seconds))
            .collect();
        self.settle(reading);
        self.note_change(reading.at, false);
        self.gaps += 1;
        self.phase = Phase::Gap { begin: mark(&reading), rates };
    }

    /// The target has ended: what is missing until now is filled in.
    pub fn end(&mut self, reading: Reading<'_>) -> Counts {
        match &self.phase {
            Phase::Gap { begin, rates } => {
                let seconds = seconds_between(begin, &reading);
                for (key, created, exited) in rates {
                    let total = self.totals.entry(*key).or_default();
                    *total = (total.0 + created * seconds, total.1 + exited * seconds);
                }
            }
            Phase::Window { .. } => self.settle(reading),
            Phase::Before => {}
        }
        self.phase = Phase::Before;
        rounded(&self.totals)
    }

    /// The counts so far. They never fall.
    pub fn read(&mut self, reading: Reading<'_>) -> Counts {
        let Phase::Window { begin, gap } = &self.phase else { return rounded(&self.totals) };
        if gap.is_some() && seconds_between(begin, &reading) >= REPRESENTATIVE.as_secs_f64() {
            self.settle(reading);
        }
        let Phase::Window { begin, .. } = &self.phase else { return rounded(&self.totals) };
        let mut counts = rounded(&self.totals);
        for (key, counted) in increments(&begin.counts, reading.counts) {
            counts.entry(key).or_default().add(counted);
        }
        counts
    }

    /// A number that stays while nothing is missed: between two readings with the same number everything was
    /// counted. `None` while something is missing or not yet filled in.
    #[must_use]
    pub const fn unbroken(&self) -> Option<u64> {
        match &self.phase {
            Phase::Window { gap: None, .. } => Some(self.gaps),
            _ => None,
        }
    }

    /// Whether everything since the beginning was counted.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.gaps == 0
    }

    /// When everything was counted first.
    #[must_use]
    pub fn began(&self) -> bool {
        !matches!(self.phase, Phase::Before)
    }

    /// Share of the last minute in which everything was counted, or of the time since the beginning.
    #[must_use]
    pub fn coverage(&self, now: Instant) -> f64 {
        let horizon = now.checked_sub(REMEMBERED);
        let Some((first, _)) = self.changes.front() else { return 0.0 };
        let from = horizon.map_or(*first, |horizon| horizon.max(*first));
        let ends = self.changes.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let covered: Duration = self
            .changes
            .iter()
            .zip(ends)
            .filter(|((_, on), _)| *on)
            .map(|((begin, _), end)| end.saturating_duration_since((*begin).max(from)))
            .sum();
        let all = now.saturating_duration_since(from);
        if all.is_zero() { 1.0 } else { (covered.as_secs_f64() / all.as_secs_f64()).min(1.0) }
    }

    fn note_change(&mut self, at: Instant, on: bool) {
        if self.changes.back().is_none_or(|(_, last)| *last != on) {
            self.changes.push_back((at, on));
        }
        // The last change before the horizon says how it was there.
        while self
            .changes
            .get(1)
            .is_some_and(|(second, _)| at.saturating_duration_since(*second) > REMEMBERED)
        {
            self.changes.pop_front();
        }
    }

    /// Adds the window so far, with the gap before it, to the totals.
    fn settle(&mut self, reading: Reading<'_>) {
        let Phase::Window { begin, gap } = &self.phase else { return };
        let weight = 1.0 + gap.map_or(0.0, |gap| gap_per_window(gap, begin, &reading));
        for (key, counted) in increments(&begin.counts, reading.counts) {
            let total = self.totals.entry(key).or_default();
            total.0 += counted.created as f64 * weight;
            total.1 += counted.exited as f64 * weight;
        }
        self.phase = Phase::Window { begin: mark(&reading), gap: None };
    }
}

fn mark(reading: &Reading<'_>) -> Mark {
    Mark { at: Some(reading.at), counts: reading.counts.clone(), work: reading.work, cost: reading.cost }
}

fn gap(begin: &Mark, reading: &Reading<'_>) -> Gap {
    Gap {
        seconds: seconds_between(begin, reading),
        work: begin.work.zip(reading.work).map(|(begin, end)| (end - begin).max(0.0)),
    }
}

/// How many times what happened in a window happened in the gap before it.
fn gap_per_window(gap: Gap, begin: &Mark, reading: &Reading<'_>) -> f64 {
    let window = seconds_between(begin, reading).max(1e-3);
    // No slower than if every hit had held up all of the target, no faster than if none had held up anything.
    let held_up = (reading.cost - begin.cost).clamp(0.0, window * 0.9);
    let (least, most) = (gap.seconds / window, gap.seconds / (window - held_up));
    let by_work = || {
        let worked = reading.work? - begin.work?;
        (worked > 0.0).then_some(gap.work? / worked)
    };
    by_work().unwrap_or(least).clamp(least, most)
}

fn seconds_between(begin: &Mark, reading: &Reading<'_>) -> f64 {
    begin.at.map_or(0.0, |begin| reading.at.saturating_duration_since(begin).as_secs_f64())
}

fn increments<'a>(
    before: &'a Counts,
    after: &'a Counts,
) -> impl Iterator<Item = (CallsiteKey, Counted)> + 'a {
    after.iter().map(|(key, counted)| (*key, counted.since(before.get(key).copied().unwrap_or_default())))
}

fn rounded(totals: &FxHashMap<CallsiteKey, (f64, f64)>) -> Counts {
    let counted = |(created, exited): (f64, f64)| Counted { created: created as u64, exited: exited as u64 };
    totals.iter().map(|(key, total)| (*key, counted(*total))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CallsiteKey = CallsiteKey { gopc: 1, entry: 2 };

    /// A target that starts `rate` goroutines for each second of its own CPU time.
    struct Target {
        estimate: Estimate,
        start: Instant,
        seconds: f64,
        counts: Counts,
        cost: f64,
        work: f64,
        rate: f64,
        truth: f64,
    }

    impl Target {
        fn new(rate: f64) -> Self {
            let start = Instant::now();
            let (estimate, counts) = (Estimate::default(), Counts::default());
            Self { estimate, start, seconds: 0.0, counts, cost: 0.0, work: 0.0, rate, truth: 0.0 }
        }

        fn reading(&self) -> Reading<'_> {
            Reading {
                at: self.start + Duration::from_secs_f64(self.seconds),
                counts: &self.counts,
                work: Some(self.work),
                cost: self.cost,
            }
        }

        fn tell<T>(&mut self, tell: impl FnOnce(&mut Estimate, Reading<'_>) -> T) -> T {
            let mut estimate = std::mem::take(&mut self.estimate);
            let told = tell(&mut estimate, self.reading());
            self.estimate = estimate;
            told
        }

        /// Lets time pass: the target works for a share of it, probes cost another share.
        fn pass(&mut self, seconds: f64, works: f64, costs: f64, counted: bool) {
            let created = seconds * works * self.rate;
            self.seconds += seconds;
            self.work += seconds * works;
            self.cost += seconds * costs;
            self.truth += created;
            if counted {
                let total = self.counts.entry(KEY).or_default();
                total.created += created as u64;
                total.exited += created as u64;
            }
        }

        fn created(&mut self) -> u64 {
            self.tell(|estimate, reading| estimate.read(reading))
                .get(&KEY)
                .map_or(0, |counted| counted.created)
        }
    }

    /// Without gaps every count is exact, and the reconciliation may rely on it.
    #[test]
    fn without_gaps_counts_are_exact() {
        let mut target = Target::new(1000.0);
        assert_eq!((target.created(), target.estimate.unbroken()), (0, None));
        target.tell(Estimate::open);
        for second in 1..5 {
            target.pass(1.0, 1.0, 0.0, true);
            assert_eq!((target.created(), target.estimate.unbroken()), (second * 1000, Some(0)));
        }
        let now = target.reading().at;
        assert!(target.estimate.is_exact());
        assert_eq!(target.estimate.coverage(now), 1.0);
    }

    /// With windows of a twentieth of the time the estimate is near the truth, never falls, and coverage says
    /// a twentieth; the tail of a window, where only some probes are in, is not taken for a count.
    #[test]
    fn windows_are_scaled() {
        let mut target = Target::new(100_000.0);
        let mut before = 0;
        for _ in 0..30 {
            target.tell(Estimate::open);
            target.pass(0.1, 1.0, 0.0, true);
            target.tell(Estimate::close);
            target.pass(0.1, 1.0, 0.0, true);
            target.pass(1.8, 1.0, 0.0, false);
            let now = target.created();
            assert!(now >= before && target.estimate.unbroken().is_none());
            before = now;
        }
        let now = target.reading().at;
        assert!((target.estimate.coverage(now) - 0.05).abs() < 0.005, "{}", target.estimate.coverage(now));
        let ended = target.tell(|estimate, reading| estimate.end(reading))[&KEY].created as f64;
        assert!((ended / target.truth - 1.0).abs() < 0.01, "{ended} of {}", target.truth);
    }

    /// A program that is held up by its probes does less in a window; one that has time to spare doesn't.
    #[test]
    fn what_probes_hold_up_is_allowed_for() {
        for (works_in_window, works_outside) in [(0.5, 1.0), (0.3, 0.3)] {
            let mut target = Target::new(100_000.0);
            for _ in 0..20 {
                target.tell(Estimate::open);
                target.pass(0.1, works_in_window, 0.5, true);
                target.tell(Estimate::close);
                target.pass(3.0, works_outside, 0.0, false);
            }
            let ended = target.tell(|estimate, reading| estimate.end(reading))[&KEY].created as f64;
            assert!((ended / target.truth - 1.0).abs() < 0.1, "{ended} of {}", target.truth);
        }
    }

    /// Counts that follow a gap without a break are exact again from then on.
    #[test]
    fn exactness_returns() {
        let mut target = Target::new(1000.0);
        target.tell(Estimate::open);
        target.pass(1.0, 1.0, 0.0, true);
        target.tell(Estimate::close);
        target.pass(5.0, 1.0, 0.0, false);
        target.tell(Estimate::open);
        target.pass(2.0, 1.0, 0.0, true);
        let settled = target.created();
        assert_eq!((settled, target.estimate.unbroken()), (8000, Some(1)));
        target.pass(1.0, 1.0, 0.0, true);
        assert_eq!((target.created(), target.estimate.unbroken()), (9000, Some(1)));
        assert!(!target.estimate.is_exact());
    }
}
