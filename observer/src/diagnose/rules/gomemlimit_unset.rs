//! A garbage collector that doesn't know the memory limit, and will let the heap grow past it.

use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;
use crate::text::bytes;

pub(super) const RULE: Rule = Rule {
    name: "gomemlimit-unset",
    when: "There is a memory limit and no GOMEMLIMIT, and by GOGC the heap may grow to most of the limit before the next \
           garbage collection (with GOGC=off: the live heap is most of the limit).",
    why: "The runtime doesn't read the cgroup's memory limit. It lets the heap double (GOGC=100) and is killed on the way, \
          though half of the heap may be garbage.",
    explains: &["memory-near-limit", "oom-killed"],
    check: |case| check(case).into_iter().collect(),
};

/// GOMEMLIMIT for a memory limit in bytes: nine tenths of it, in MiB.
pub(super) fn fitting(limit: u64) -> u64 {
    (limit / 10 * 9) >> 20
}

fn check(case: &Case<'_>) -> Option<Said> {
    let limit = case.memory_limit()?;
    let runtime = case.runtime()?;
    let percent = runtime.gogc_percent?;
    if runtime.gomemlimit_bytes.is_some() {
        return None;
    }
    let (next, heap) = (case.next_heap()?, runtime.heap_live_bytes?);
    let near = if percent < 0 {
        heap as f64 >= limit.value as f64 * case.thresholds.heap_share
    } else {
        next as f64 >= limit.value as f64 * case.thresholds.heap_goal_share
    };
    if !near {
        return None;
    }
    let goal = if percent < 0 {
        "GOGC is off".to_owned()
    } else {
        format!("the next collection is due at {}", bytes(next))
    };
    let summary = format!(
        "GOMEMLIMIT is not set: the heap is {} and {goal}, at a memory limit of {} ({} bytes, in whole pages) set by {}",
        bytes(heap),
        bytes(limit.value),
        limit.value,
        limit.binding,
    );
    let advice = format!(
        "Set GOMEMLIMIT={}MiB (nine tenths of the limit, less what is used outside Go), so that the garbage collector \
         works harder before the kernel kills the process.",
        fitting(limit.value)
    );
    let said = Said::new(Severity::Warning, summary, advice)
        .bound(limit)
        .with("memory_limit_bytes", limit.value)
        .maybe("memory_usage_bytes", case.memory()?.usage_bytes)
        .with("heap_live_bytes", heap)
        .maybe("next_collection_bytes", (percent >= 0).then_some(next))
        .with("gogc_percent", f64::from(percent))
        .with("gomemlimit_fitting_mebibytes", fitting(limit.value));
    Some(said)
}
