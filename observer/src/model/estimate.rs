//! What probes would have counted had they been in the target all the time.
//!
//! In a window every event is counted. The gap that follows is filled with what the window counted, as many times
//! as it is longer: what happened in gaps is so an estimate, and without gaps every number is exact.
//!
//! A hit slows the target down: a program that runs as fast as it can does less in a window than outside. So the
//! length of a gap is measured by the number of goroutines that the target created, by its own count, where that
//! can be read, and by the clock otherwise.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::history::{Counted, Counts};
use crate::snapshot::census::CallsiteKey;

/// Coverage is that of so much of the past.
const REMEMBERED: Duration = Duration::from_secs(60);
/// A gap in which the target's own count grew less is measured by the clock: each processor of the runtime takes
/// numbers for 16 goroutines at a time.
const LEAST: u64 = 1000;
/// In a window the target's own count must agree with the probes' up to this factor to be believed.
const AGREES: f64 = 2.0;
/// The target's own number is only believed so far: it comes from its memory.
pub(super) const MOST_OFF: f64 = 1000.0;

/// One reading of a target.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// When.
    pub at: Instant,
    /// What the kernel has counted since the target was admitted, in windows and while they end.
    pub counts: &'a Counts,
    /// How many goroutines the target has created, by its own count; `None` if unknown.
    pub own: Option<u64>,
}

/// Creations and ends by callsite; fractions matter when they add up.
type Totals = FxHashMap<CallsiteKey, (f64, f64)>;

/// The counts of one target.
#[derive(Debug)]
pub struct Estimate {
    totals: Totals,
    /// What was told last.
    told: Counts,
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
    },
    Gap {
        begin: Mark,
        /// The window before it.
        span: Span,
        counted: Vec<(CallsiteKey, Counted)>,
    },
}

#[derive(Debug, Clone, Default)]
struct Mark {
    at: Option<Instant>,
    counts: Counts,
    own: Option<u64>,
}

/// The length of a window or gap.
#[derive(Debug, Clone, Copy)]
struct Span {
    seconds: f64,
    /// By how much the target's own number grew.
    own: Option<u64>,
}

impl Default for Estimate {
    fn default() -> Self {
        Self {
            totals: Totals::default(),
            told: Counts::default(),
            phase: Phase::Before,
            changes: VecDeque::new(),
            gaps: 0,
        }
    }
}

impl Estimate {
    /// All probes are in the target from now on.
    pub fn open(&mut self, reading: Reading<'_>) {
        self.note_change(reading.at, true);
        self.totals = match &self.phase {
            Phase::Window { .. } => return,
            // The probes came one after the other. What they counted so far is counted, but it is no measure for
            // a gap: creations were counted for longer than ends.
            Phase::Before => increments(&Counts::default(), reading.counts).fold(
                Totals::default(),
                |mut totals, (key, counted)| {
                    add(&mut totals, key, counted, 1.0);
                    totals
                },
            ),
            Phase::Gap { .. } => self.filled(&reading),
        };
        self.phase = Phase::Window { begin: mark(&reading) };
    }

    /// From now on probes are missing.
    pub fn close(&mut self, reading: Reading<'_>) {
        let Phase::Window { begin } = &self.phase else { return };
        let span = span(begin, &reading);
        let counted: Vec<_> = increments(&begin.counts, reading.counts).collect();
        self.totals = self.filled(&reading);
        self.note_change(reading.at, false);
        self.gaps += 1;
        self.phase = Phase::Gap { begin: mark(&reading), span, counted };
    }

    /// The counts so far. They never fall.
    pub fn read(&mut self, reading: Reading<'_>) -> Counts {
        let mut counts = rounded(&self.filled(&reading));
        // What is told of a gap changes with how it can be measured.
        for (key, told) in self.told.drain().filter(|_| self.gaps > 0) {
            let counted = counts.entry(key).or_default();
            counted.created = counted.created.max(told.created);
            counted.exited = counted.exited.max(told.exited);
        }
        self.told.clone_from(&counts);
        counts
    }

    /// The totals, with what has happened since the last window began or ended.
    fn filled(&self, reading: &Reading<'_>) -> Totals {
        let mut totals = self.totals.clone();
        match &self.phase {
            Phase::Before => {}
            Phase::Window { begin } => {
                for (key, counted) in increments(&begin.counts, reading.counts) {
                    add(&mut totals, key, counted, 1.0);
                }
            }
            Phase::Gap { begin, span: window, counted } => {
                let weight = times(span(begin, reading), *window, counted);
                for (key, counted) in counted {
                    add(&mut totals, *key, *counted, weight);
                }
            }
        }
        totals
    }

    /// A number that stays while nothing is missed: between two readings with the same number everything was
    /// counted. `None` while something is missing.
    #[must_use]
    pub const fn unbroken(&self) -> Option<u64> {
        match &self.phase {
            Phase::Window { .. } => Some(self.gaps),
            _ => None,
        }
    }

    /// Whether probes are missing, so that [`Self::read`] makes use of the target's own count.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        matches!(self.phase, Phase::Gap { .. })
    }

    /// Whether everything since the beginning was counted.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.gaps == 0
    }

    /// Whether anything was counted so far.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
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
}

fn mark(reading: &Reading<'_>) -> Mark {
    Mark { at: Some(reading.at), counts: reading.counts.clone(), own: reading.own }
}

fn span(begin: &Mark, reading: &Reading<'_>) -> Span {
    Span {
        seconds: begin.at.map_or(0.0, |begin| reading.at.saturating_duration_since(begin).as_secs_f64()),
        own: begin.own.zip(reading.own).map(|(begin, end)| end.saturating_sub(begin)),
    }
}

/// How many times what was counted in a window happened in a gap.
fn times(gap: Span, window: Span, counted: &[(CallsiteKey, Counted)]) -> f64 {
    let by_clock = gap.seconds / window.seconds.max(1e-3);
    let created: u64 = counted.iter().map(|(_, counted)| counted.created).sum();
    let by_target = || {
        let (in_gap, in_window) = (gap.own?, window.own?);
        let agrees =
            in_window < LEAST || (1.0 / AGREES..AGREES).contains(&(created as f64 / in_window as f64));
        (in_gap >= LEAST && created > 0 && agrees).then(|| in_gap as f64 / created as f64)
    };
    by_target().unwrap_or(by_clock).clamp(by_clock / MOST_OFF, by_clock * MOST_OFF)
}

fn add(totals: &mut Totals, key: CallsiteKey, counted: Counted, weight: f64) {
    let total = totals.entry(key).or_default();
    total.0 += counted.created as f64 * weight;
    total.1 += counted.exited as f64 * weight;
}

fn increments<'a>(
    before: &'a Counts,
    after: &'a Counts,
) -> impl Iterator<Item = (CallsiteKey, Counted)> + 'a {
    after.iter().map(|(key, counted)| (*key, counted.since(before.get(key).copied().unwrap_or_default())))
}

fn rounded(totals: &Totals) -> Counts {
    let counted = |(created, exited): (f64, f64)| Counted { created: created as u64, exited: exited as u64 };
    totals.iter().map(|(key, total)| (*key, counted(*total))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CallsiteKey = CallsiteKey { gopc: 1, entry: 2 };

    /// A target that starts so many goroutines a second.
    struct Target {
        estimate: Estimate,
        start: Instant,
        seconds: f64,
        counts: Counts,
        truth: u64,
        tells: bool,
    }

    impl Target {
        fn new(tells: bool) -> Self {
            let (estimate, counts) = (Estimate::default(), Counts::default());
            Self { estimate, start: Instant::now(), seconds: 0.0, counts, truth: 0, tells }
        }

        fn reading(&self) -> Reading<'_> {
            Reading {
                at: self.start + Duration::from_secs_f64(self.seconds),
                counts: &self.counts,
                own: self.tells.then_some(self.truth),
            }
        }

        fn tell<T>(&mut self, tell: impl FnOnce(&mut Estimate, Reading<'_>) -> T) -> T {
            let mut estimate = std::mem::take(&mut self.estimate);
            let told = tell(&mut estimate, self.reading());
            self.estimate = estimate;
            told
        }

        fn pass(&mut self, seconds: f64, rate: f64, counted: bool) {
            let created = (seconds * rate) as u64;
            self.seconds += seconds;
            self.truth += created;
            if counted {
                self.counts.entry(KEY).or_default().add(Counted { created, exited: created });
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
        let mut target = Target::new(true);
        assert_eq!((target.created(), target.estimate.unbroken()), (0, None));
        target.tell(Estimate::open);
        for second in 1..5 {
            target.pass(1.0, 1000.0, true);
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
        let mut target = Target::new(false);
        let mut before = 0;
        for _ in 0..30 {
            target.tell(Estimate::open);
            target.pass(0.1, 100_000.0, true);
            target.tell(Estimate::close);
            target.pass(0.1, 100_000.0, true);
            target.pass(1.8, 100_000.0, false);
            let now = target.created();
            assert!(now >= before && target.estimate.unbroken().is_none());
            before = now;
        }
        let now = target.reading().at;
        assert!((target.estimate.coverage(now) - 0.05).abs() < 0.005, "{}", target.estimate.coverage(now));
        let ended = target.tell(|estimate, reading| estimate.read(reading))[&KEY].created as f64;
        assert!((ended / target.truth as f64 - 1.0).abs() < 0.01, "{ended} of {}", target.truth);
    }

    /// A program that does a fifth in a window of what it does outside is not underestimated if it tells how
    /// much it does; one that tells nonsense is believed only so far.
    #[test]
    fn what_probes_hold_up_is_allowed_for() {
        let mut target = Target::new(true);
        for _ in 0..20 {
            target.tell(Estimate::open);
            target.pass(0.2, 200_000.0, true);
            target.tell(Estimate::close);
            target.pass(3.0, 1_000_000.0, false);
        }
        let told = target.created() as f64;
        assert!((told / target.truth as f64 - 1.0).abs() < 0.01, "{told} of {}", target.truth);
        target.truth = u64::MAX / 4;
        assert!(target.created() < 1_000_000_000_000, "{}", target.created());
    }

    /// Creations that were counted before the probe of ends had come are counted, but the gap that follows is filled
    /// with as many ends as creations.
    #[test]
    fn probes_come_one_after_the_other() {
        let mut target = Target::new(true);
        target.truth += 5000;
        target.counts.entry(KEY).or_default().add(Counted { created: 5000, exited: 0 });
        target.tell(Estimate::open);
        target.pass(0.02, 100_000.0, true);
        target.tell(Estimate::close);
        target.pass(10.0, 100_000.0, false);
        let told = target.tell(|estimate, reading| estimate.read(reading))[&KEY];
        assert_eq!(told.created, target.truth);
        assert_eq!(told.exited, target.truth - 5000);
    }

    /// Counts that follow a gap without a break are exact again from then on.
    #[test]
    fn exactness_returns() {
        let mut target = Target::new(false);
        target.tell(Estimate::open);
        target.pass(1.0, 1000.0, true);
        target.tell(Estimate::close);
        target.pass(5.0, 1000.0, false);
        target.tell(Estimate::open);
        target.pass(2.0, 1000.0, true);
        assert_eq!((target.created(), target.estimate.unbroken()), (8000, Some(1)));
        target.pass(1.0, 1000.0, true);
        assert_eq!((target.created(), target.estimate.unbroken()), (9000, Some(1)));
        assert!(!target.estimate.is_exact());
    }
}
