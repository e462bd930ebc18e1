//! A lock that is held while everybody queues behind it.

use crate::diagnose::case::{main_reason, place};
use crate::diagnose::{Case, Rule, Said};
use crate::model::view::{CallsiteView, Severity};
use crate::text::duration;

const LOCKS: [&str; 3] = ["sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock"];

pub(super) const RULE: Rule = Rule {
    name: "lock-convoy",
    when: "Many goroutines wait for a mutex, and one of them was seen waiting for seconds.",
    why: "A mutex is meant to be held for microseconds. Whoever holds it waits for something itself, or never unlocked \
          it. Before Go 1.20 waiting for a mutex can't be told from other waits, so this says nothing there.",
    explains: &["goroutine-growth", "goroutine-stuck", "memory-near-limit", "oom-killed"],
    check,
};

fn check(case: &Case<'_>) -> Vec<Said> {
    let thresholds = case.thresholds;
    let waits = |callsite: &&CallsiteView| {
        main_reason(callsite).is_some_and(|(reason, _)| LOCKS.contains(&&*reason))
            && callsite.oldest_wait_seconds.is_some_and(|oldest| oldest >= thresholds.convoy_seconds)
    };
    let queue = |callsite: &CallsiteView| main_reason(callsite).map_or(0, |(_, count)| count);
    let queues: Vec<_> = case.target.callsites.iter().filter(waits).collect();
    let total: u64 = queues.iter().map(|callsite| queue(callsite)).sum();
    let most = queues.into_iter().max_by_key(|callsite| queue(callsite));
    let Some(most) = most.filter(|_| total as f64 >= thresholds.convoy_goroutines) else { return Vec::new() };
    vec![said(case, most, total)]
}

fn said(case: &Case<'_>, most: &CallsiteView, total: u64) -> Said {
    let (reason, waiting) = main_reason(most).unwrap_or_default();
    let oldest = most.oldest_wait_seconds.unwrap_or_default();
    let summary = format!(
        "{total} goroutines queue for a lock in `{reason}`; {waiting} of them were started by {} and run {}, the oldest \
         has waited for at least {}",
        place(most),
        most.entry,
        duration(oldest),
    );
    let advice = format!(
        "Find who holds the lock: in `observer dump {} --format debug1` look for the goroutine that is inside the same \
         functions and doesn't wait in `{reason}`. Unlock with `defer`, and don't block while the lock is held.",
        case.target.pid
    );
    Said::new(Severity::Critical, summary, advice).at(most).with("wait_reason", reason).with("waiting", total)
}
