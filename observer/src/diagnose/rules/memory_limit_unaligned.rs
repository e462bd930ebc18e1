//! A memory limit that the kernel had to round.

use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;

/// Bytes in the smallest page.
const PAGE: u64 = 4096;

pub(super) const RULE: Rule = Rule {
    name: "memory-limit-unaligned",
    when: "The memory limit is a round number neither of MiB nor of bytes, and the live heap is a large part of it.",
    why: "The kernel rounds limits down to whole pages and shows only the result, so that what was written can't be read \
          any more; a limit that isn't round was computed, or mistyped. By itself that does no harm.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let limit = case.memory_limit()?;
    let heap = case.runtime()?.heap_live_bytes?;
    if is_round(limit.value) || (heap as f64) < limit.value as f64 * case.thresholds.heap_share {
        return None;
    }
    let last = limit.value + PAGE - 1;
    let summary = format!(
        "the memory limit in force is {} bytes: the kernel rounded something between that and {last} down to whole pages",
        limit.value
    );
    let advice =
        format!("Check the limit that was meant; {} MiB would be a round one.", (limit.value >> 20) + 1);
    let said = Said::new(Severity::Info, summary, advice)
        .bound(limit)
        .with("memory_limit_bytes", limit.value)
        .with("memory_limit_written_bytes_at_most", last)
        .with("heap_live_bytes", heap);
    Some(said)
}

/// Whether what was written may have been a multiple of 1 MiB or of 100 kB.
fn is_round(limit: u64) -> bool {
    let decimal = limit.next_multiple_of(100_000);
    limit.is_multiple_of(1 << 20) || decimal < limit + PAGE
}
