//! A GOMEMLIMIT that can't protect from the cgroup's limit.

use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;
use crate::text::bytes;

pub(super) const RULE: Rule = Rule {
    name: "gomemlimit-above-limit",
    when: "GOMEMLIMIT is more than the cgroup's memory limit.",
    why: "The garbage collector begins to work harder only when the kernel has killed the process already. It is a \
          warning when the heap comes near the limit by its own pace, and only worth knowing otherwise.",
    explains: &["memory-near-limit", "oom-killed"],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let limit = case.memory_limit()?;
    let gomemlimit = case.runtime()?.gomemlimit_bytes.filter(|wanted| *wanted > limit.value)?;
    let near =
        case.next_heap().is_some_and(|next| next as f64 >= limit.value as f64 * case.thresholds.heap_share);
    let fitting = super::gomemlimit_unset::fitting(limit.value);
    let summary = format!(
        "GOMEMLIMIT is {}{}, above the memory limit of {} set by {}",
        bytes(gomemlimit),
        case.gomemlimit_chosen_by(),
        bytes(limit.value),
        limit.binding
    );
    let advice =
        format!("Set GOMEMLIMIT={fitting}MiB: nine tenths of the limit, less what is used outside Go.");
    let severity = if near { Severity::Warning } else { Severity::Info };
    let said = Said::new(severity, summary, advice)
        .bound(limit)
        .with("gomemlimit_bytes", gomemlimit)
        .maybe("gomemlimit_source", case.runtime()?.gomemlimit_source.map(|source| source.name()))
        .with("memory_limit_bytes", limit.value)
        .maybe("heap_live_bytes", case.runtime()?.heap_live_bytes)
        .with("gomemlimit_fitting_mebibytes", fitting);
    Some(said)
}
