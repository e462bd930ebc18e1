//! A limit of huge pages that is lower than what was written, and was met.

use crate::diagnose::{Rule, Said};
use crate::model::view::{HugePages, Severity};

pub(super) const RULE: Rule = Rule {
    name: "hugetlb-limit-unaligned",
    when: "The limit of huge pages of a size refused an allocation since the cgroup was made.",
    why: "Mapping huge pages fails, or the process gets SIGBUS when it touches them. The kernel (v1 and v2 alike) rounds a \
          limit down to whole huge pages when it is written and shows only the result: that it was rounded can't be read \
          anywhere, so this says what may have been written, and says it only when the limit was met. Less than one page \
          becomes 0.",
    explains: &[],
    check: |case| {
        let pages = case.cgroup.into_iter().flat_map(|cgroup| &cgroup.hugetlb);
        pages.filter_map(check).collect()
    },
};

fn check(pages: &HugePages) -> Option<Said> {
    let refused = pages.refused.filter(|refused| *refused > 0)?;
    let limit = pages.limit_bytes.as_ref()?;
    let last = limit.value.saturating_add(pages.page_bytes - 1);
    let summary = format!(
        "{refused} allocations of {} pages were refused; the limit in force is {} bytes ({} pages), set by {}: the kernel \
         rounded something between that and {last} bytes down to whole pages",
        pages.size,
        limit.value,
        limit.value / pages.page_bytes.max(1),
        limit.binding
    );
    let advice = format!("Raise the limit, in multiples of {} ({} bytes).", pages.size, pages.page_bytes);
    let said = Said::new(Severity::Warning, summary, advice)
        .bound(limit)
        .with("pagesize", pages.size)
        .with("page_bytes", pages.page_bytes)
        .with("refused", refused)
        .with("hugetlb_limit_bytes", limit.value)
        .with("hugetlb_limit_written_bytes_at_most", last)
        .maybe("hugetlb_usage_bytes", pages.usage_bytes);
    Some(said)
}
