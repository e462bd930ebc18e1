//! What is wrong, in words: rules over views.
//!
//! Each rule is a file in `rules/` and an entry of [`RULES`]; everything else derives from that list. A rule
//! is a pure function over one target's part of a view. Where it lacks data it says nothing.

mod case;
mod reference;
mod rules;
mod thresholds;
pub mod trend;

#[cfg(test)]
mod testdata;
#[cfg(test)]
mod tests;

pub use case::{Case, Said};
pub use reference::rules_reference;
pub use rules::RULES;
pub use thresholds::{THRESHOLDS, Threshold, Thresholds};

use crate::model::view::{Finding, View};

/// One rule: everything there is to know about it.
#[derive(Debug)]
pub struct Rule {
    /// Stable name.
    pub name: &'static str,
    /// When it fires: one sentence.
    pub when: &'static str,
    /// Why that is bad, and what it doesn't tell: one or more sentences.
    pub why: &'static str,
    /// Gives what it found in one target; nothing where it lacks data.
    pub check: fn(&Case<'_>) -> Vec<Said>,
}

/// Everything that is wrong in a view: worst first, then in the order of [`RULES`].
#[must_use]
pub fn diagnose(view: &View, thresholds: &Thresholds) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        for (target, case) in Case::all(view, thresholds).enumerate() {
            findings.extend((rule.check)(&case).into_iter().map(|said| Finding {
                rule: rule.name,
                severity: said.severity,
                target,
                summary: said.summary,
                advice: said.advice,
                evidence: said.evidence,
            }));
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}
