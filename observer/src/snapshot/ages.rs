//! For how long goroutines have done what they do, as bounds: nothing in a target notes when a wait began.
//!
//! - *Seen*: a goroutine that has not run since an earlier look has waited since then at least.
//! - *Noted*: the garbage collector notes in `g.waitsince`, when it first comes by a goroutine that waits, the time
//!   at which the collection *before* ended its marking (`src/runtime/mgcmark.go`, `markroot`). So the wait began
//!   after that time, less what that marking took, and before the current collection's own time, which stands in
//!   goroutines that were noted by the next one.

use std::hash::Hasher;
use std::time::Instant;

use rustc_hash::FxHasher;

use super::census::{Goroutine, Status};
use super::descriptors::Slot;
use super::fields::Standing;
use super::known_stacks::NONE;

/// Times that are remembered of one target's collections.
const MAX_TIMES: usize = 128;
/// The part of [`Slot::stay`] that says what the garbage collector had noted.
const NOTED: u64 = 0xffff;

/// Bounds of a duration, seconds; `None` = not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// It is no shorter.
    pub at_least: Option<f64>,
    /// It is no longer.
    pub at_most: Option<f64>,
}

/// How a goroutine was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// It did the same when it was looked at before.
    pub(super) again: bool,
    /// Seconds since it was first seen so.
    pub(super) seconds: f64,
}

/// What garbage collections noted so far, and the target's clock.
#[derive(Debug, Clone)]
pub(super) struct Ages {
    epoch: Instant,
    /// Nanoseconds that the target's monotonic clock is ahead of ours; `None` = not known.
    ahead: Option<i64>,
    /// Different values of `g.waitsince` that were seen, ascending.
    times: Vec<u64>,
}

/// The time of a look: it took place after `before` and before `after`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    before: Time,
    after: Time,
}

#[derive(Debug, Clone, Copy)]
struct Time {
    /// Hundredths of a second since the target was first looked at: 16 months fit.
    ours: u32,
    /// Nanoseconds on the target's monotonic clock.
    target: Option<u64>,
}

impl Ages {
    pub(super) fn new(ahead: Option<i64>) -> Self {
        Self { epoch: Instant::now(), ahead, times: Vec::new() }
    }

    /// Looks at something.
    pub(super) fn look<T>(&self, look: impl FnOnce() -> T) -> (Look, T) {
        let before = self.time();
        let seen = look();
        (Look { before, after: self.time() }, seen)
    }

    fn time(&self) -> Time {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let ours = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
        let target = self.ahead.and_then(|ahead| u64::try_from(ours.saturating_add(ahead)).ok());
        Time { ours: (self.epoch.elapsed().as_millis() / 10) as u32, target }
    }

    /// Notes what another thread saw.
    pub(super) fn merge(&mut self, other: &Self) {
        let (look, ()) = self.look(|| ());
        other.times.iter().for_each(|time| self.note(*time, look));
    }

    /// Notes what the garbage collector noted of a goroutine.
    pub(super) fn note(&mut self, waiting_since: u64, look: Look) {
        if waiting_since == 0
            || self.times.last() == Some(&waiting_since)
            || look.after.target.is_none_or(|now| waiting_since > now)
        {
            return;
        }
        let Err(at) = self.times.binary_search(&waiting_since) else { return };
        self.times.insert(at, waiting_since);
        if self.times.len() > MAX_TIMES {
            // The older ones have been thinned out more often, so that each age is known to a similar fraction.
            let mut keep = false;
            self.times.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// What garbage collections tell of a wait.
    pub(super) fn noted(&self, waiting_since: u64, look: Look) -> Bounds {
        let ago = |now: Option<u64>, time: u64| Some(now?.checked_sub(time)? as f64 / 1e9);
        // One that isn't noted wasn't found waiting when the last collection came by.
        let began_after = if waiting_since == 0 { self.times.last().copied() } else { Some(waiting_since) };
        let next = self.times.partition_point(|time| *time <= waiting_since);
        let began_before = self.times.get(next).copied().filter(|_| waiting_since != 0);
        Bounds {
            at_least: began_before.and_then(|time| ago(look.before.target, time)),
            at_most: began_after.and_then(|time| ago(look.after.target, time)),
        }
    }
}

impl Look {
    /// Seconds from now to a time on the target's clock; 0 when it has passed.
    pub(super) fn until(self, nanoseconds: u64) -> Option<f64> {
        self.after.target.map(|now| nanoseconds.saturating_sub(now) as f64 / 1e9)
    }
}

impl Bounds {
    /// The best of what was seen and what was noted.
    pub(super) fn and_seen(self, seen: Seen) -> Self {
        let at_least = self.at_least.into_iter().chain(seen.again.then_some(seen.seconds)).reduce(f64::max);
        let at_most = match (self.at_most, at_least) {
            (Some(most), Some(least)) => Some(most.max(least)),
            (most, _) => most,
        };
        Self { at_least, at_most }
    }
}

impl Slot {
    /// Notes what a goroutine does.
    ///
    /// `trackingSeq` is one byte: a goroutine that ran exactly 256 times, or a multiple, and came back to the very
    /// same place without a garbage collection coming by, looks as if it hadn't.
    pub(super) fn see(&mut self, goroutine: &Goroutine, standing: &Standing, look: Look) -> Seen {
        let stay = stay(goroutine, standing);
        let before = self.stay;
        let same_note = match before & NOTED {
            // Short system calls leave no trace but that.
            0 => goroutine.status != Status::Syscall,
            noted => noted == stay & NOTED,
        };
        let again = before & !NOTED == stay & !NOTED && same_note;
        self.stay = stay;
        if !again {
            // Rounded up, and the end down: what is said is no more than what was seen.
            (self.since, self.stack) = (look.after.ours.saturating_add(1), NONE);
        }
        Seen { again, seconds: f64::from(look.before.ours.saturating_sub(self.since)) / 100.0 }
    }

    /// There is no goroutine, or nothing is known of it.
    pub(super) fn forget(&mut self) {
        (self.stay, self.stack) = (0, NONE);
    }
}

/// What stays the same as long as a goroutine doesn't run, and, in the lowest bits, what the garbage collector
/// noted, which also tells but may come later. Of goroutines that run or are about to: who it is.
fn stay(goroutine: &Goroutine, standing: &Standing) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(goroutine.id);
    let rests = goroutine.waits() || goroutine.status == Status::Syscall;
    if rests {
        let kind = u64::from(goroutine.waits()) << 16
            | u64::from(goroutine.tracking) << 8
            | u64::from(goroutine.wait_reason);
        for word in [kind, standing.pc, standing.sp, standing.stack.0, standing.stack.1] {
            hasher.write_u64(word);
        }
    }
    let stay = (hasher.finish() & !NOTED).max(NOTED + 1);
    stay | if rests { mark(standing.waiting_since) } else { 0 }
}

/// A time in sixteen bits; 0 = none.
fn mark(time: u64) -> u64 {
    if time == 0 {
        return 0;
    }
    let mut hasher = FxHasher::default();
    hasher.write_u64(time);
    (hasher.finish() & NOTED).max(1)
}

#[cfg(test)]
mod tests;
