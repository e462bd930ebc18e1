//! One group of probes in one target.

use std::time::{Duration, Instant};

use observer_ebpf::abi::Group;

use super::bucket::Bucket;
use super::decision::Decision;

/// So long a group is looked at often when it has come.
const TRIAL: Duration = Duration::from_millis(500);
/// How long waits are watched at a time: long enough for waits of a fraction of a second to begin and end.
const WAITS_LENGTH: Duration = Duration::from_secs(1);
/// From the end of one window on waits to the next at the earliest.
const WAITS_PAUSE: Duration = Duration::from_secs(10);
/// A window that costs so much of one CPU holds its target up noticeably, ...
const NOTICEABLE: f64 = 0.05;
/// ... and is repeated only after so many times its length: all of them take about one hundredth of its time.
const QUIET: u32 = 99;
/// So long a group may cost more than its budget at a time, however much was saved.
const OVER: Duration = Duration::from_millis(1500);
/// A group that will be away for longer is off.
const LONG: Duration = Duration::from_secs(60);
/// Within so many seconds an old cost counts half for what a group costs.
const HALF_LIFE: f64 = 20.0;

#[derive(Debug, Clone, Copy)]
enum Phase {
    Outside { since: Instant, not_before: Instant },
    Entering,
    Inside { since: Instant, until: Option<Instant> },
    Leaving { since: Instant },
}

#[derive(Debug)]
pub(super) struct Account {
    group: Group,
    bucket: Bucket,
    /// Below this level of the bucket it must leave: 0, or less where coming alone has overdrawn it. That is paid back
    /// while it stays; coming again would cost the same again.
    floor: f64,
    phase: Phase,
    /// Share of one CPU that it costs while it is in the target, as last seen.
    demand: Option<f64>,
    /// Cost of the window under way.
    window_cost: f64,
    /// When the window was looked at, and what it had cost then.
    last_look: Option<(Instant, f64)>,
    /// Since when it has cost more than its budget.
    over_since: Option<Instant>,
    /// Length of the last window that ended.
    last_length: Option<Duration>,
    last_entered: Option<Instant>,
    last_period: Option<Duration>,
    spent: f64,
    /// Seconds and costs, old ones fading.
    recent: (f64, f64),
}

impl Account {
    pub(super) fn new(group: Group, rate: f64, now: Instant) -> Self {
        Self {
            group,
            bucket: Bucket::full(rate),
            floor: 0.0,
            phase: Phase::Outside { since: now, not_before: now },
            demand: None,
            window_cost: 0.0,
            last_look: None,
            over_since: None,
            last_length: None,
            last_entered: None,
            last_period: None,
            spent: 0.0,
            recent: (0.0, 0.0),
        }
    }

    pub(super) fn fill(&mut self, rate: f64, seconds: f64) {
        self.bucket.fill(rate, seconds);
        let fade = 0.5_f64.powf(seconds / HALF_LIFE);
        self.recent = (self.recent.0 * fade + seconds, self.recent.1 * fade);
    }

    pub(super) fn charge(&mut self, cost: f64) {
        self.bucket.take(cost);
        self.window_cost += cost;
        self.spent += cost;
        self.recent.1 += cost;
    }

    pub(super) fn entering(&mut self) {
        self.phase = Phase::Entering;
    }

    /// `free`: it may stay, whatever it is.
    pub(super) fn entered(&mut self, now: Instant, cost: f64, free: bool) {
        let until = (self.group != Group::Lifecycle && !free).then(|| now + WAITS_LENGTH);
        self.phase = Phase::Inside { since: now, until };
        self.last_period = self.last_entered.replace(now).map(|last| now.saturating_duration_since(last));
        self.charge(cost);
        self.floor = (self.bucket.level() - self.bucket.rate() * TRIAL.as_secs_f64()).min(0.0);
        (self.window_cost, self.last_look, self.over_since) = (0.0, None, None);
    }

    pub(super) fn failed(&mut self, not_before: Instant) {
        self.phase = Phase::Outside { since: not_before, not_before };
    }

    pub(super) fn leaving(&mut self, now: Instant) {
        if let Phase::Inside { since, .. } = self.phase {
            self.last_length = Some(now.saturating_duration_since(since));
            self.phase = Phase::Leaving { since: now };
        }
    }

    pub(super) fn left(&mut self, now: Instant) {
        if let Phase::Leaving { since, .. } = self.phase {
            let on =
                self.last_entered.map_or(Duration::ZERO, |entered| now.saturating_duration_since(entered));
            self.phase = Phase::Outside { since, not_before: now + self.pause(on) };
        }
    }

    /// How long it stays away at least after the last window, which was so long, whatever it may spend.
    fn pause(&self, on: Duration) -> Duration {
        if self.group == Group::Lifecycle {
            return Duration::ZERO;
        }
        if self.window_cost > NOTICEABLE * on.as_secs_f64() {
            WAITS_PAUSE.max(on * QUIET)
        } else {
            WAITS_PAUSE
        }
    }

    /// Share of one CPU that it would cost if it stayed; infinite until that is known.
    pub(super) fn demand(&self) -> f64 {
        self.demand.unwrap_or(f64::INFINITY)
    }

    pub(super) fn is_new(&self) -> bool {
        self.last_entered.is_none()
    }

    pub(super) const fn is_in(&self) -> bool {
        matches!(self.phase, Phase::Inside { .. })
    }

    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Whether its window on waits is under way.
    pub(super) fn is_waits_window(&self) -> bool {
        self.group != Group::Lifecycle && !matches!(self.phase, Phase::Outside { .. })
    }

    pub(super) fn outside_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Outside { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Looks at what the window has cost so far.
    pub(super) fn look(&mut self, now: Instant) {
        let Phase::Inside { since, .. } = self.phase else { return };
        let (looked, cost) = self.last_look.replace((now, self.window_cost)).unwrap_or((since, 0.0));
        let seconds = now.saturating_duration_since(looked).as_secs_f64();
        if self.window_cost - cost <= self.bucket.rate() * seconds {
            self.over_since = None;
        } else {
            self.over_since.get_or_insert(looked);
        }
        let inside = now.saturating_duration_since(since).as_secs_f64();
        if inside > HALF_LIFE {
            self.demand = Some(self.overhead());
        } else if inside > 0.0 {
            self.demand = Some(self.window_cost / inside);
        }
    }

    /// Whether it has cost too much, all in all or for too long, or its time is over.
    pub(super) fn must_leave(&self, now: Instant) -> bool {
        let Phase::Inside { until, .. } = self.phase else { return false };
        self.bucket.level() < self.floor
            || self.over_since.is_some_and(|since| now.saturating_duration_since(since) > OVER)
            || until.is_some_and(|until| until <= now)
    }

    pub(super) fn may_enter(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Outside { not_before, .. } if not_before <= now && self.bucket.is_full())
    }

    /// How long nobody needs to look at it.
    pub(super) fn time_left(&self, now: Instant) -> Duration {
        let Phase::Inside { since, until } = self.phase else { return Duration::MAX };
        if now.saturating_duration_since(since) < TRIAL {
            return Duration::ZERO;
        }
        let over = until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
        let lasts = Duration::try_from_secs_f64(self.bucket.lasts(self.demand())).unwrap_or(Duration::MAX);
        over.min(lasts)
    }

    pub(super) fn decision(&self, now: Instant) -> Decision {
        let free_after = Duration::try_from_secs_f64(self.bucket.full_after()).unwrap_or(Duration::MAX);
        match (self.phase, self.last_length) {
            (Phase::Outside { .. } | Phase::Leaving { .. }, Some(_)) if free_after > LONG => {
                Decision::Off { again: free_after }
            }
            (Phase::Inside { since, until: None }, _) if now.saturating_duration_since(since) > 4 * TRIAL => {
                Decision::On
            }
            (_, Some(length)) => Decision::Windows { length, period: self.period(length, free_after) },
            (Phase::Inside { until: Some(_), .. }, None) | (_, None) => Decision::Trial,
        }
    }

    fn period(&self, length: Duration, free_after: Duration) -> Duration {
        self.last_period.unwrap_or_else(|| length.saturating_add(free_after.max(self.pause(length))))
    }

    pub(super) fn overhead(&self) -> f64 {
        let (seconds, cost) = self.recent;
        if seconds > 0.0 { cost / seconds } else { 0.0 }
    }

    pub(super) const fn spent(&self) -> f64 {
        self.spent
    }
}
