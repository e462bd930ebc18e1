//! Huge pages that a limit refused.

use crate::diagnose::{Rule, Said};
use crate::model::view::{HugePages, Severity};

pub(super) const RULE: Rule = Rule {
    name: "hugetlb-refused",
    when: "The limit of huge pages of a size refused an allocation since the cgroup was made.",
    why: "Mapping huge pages fails, or the process gets SIGBUS when it touches them. The kernel rounds the limit down to \
          whole huge pages and shows only the result, so that less may be allowed than was written.",
    check: |case| {
        let pages = case.cgroup.into_iter().flat_map(|cgroup| &cgroup.hugetlb);
        pages.filter_map(check).collect()
    },
};

fn check(pages: &HugePages) -> Option<Said> {
    let refused = pages.refused.filter(|refused| *refused > 0)?;
    let limit = pages.limit_bytes.as_ref()?;
    let summary = format!(
        "{refused} allocations of {} pages were refused; the limit in force is {} bytes, set by {}",
        pages.size, limit.value, limit.binding
    );
    let advice = format!("Raise the limit, in multiples of {}.", pages.size);
    let said = Said::new(Severity::Warning, summary, advice)
        .bound(limit)
        .with("pagesize", pages.size)
        .with("refused", refused)
        .with("hugetlb_limit_bytes", limit.value)
        .maybe("hugetlb_usage_bytes", pages.usage_bytes);
    Some(said)
}
