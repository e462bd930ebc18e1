//! Numbers of the last ticks, for what shows only over time.

use std::collections::VecDeque;

/// Ticks that are kept.
pub const KEPT: usize = 40;

/// The last [`KEPT`] samples, oldest first.
#[derive(Debug)]
pub struct Recent<T>(VecDeque<T>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Recent<T> {
    /// Adds the newest sample.
    pub fn push(&mut self, sample: T) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A copy for a view.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.0.iter().cloned().collect()
    }
}

/// A sample with its time.
pub trait Timed {
    /// Seconds on a monotonic clock, from any point in time on.
    fn at(&self) -> f64;
}

/// One callsite at one tick.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CallsiteSample {
    /// See [`Timed::at`].
    pub at: f64,
    /// Live goroutines.
    pub live: u64,
    /// Ended since the probes were attached.
    pub exited: Option<u64>,
}

/// One target at one tick. `None` = unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TargetSample {
    /// See [`Timed::at`].
    pub at: f64,
    /// Threads of the runtime.
    pub threads: Option<u64>,
    /// Goroutines that are ready to run and don't.
    pub runnable: u64,
    /// Goroutines in system calls.
    pub syscall: u64,
    /// Garbage collections since the start.
    pub gc_cycles: Option<u64>,
}

/// One cgroup at one tick: counters since the group was made. `None` = the kernel doesn't tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CgroupSample {
    /// See [`Timed::at`].
    pub at: f64,
    /// Enforcement periods of the group whose quota binds.
    pub periods: Option<u64>,
    /// Those in which it was throttled.
    pub throttled_periods: Option<u64>,
    /// For how long, in seconds summed over CPUs.
    pub throttled_seconds: Option<f64>,
    /// Processes killed for lack of memory, in the own group and below.
    pub oom_kills: Option<u64>,
    /// Allocations that met the memory limit that binds.
    pub memory_limit_hits: Option<u64>,
    /// Forks refused.
    pub forks_refused: Option<u64>,
    /// Seconds in which some task waited for a block device.
    pub io_waiting: Option<f64>,
    /// Seconds in which all tasks did.
    pub io_stalled: Option<f64>,
}

impl Timed for CallsiteSample {
    fn at(&self) -> f64 {
        self.at
    }
}

impl Timed for TargetSample {
    fn at(&self) -> f64 {
        self.at
    }
}

impl Timed for CgroupSample {
    fn at(&self) -> f64 {
        self.at
    }
}
