//! Parks and waits: scaled from the windows in which they were measured, and added up so that no counter falls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use observer_ebpf::abi;

use rustc_hash::FxHashMap;

use super::estimate::MOST_OFF;
use super::history::CallsiteLabel;
use super::on_cpu;
use super::view::{ReasonWaitsView, WaitsView};
use crate::probe::{OnTime, TargetWaits};
use crate::snapshot::census::CallsiteKey;

/// Waits that a window would see with a smaller probability are not scaled up any further: of those that are
/// much longer than the window, a few would stand for very many.
const LEAST_PROBABILITY: f64 = 0.25;
/// Of fewer runs in a window nothing is concluded.
const LEAST_RUNS: u64 = 100;
/// What a window saw goes on as long as goroutines run as often as before it, up to this factor.
const ALIKE: f64 = 2.0;
/// In less time nothing is concluded from how often goroutines ran.
const LEAST_TIME: f64 = 0.1;
/// What is said of the recent past reaches back so far.
const RECENT: Duration = Duration::from_secs(60);

/// Estimated durations, by the buckets of [`abi::Durations`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spread {
    /// Number of durations.
    pub buckets: [f64; abi::Durations::BUCKETS],
    /// All of them together, seconds.
    pub seconds: f64,
}

/// Estimated parks and waits of one wait reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wait {
    /// Times that goroutines parked.
    pub parks: f64,
    /// From parking to being made ready, without what the network poller made ready.
    pub until_ready: Spread,
    /// From parking to running.
    pub until_run: Spread,
    /// From being made ready to running.
    pub queued: Spread,
}

/// Waits by reason: by its number as measured, or by its name.
pub type Waits<K> = BTreeMap<K, Wait>;

/// Parks by callsite since the target was admitted, as far as they were counted.
pub type Parked = FxHashMap<CallsiteKey, u64>;

/// `created_by`, `entry` and parks.
pub type ParkIncrement = (Arc<str>, Arc<str>, f64);

/// What happened in a stretch of time, estimated from the part of it that was measured.
#[derive(Debug, Clone, Default)]
pub struct WaitIncrement {
    /// Waits by `g.waitreason`.
    pub waits: Waits<u8>,
    /// Parks by callsite.
    pub parks: FxHashMap<CallsiteKey, f64>,
    /// The stretch of time.
    pub elapsed: Duration,
    /// How much of it was measured.
    pub measured: Duration,
    /// Waits longer than this could not be measured.
    pub longest: Duration,
}

impl Spread {
    /// All durations.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.buckets.iter().sum()
    }

    /// The bound, in seconds, that a part of the durations is below, at most twice the true quantile; `None`
    /// where there are no durations, and infinite above the last bound.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let rank = self.count() * part;
        let mut below = 0.0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            *count > 0.0 && below >= rank
        })?;
        Some(abi::Durations::end_ns(bucket).map_or(f64::INFINITY, |end| end as f64 / 1e9))
    }

    /// Adds durations.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.seconds += other.seconds;
    }

    fn times(&self, factor: f64) -> Self {
        Self { buckets: self.buckets.map(|count| count * factor), seconds: self.seconds * factor }
    }

    /// Of measured durations: `factor` for what was not measured, and more for those that a window of
    /// `window` seconds, which sees ends for another `tail` seconds, is likely to see the begin or the end of only.
    fn scaled(measured: &abi::Durations, factor: f64, window: f64, tail: f64) -> Self {
        let mut spread = Self::default();
        let (mut weighted, mut plain) = (0.0, 0.0);
        for (index, count) in measured.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let typical = typical_seconds(index);
            let probability = (1.0 - (typical - tail).max(0.0) / window).clamp(LEAST_PROBABILITY, 1.0);
            let count = *count as f64;
            spread.buckets[index] = count * factor / probability;
            plain += count * typical;
            weighted += spread.buckets[index] * typical;
        }
        if plain > 0.0 {
            spread.seconds = measured.sum_ns as f64 / 1e9 * weighted / plain;
        }
        spread
    }
}

/// In the middle of a bucket, on a scale of powers.
fn typical_seconds(bucket: usize) -> f64 {
    let end = abi::Durations::end_ns(bucket).map_or_else(
        || 2.0 * abi::Durations::end_ns(bucket - 1).unwrap_or_default() as f64,
        |end| end as f64,
    );
    end / std::f64::consts::SQRT_2 / 1e9
}

impl Wait {
    fn times(&self, factor: f64) -> Self {
        Self {
            parks: self.parks * factor,
            until_ready: self.until_ready.times(factor),
            until_run: self.until_run.times(factor),
            queued: self.queued.times(factor),
        }
    }

    fn add(&mut self, other: &Self) {
        self.parks += other.parks;
        self.until_ready.add(&other.until_ready);
        self.until_run.add(&other.until_run);
        self.queued.add(&other.queued);
    }
}

/// Adds what happened, by reason.
pub fn add<K: Ord + Clone>(sum: &mut Waits<K>, more: &Waits<K>) {
    for (reason, wait) in more {
        sum.entry(reason.clone()).or_default().add(wait);
    }
}

/// Time in run queues, over all reasons.
#[must_use]
pub fn queued<K>(waits: &Waits<K>) -> Spread {
    waits.values().fold(Spread::default(), |mut sum, wait| {
        sum.add(&wait.queued);
        sum
    })
}

/// With the names of the reasons.
#[must_use]
pub fn named(waits: &Waits<u8>, name: impl Fn(u8) -> Arc<str>) -> Waits<Arc<str>> {
    let mut named = Waits::new();
    for (reason, wait) in waits {
        named.entry(name(*reason)).or_insert_with(Wait::default).add(wait);
    }
    named
}

/// Parks by name: several lines of one function are one, and so is all that is the runtime's.
#[must_use]
pub fn named_parks(
    parks: &FxHashMap<CallsiteKey, f64>,
    names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
) -> Vec<ParkIncrement> {
    let named = parks.iter().map(|(key, parks)| (on_cpu::names_of(*key, names), *parks));
    named.map(|((created_by, entry), parks)| (created_by, entry, parks)).collect()
}

/// What the target and the probes had counted at one time.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// How often goroutines ran, by the target's own count, which knows of one in eight.
    runs: u64,
    /// How often they parked, by the probes.
    parks: u64,
}

/// What a window saw, by which gaps are filled: at once where the target does as much as before the window, and
/// otherwise where the window behind them can't speak for them.
#[derive(Debug)]
struct Sample {
    waits: Waits<u8>,
    parks: FxHashMap<CallsiteKey, f64>,
    /// How often goroutines ran meanwhile, by the target's own count.
    runs: f64,
    /// How long it measured, seconds.
    seconds: f64,
    /// Waits longer than this could not be measured.
    longest: Duration,
    /// Runs per second before the window; none when the target has done something else since.
    rate: Option<f64>,
}

/// Waits by reason, and parks by callsite.
type Seen = (Waits<u8>, FxHashMap<CallsiteKey, f64>);

impl Sample {
    /// What so many runs in so much time stand for, if they did what the window saw.
    fn times(&self, runs: f64, elapsed: Duration) -> Seen {
        // Whatever a target claims stays within bounds.
        let factor = (runs / self.runs).min(elapsed.as_secs_f64() / self.seconds * MOST_OFF);
        let waits = self.waits.iter().map(|(reason, wait)| (*reason, wait.times(factor)));
        (waits.collect(), self.parks.iter().map(|(key, parks)| (*key, parks * factor)).collect())
    }
}

/// How often goroutines run while no probe slows them down, by the target's own count.
#[derive(Debug, Default)]
struct Pace {
    last: Option<(Instant, u64)>,
    /// Runs per second.
    rate: Option<f64>,
}

impl Pace {
    fn note(&mut self, now: Instant, runs: u64) {
        let Some((at, before)) = self.last else {
            self.last = Some((now, runs));
            return;
        };
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        if seconds >= LEAST_TIME {
            self.rate = runs.checked_sub(before).map(|runs| runs as f64 / seconds);
            self.last = Some((now, runs));
        }
    }
}

/// Makes increments of what the probes measured in one target.
#[derive(Debug)]
pub struct WaitMeter {
    /// Until when everything is in an increment.
    accounted: Instant,
    /// What of the window that is open is in an increment.
    before: TargetWaits,
    /// Parks that are in an increment.
    parked: Parked,
    /// Runs that are in an increment, or were before the first.
    runs: Option<u64>,
    pace: Pace,
    /// When the window that is open began, and ended.
    opened: Option<Mark>,
    ended: Option<Mark>,
    /// The last window in which enough happened.
    sample: Option<Sample>,
    /// Stretches of time of the last minute, and how much of each was measured.
    recent: VecDeque<(Instant, Duration, Duration)>,
}

impl WaitMeter {
    /// Nothing is measured yet, at the time from which on waits count.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            accounted: now,
            before: TargetWaits::default(),
            parked: Parked::default(),
            runs: None,
            pace: Pace::default(),
            opened: None,
            ended: None,
            sample: None,
            recent: VecDeque::new(),
        }
    }

    /// Time passes without a window; `runs`: how often goroutines have run, by the target's own count. What the last
    /// window saw goes on as long as the target does as much as before it; anything else is for the next one to tell.
    pub fn pass(&mut self, now: Instant, runs: u64) -> WaitIncrement {
        self.pace.note(now, runs);
        let before = *self.runs.get_or_insert(runs);
        let elapsed = now.saturating_duration_since(self.accounted);
        let Some(sample) = &mut self.sample else { return WaitIncrement::default() };
        let alike = |(then, rate): (f64, f64)| (then / ALIKE..=then * ALIKE).contains(&rate);
        sample.rate = sample.rate.filter(|then| self.pace.rate.is_none_or(|rate| alike((*then, rate))));
        let new = runs.checked_sub(before).filter(|runs| *runs >= LEAST_RUNS);
        let (Some(new), Some(_), Some(_)) = (new, sample.rate, self.pace.rate) else {
            return WaitIncrement::default();
        };
        let filled = sample.times(new as f64, elapsed);
        let longest = sample.longest;
        (self.accounted, self.runs) = (now, Some(runs));
        self.note(now, (elapsed, Duration::ZERO));
        let (waits, parks) = filled;
        WaitIncrement { waits, parks, elapsed, measured: Duration::ZERO, longest }
    }

    /// A window begins. `mark`: how often goroutines have run, by the target's own count, and parked.
    pub fn open(&mut self, now: Instant, mark: Option<(u64, u64)>) {
        self.opened = mark.map(|(runs, parks)| Mark { runs, parks });
        if let Some((runs, _)) = mark {
            self.pace.note(now, runs);
        }
    }

    /// A window ends: from now on probes are removed.
    pub fn end(&mut self, mark: Option<(u64, u64)>) {
        self.ended = mark.map(|(runs, parks)| Mark { runs, parks });
    }

    /// A window that goes on; `mark` is that of now.
    pub fn read(
        &mut self,
        now: Instant,
        waits: &TargetWaits,
        parked: &Parked,
        mark: Option<(u64, u64)>,
    ) -> WaitIncrement {
        let goes_on = !self.before.on.complete.is_zero();
        // Between its end and its removal a window counts less and less.
        let mark = self.ended.or_else(|| mark.map(|(runs, parks)| Mark { runs, parks }));
        let increment = self.increment(now, waits, parked, (goes_on, mark));
        self.before = waits.clone();
        increment
    }

    /// A window that has been closed; what follows is another one.
    pub fn close(&mut self, now: Instant, waits: &TargetWaits, parked: &Parked) -> WaitIncrement {
        let ended = self.ended.take();
        let increment = self.increment(now, waits, parked, (false, ended));
        (self.before, self.opened) = (TargetWaits::default(), None);
        // Watched, it ran slower.
        self.pace = Pace { last: ended.map(|mark| (now, mark.runs)), rate: None };
        increment
    }

    /// Share of the last minute in which waits were measured.
    #[must_use]
    pub fn coverage(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.accounted);
        let (elapsed, measured) =
            self.recent.iter().fold((since, Duration::ZERO), |(all, on), (_, elapsed, measured)| {
                (all + *elapsed, on + *measured)
            });
        if elapsed.is_zero() { 0.0 } else { (measured.as_secs_f64() / elapsed.as_secs_f64()).min(1.0) }
    }

    /// `whole`: nothing was missed since the increment before; `mark`: now, or when the window ended.
    fn increment(
        &mut self,
        now: Instant,
        waits: &TargetWaits,
        parked: &Parked,
        (whole, mark): (bool, Option<Mark>),
    ) -> WaitIncrement {
        let elapsed = now.saturating_duration_since(self.accounted);
        let measured = waits.on.complete.saturating_sub(self.before.on.complete);
        let mut increment =
            WaitIncrement { elapsed, measured, longest: waits.on.complete, ..WaitIncrement::default() };
        // Too short for a number that means anything: it is part of the next increment.
        if measured.is_zero() {
            return WaitIncrement::default();
        }
        self.accounted = now;
        self.note(now, (elapsed, measured));
        (increment.waits, increment.parks) = self.estimate(waits, parked, (whole, mark), (elapsed, measured));
        self.runs = mark.map(|mark| mark.runs);
        self.parked.clone_from(parked);
        increment
    }

    /// Remembers how much of a stretch of time was measured.
    fn note(&mut self, now: Instant, (elapsed, measured): (Duration, Duration)) {
        self.recent.push_back((now, elapsed, measured));
        while self.recent.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > RECENT) {
            self.recent.pop_front();
        }
    }

    /// What happened since the increment before, by reason and by callsite.
    fn estimate(
        &mut self,
        waits: &TargetWaits,
        parked: &Parked,
        (whole, mark): (bool, Option<Mark>),
        (elapsed, measured): (Duration, Duration),
    ) -> Seen {
        // Two clocks are never read at the same time: what is whole stays a whole number.
        if whole {
            return self.new_scaled(waits, parked, 1.0);
        }
        let seconds = measured.as_secs_f64();
        let by_time = (elapsed.as_secs_f64() / seconds).max(1.0);
        let new_parks: u64 = self.new_parks(parked).map(|(_, parks)| parks).sum();
        if let Some((factor, runs)) = self.factor_by_runs(mark, new_parks) {
            let (waits_seen, parks_seen) = self.new_scaled(waits, parked, 1.0);
            let (longest, rate) = (waits.on.complete, self.pace.rate);
            self.sample = Some(Sample { waits: waits_seen, parks: parks_seen, runs, seconds, longest, rate });
            // Whatever a target claims stays within bounds.
            return self.new_scaled(waits, parked, factor.clamp(1.0, by_time * MOST_OFF));
        }
        match self.gap_filled_by_sample(mark, elapsed) {
            Some((waits_filled, parks_filled)) => {
                let (mut waits_all, mut parks_all) = self.new_scaled(waits, parked, 1.0);
                add(&mut waits_all, &waits_filled);
                for (key, parks) in parks_filled {
                    *parks_all.entry(key).or_default() += parks;
                }
                (waits_all, parks_all)
            }
            None => self.new_scaled(waits, parked, by_time),
        }
    }

    /// What was counted anew, so many times.
    fn new_scaled(&self, waits: &TargetWaits, parked: &Parked, factor: f64) -> Seen {
        let by_reason = waits.reasons.iter().map(|(reason, seen)| {
            let before = self.before.reasons.get(reason).map(|before| before.counts).unwrap_or_default();
            (*reason, scaled(&seen.counts, &before, factor, waits.on))
        });
        let by_callsite = self.new_parks(parked).map(|(key, parks)| (key, parks as f64 * factor));
        (by_reason.collect(), by_callsite.collect())
    }

    /// How many times as many parks there were as were counted anew, by how often goroutines ran in the window and
    /// since the increment before: a program that does nothing but park is much slower while that is watched. `None`
    /// where the target doesn't tell, or too few ran. And how many runs what was counted anew stands for.
    fn factor_by_runs(&self, mark: Option<Mark>, new_parks: u64) -> Option<(f64, f64)> {
        let (opened, now, before) = (self.opened?, mark?, self.runs?);
        let runs = now.runs.checked_sub(opened.runs).filter(|runs| *runs >= LEAST_RUNS)?;
        let parks = now.parks.checked_sub(opened.parks).filter(|parks| *parks > 0)?;
        let all = now.runs.checked_sub(before)?;
        let of_new = new_parks as f64 * runs as f64 / parks as f64;
        (new_parks > 0).then(|| (all as f64 / of_new, of_new))
    }

    /// A gap in which much happened, though the window behind it saw next to nothing: the work has ended. What the
    /// last window saw of it stands for the rest, once.
    fn gap_filled_by_sample(&mut self, mark: Option<Mark>, elapsed: Duration) -> Option<Seen> {
        let (opened, before) = (self.opened?, self.runs?);
        mark?.runs.checked_sub(opened.runs).filter(|runs| *runs < LEAST_RUNS)?;
        let gap = opened.runs.checked_sub(before).filter(|runs| *runs >= LEAST_RUNS)?;
        Some(self.sample.take()?.times(gap as f64, elapsed))
    }

    fn new_parks<'a>(&'a self, parked: &'a Parked) -> impl Iterator<Item = (CallsiteKey, u64)> + 'a {
        let more = |key: &CallsiteKey, now: u64| {
            let before = self.parked.get(key).copied().unwrap_or_default();
            // After a failure to attach the kernel counts from zero again.
            now.checked_sub(before).unwrap_or(now)
        };
        parked.iter().map(move |(key, now)| (*key, more(key, *now))).filter(|(_, parks)| *parks > 0)
    }
}

fn scaled(now: &abi::WaitCounts, before: &abi::WaitCounts, factor: f64, on: OnTime) -> Wait {
    let window = on.complete.as_secs_f64();
    let spread = |now: &abi::Durations, before: &abi::Durations, tail: Duration| {
        Spread::scaled(&since(now, before), factor, window, tail.as_secs_f64())
    };
    Wait {
        parks: now.parks.saturating_sub(before.parks) as f64 * factor,
        until_ready: spread(&now.until_ready, &before.until_ready, on.second),
        until_run: spread(&now.until_run, &before.until_run, on.first),
        // Whether it is seen depends on the wait before, not on its own length.
        queued: Spread::scaled(&since(&now.queued, &before.queued), factor, f64::INFINITY, 0.0),
    }
}

fn since(now: &abi::Durations, before: &abi::Durations) -> abi::Durations {
    let mut since = *now;
    for (bucket, before) in since.buckets.iter_mut().zip(before.buckets) {
        *bucket = bucket.saturating_sub(before);
    }
    since.sum_ns = now.sum_ns.saturating_sub(before.sum_ns);
    since
}

/// The waits of one target over the last minute, or in the last window if that is longer ago.
#[derive(Debug, Default)]
pub struct RecentWaits {
    increments: VecDeque<(Instant, WaitIncrement)>,
}

impl RecentWaits {
    /// Adds an increment.
    pub fn push(&mut self, now: Instant, increment: WaitIncrement) {
        self.increments.push_back((now, increment));
        while self.increments.len() > 1
            && self.increments.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > RECENT)
        {
            self.increments.pop_front();
        }
    }

    /// Parks per second of each callsite that is known by name, by the creation PC and the name of the entry.
    #[must_use]
    pub fn parks_per_second(
        &self,
        names: &FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
    ) -> FxHashMap<(u64, Arc<str>), f64> {
        let elapsed: f64 = self.increments.iter().map(|(_, increment)| increment.elapsed.as_secs_f64()).sum();
        let mut rates = FxHashMap::default();
        for (key, parks) in self.increments.iter().flat_map(|(_, increment)| &increment.parks) {
            if let Some(label) = names.get(key) {
                *rates.entry((key.gopc, label.entry.clone())).or_default() += parks / elapsed;
            }
        }
        rates
    }

    /// `None` before the first window was closed.
    #[must_use]
    pub fn view(&self, name: impl Fn(u8) -> Arc<str>) -> Option<WaitsView> {
        self.increments.back()?;
        let increments = || self.increments.iter().map(|(_, increment)| increment);
        let elapsed: f64 = increments().map(|increment| increment.elapsed.as_secs_f64()).sum();
        let measured: f64 = increments().map(|increment| increment.measured.as_secs_f64()).sum();
        let mut sum = Waits::new();
        increments().for_each(|increment| add(&mut sum, &increment.waits));
        let queue = queued(&sum);
        let mut reasons: Vec<ReasonWaitsView> = named(&sum, name)
            .into_iter()
            .map(|(reason, wait)| ReasonWaitsView {
                reason,
                parks_per_second: wait.parks / elapsed,
                blocked_p50_seconds: wait.until_run.quantile(0.5),
                blocked_p99_seconds: wait.until_run.quantile(0.99),
            })
            .collect();
        reasons.sort_by(|a, b| b.parks_per_second.total_cmp(&a.parks_per_second));
        Some(WaitsView {
            reasons,
            run_queue_p50_seconds: queue.quantile(0.5),
            run_queue_p99_seconds: queue.quantile(0.99),
            coverage: (measured / elapsed).min(1.0),
            longest_seconds: increments()
                .map(|increment| increment.longest.as_secs_f64())
                .fold(0.0, f64::max),
        })
    }
}

#[cfg(test)]
mod tests;
