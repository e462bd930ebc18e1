//! The rules, one file each.

mod cpu_throttled;
mod forks_refused;
mod gomaxprocs_above_limit;
mod gomaxprocs_below_cpus;
mod gomemlimit_above_limit;
mod gomemlimit_thrash;
mod gomemlimit_unset;
mod goroutine_growth;
mod goroutine_stuck;
mod hugetlb_limit_unaligned;
mod io_pressure;
mod io_weight_missing;
mod lock_convoy;
mod memory_limit_unaligned;
mod memory_near_limit;
mod observer_limited;
mod oom_killed;
mod pids_near_limit;
mod runtime_older_than_container_awareness;
mod threads_growing;

use super::Rule;

/// Every rule, in the order of the documentation: what explains others comes before them. Of findings that are
/// equally bad the earlier rule's comes first.
pub static RULES: &[Rule] = &[
    lock_convoy::RULE,
    goroutine_growth::RULE,
    goroutine_stuck::RULE,
    gomemlimit_above_limit::RULE,
    gomemlimit_unset::RULE,
    oom_killed::RULE,
    memory_near_limit::RULE,
    gomemlimit_thrash::RULE,
    memory_limit_unaligned::RULE,
    threads_growing::RULE,
    pids_near_limit::RULE,
    forks_refused::RULE,
    cpu_throttled::RULE,
    gomaxprocs_above_limit::RULE,
    runtime_older_than_container_awareness::RULE,
    gomaxprocs_below_cpus::RULE,
    io_pressure::RULE,
    io_weight_missing::RULE,
    hugetlb_limit_unaligned::RULE,
    observer_limited::RULE,
];
