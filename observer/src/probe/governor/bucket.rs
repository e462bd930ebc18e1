//! CPU time that may be spent.

/// How many seconds' worth of budget can be saved: so long a group of probes may cost more than its budget.
pub(super) const SAVED: f64 = 2.0;

/// Filled at a rate, emptied by costs; in CPU seconds. What is taken too much is owed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    level: f64,
    rate: f64,
}

impl Bucket {
    /// A full one. `rate` is a share of one CPU; infinite: nothing is ever too much.
    pub(super) const fn full(rate: f64) -> Self {
        Self { level: rate * SAVED, rate }
    }

    /// Lets time pass.
    pub(super) fn fill(&mut self, rate: f64, seconds: f64) {
        self.rate = rate;
        let cap = rate * SAVED;
        self.level = if cap.is_infinite() { cap } else { (self.level + rate * seconds).min(cap) };
    }

    /// Share of one CPU at which it was filled last.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    /// CPU seconds that may be spent; negative what is owed.
    pub(super) const fn level(&self) -> f64 {
        self.level
    }

    pub(super) fn take(&mut self, cost: f64) {
        self.level -= cost;
    }

    /// Without a rate it is never full: it would never be filled again either.
    pub(super) fn is_full(&self) -> bool {
        self.rate > 0.0 && self.level >= self.rate * SAVED
    }

    pub(super) fn is_overdrawn(&self) -> bool {
        self.level < 0.0
    }

    /// Seconds until it is overdrawn if so much is spent as a share of one CPU; infinite if never.
    pub(super) fn lasts(&self, spending: f64) -> f64 {
        let loss = spending - self.rate;
        if loss > 0.0 { (self.level / loss).max(0.0) } else { f64::INFINITY }
    }

    /// Seconds until it is full if nothing is spent.
    pub(super) fn full_after(&self) -> f64 {
        if self.is_full() { 0.0 } else { (self.rate * SAVED - self.level) / self.rate }
    }
}
