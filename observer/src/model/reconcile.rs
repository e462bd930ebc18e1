//! Whether probes and snapshots tell the same story about one callsite.
//!
//! Probes count from their attachment on, so live = base + created − exited with an unknown, constant base.
//! Counts read before and after a snapshot bound what happened while it was taken, so each snapshot gives
//! an interval for the base. Intervals that have no point in common are drift.

use super::history::Counted;

/// A disagreement that lasts this many snapshots is no race with the snapshot: the base itself was wrong.
const PATIENCE: u32 = 3;

/// Bounds of what was live when the probes were attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Base {
    bounds: Option<(i64, i64)>,
    disputed: u32,
}

impl Base {
    /// Adds one snapshot with `live` goroutines and the counts read before and after it. Returns by how many
    /// goroutines it contradicts the earlier ones.
    pub fn observe(&mut self, live: u64, before: Counted, after: Counted) -> u64 {
        let (low, high) = (
            signed(live) - signed(after.created) + signed(before.exited),
            signed(live) - signed(before.created) + signed(after.exited),
        );
        let Some((known_low, known_high)) = self.bounds else {
            self.bounds = Some((low, high));
            return 0;
        };
        let gap = (low - known_high).max(known_low - high).max(0);
        if gap == 0 {
            *self = Self { bounds: Some((low.max(known_low), high.min(known_high))), disputed: 0 };
        } else {
            self.disputed += 1;
            if self.disputed >= PATIENCE {
                *self = Self { bounds: Some((low, high)), disputed: 0 };
            }
        }
        gap.unsigned_abs()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::{Base, Counted};

    const fn counted(created: u64, exited: u64) -> Counted {
        Counted { created, exited }
    }

    /// With nothing happening during snapshots every count is exact, and one missed event is seen.
    #[test]
    fn a_missed_event_is_drift() {
        let mut base = Base::default();
        assert_eq!(base.observe(10, counted(0, 0), counted(0, 0)), 0);
        assert_eq!(base.observe(15, counted(7, 2), counted(7, 2)), 0);
        assert_eq!(base.observe(16, counted(7, 2), counted(7, 2)), 1);
    }

    /// What happens while a snapshot is taken is allowed for, and later snapshots narrow the base again.
    #[test]
    fn a_busy_snapshot_is_no_drift() {
        let mut base = Base::default();
        assert_eq!(base.observe(500, counted(0, 0), counted(1000, 600)), 0);
        assert_eq!(base.observe(400, counted(1000, 1000), counted(1000, 1000)), 0);
        assert_eq!(base.observe(399, counted(1000, 1000), counted(1000, 1000)), 1);
    }

    /// A base that stays disputed is replaced, so that an old mistake doesn't show for ever.
    #[test]
    fn a_lasting_dispute_ends() {
        let mut base = Base::default();
        assert_eq!(base.observe(10, counted(0, 0), counted(0, 0)), 0);
        for _ in 0..3 {
            assert_eq!(base.observe(12, counted(0, 0), counted(0, 0)), 2);
        }
        assert_eq!(base.observe(12, counted(0, 0), counted(0, 0)), 0);
    }
}
