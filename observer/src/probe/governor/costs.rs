//! What probes cost on this machine.

use std::time::Duration;

/// A hit in a program that does something else in between costs more than one in a loop that does nothing else:
/// traps push its code and data out of the caches. Measured with programs that do little but start goroutines.
pub(super) const COLD: f64 = 1.4;

/// Costs, measured on a function of the observer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// One hit, while no other CPU runs into a probe.
    pub hit_alone: Duration,
    /// One hit, while all CPUs do: older kernels take turns at a lock.
    pub hit_crowded: Duration,
    /// CPUs that took part.
    pub cpus: u32,
    /// Putting a group of probes into a target and taking it out again: CPU time.
    pub cycle: Duration,
}

impl Costs {
    /// CPU seconds of one hit in a target that keeps `busy` CPUs busy.
    #[must_use]
    pub fn hit(&self, busy: f64) -> f64 {
        let (alone, crowded) = (self.hit_alone.as_secs_f64(), self.hit_crowded.as_secs_f64());
        let others = f64::from(self.cpus.saturating_sub(1));
        let part = if others > 0.0 { ((busy - 1.0) / others).clamp(0.0, 1.0) } else { 0.0 };
        COLD * (alone + (crowded - alone).max(0.0) * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between one busy CPU and all of them the cost of a hit rises evenly, and never falls below either.
    #[test]
    fn hits_cost_more_in_a_crowd() {
        let micros = Duration::from_micros;
        let costs = Costs { hit_alone: micros(1), hit_crowded: micros(9), cpus: 5, cycle: micros(0) };
        let hit = |busy| (costs.hit(busy) / COLD * 1e6).round();
        assert_eq!([hit(0.0), hit(1.0), hit(3.0), hit(5.0), hit(99.0)], [1.0, 1.0, 5.0, 9.0, 9.0]);
        let noisy = Costs { hit_crowded: micros(0), ..costs };
        assert_eq!((noisy.hit(5.0) / COLD * 1e6).round(), 1.0);
    }
}
