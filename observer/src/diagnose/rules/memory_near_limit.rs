//! Memory that is nearly used up by the heap.

use crate::diagnose::case::percent;
use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::Severity;
use crate::text::bytes;

pub(super) const RULE: Rule = Rule {
    name: "memory-near-limit",
    when: "Memory in use is close to the limit, and the live heap is a large part of it.",
    why: "At the limit the kernel reclaims, and then kills. What the kernel can drop (page cache) fills memory up to the \
          limit in healthy programs too, so that without a large heap nothing is said.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let (memory, limit) = (case.memory()?, case.memory_limit()?);
    let used = memory.binding_usage_bytes.or(memory.usage_bytes)?;
    let heap = case.runtime()?.heap_live_bytes?;
    let share = used as f64 / limit.value.max(1) as f64;
    let filled = heap as f64 >= limit.value as f64 * case.thresholds.heap_share;
    if share < case.thresholds.memory_share || !filled {
        return None;
    }
    let hits = case
        .window()
        .and_then(|window| trend::growth(window, |sample| sample.memory_limit_hits.map(|hits| hits as f64)));
    let summary = format!(
        "{} of {} in use ({}), {} of it live Go heap; the limit is set by {}",
        bytes(used),
        bytes(limit.value),
        percent(share),
        bytes(heap),
        limit.binding,
    );
    let advice =
        "Find what holds the heap, or raise the memory limit before the kernel kills the process.".to_owned();
    let said = Said::new(Severity::Critical, summary, advice)
        .bound(limit)
        .with("memory_usage_bytes", used)
        .with("memory_limit_bytes", limit.value)
        .with("heap_live_bytes", heap)
        .maybe("memory_peak_bytes", memory.peak_bytes)
        .maybe("limit_hits_last_minute", hits);
    Some(said)
}
