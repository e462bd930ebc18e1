//! From which numbers on something is a finding.

/// One threshold, as it is documented and set.
#[derive(Debug)]
pub struct Threshold {
    /// Name for `--threshold NAME=VALUE`.
    pub name: &'static str,
    /// What it means, with its unit, without a full stop.
    pub help: &'static str,
    /// Its default.
    pub default: f64,
    slot: fn(&mut Thresholds) -> &mut f64,
}

macro_rules! thresholds {
    ($($name:ident = $default:literal, $help:literal;)*) => {
        /// All thresholds.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Thresholds {
            $(#[doc = $help] pub $name: f64,)*
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Every threshold, in the order of the documentation.
        pub static THRESHOLDS: &[Threshold] = &[
            $(Threshold {
                name: stringify!($name),
                help: $help,
                default: $default,
                slot: |thresholds| &mut thresholds.$name,
            },)*
        ];
    };
}

thresholds! {
    start_up_seconds = 15.0, "Age of a process up to which nothing counts as growth";
    window_seconds = 60.0, "Time over which rates are taken";
    window_least_seconds = 3.0, "Least time that must have been observed for a rate";
    growth_samples = 8.0, "Least number of observations for a trend";
    growth_seconds = 4.0, "Least time observed for a trend, where probes count what ends";
    growth_seconds_without_probes = 60.0, "Least time observed for a trend without probes";
    growth_steadiness = 0.8, "Kendall's tau of a trend: 1 is growth at every observation";
    growth_persistence = 0.3, "Growth in the second half of the time as a share of that in the first half";
    growth_goroutines = 100.0, "Least number of live goroutines of a callsite that grows";
    growth_least = 10.0, "Least number by which it must have grown";
    growth_ended_share = 0.2, "Share of the created goroutines that may have ended";
    io_wait_share = 0.2, "Share of a callsite's goroutines that may wait for the network or run";
    stuck_goroutines = 100.0, "Least number of goroutines of one callsite that are stuck";
    stuck_seconds = 300.0, "Time for which they must have been seen so";
    convoy_goroutines = 50.0, "Least number of goroutines that wait for a lock";
    convoy_seconds = 2.0, "Time for which one of them must have been seen waiting";
    throttled_share = 0.1, "Share of throttled periods that is a finding";
    throttled_share_critical = 0.5, "Share of throttled periods that is critical";
    throttled_share_noted = 0.01, "Share of throttled periods from which on GOMAXPROCS above the limit matters";
    throttled_periods = 20.0, "Least number of periods for a share";
    runnable_per_processor = 8.0, "Goroutines ready to run per GOMAXPROCS that are too many";
    runnable_goroutines = 50.0, "Least number of goroutines ready to run that is too many";
    runnable_share = 0.8, "Share of the observations in which there must be as many";
    heap_goal_share = 0.8, "Heap goal as a share of the memory limit from which on GOMEMLIMIT is missed";
    heap_share = 0.5, "Live heap as a share of the memory limit from which on the heap is what fills it";
    memory_share = 0.9, "Memory in use as a share of the limit";
    thrash_share = 0.85, "Live heap as a share of GOMEMLIMIT";
    thrash_cycles_per_second = 1.0, "Garbage collections per second that are too many at such a heap";
    pids_share = 0.8, "Tasks as a share of the limit";
    pids_share_critical = 0.95, "Tasks as a share of the limit that is critical";
    threads_least = 50.0, "Least number of threads that grow";
    threads_growth = 8.0, "Least number by which they must have grown";
    io_waiting_share = 0.2, "Share of the time in which some task waited for a block device";
}

impl Thresholds {
    /// Sets the threshold of that name.
    ///
    /// # Errors
    /// One sentence, when there is none, or the value is no number that makes sense.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), String> {
        let threshold = THRESHOLDS.iter().find(|threshold| threshold.name == name);
        let threshold =
            threshold.ok_or_else(|| format!("there is no threshold `{name}`; docs/rules.md lists them"))?;
        if !(value.is_finite() && value >= 0.0) {
            return Err(format!("the threshold {name} needs a number that is not negative"));
        }
        *(threshold.slot)(self) = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every threshold can be set by its name, and starts at its default.
    #[test]
    fn every_threshold_can_be_set() {
        let mut thresholds = Thresholds::default();
        for threshold in THRESHOLDS {
            assert_eq!(*(threshold.slot)(&mut thresholds), threshold.default, "{}", threshold.name);
            thresholds.set(threshold.name, 7.5).expect("set");
            assert_eq!(*(threshold.slot)(&mut thresholds), 7.5, "{}", threshold.name);
        }
        for (name, value) in [("nonsense", 1.0), ("pids_share", -1.0), ("pids_share", f64::NAN)] {
            thresholds.set(name, value).expect_err(name);
        }
    }
}
