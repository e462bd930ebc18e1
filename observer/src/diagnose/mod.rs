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

use crate::model::view::{Finding, Severity, View};

/// One rule: everything there is to know about it.
#[derive(Debug)]
pub struct Rule {
    /// Stable name.
    pub name: &'static str,
    /// When it fires: one sentence.
    pub when: &'static str,
    /// Why that is bad, and what it doesn't tell: one or more sentences.
    pub why: &'static str,
    /// Names of the rules whose findings in the same target are symptoms of what this one finds.
    pub explains: &'static [&'static str],
    /// Gives what it found in one target; nothing where it lacks data.
    pub check: fn(&Case<'_>) -> Vec<Said>,
}

/// Everything that is wrong in a view: worst first, a cause before its symptoms, then in the order of [`RULES`].
#[must_use]
pub fn diagnose(view: &View, thresholds: &Thresholds) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        for (target, case) in Case::all(view, thresholds).enumerate() {
            let said = (rule.check)(&case).into_iter();
            findings.extend(said.map(|said| (rule, finding(rule, target, said))));
        }
    }
    let mut ranked: Vec<_> =
        findings.iter().map(|(rule, finding)| (rank(rule, finding, &findings), finding.clone())).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, finding)| finding).collect()
}

fn finding(rule: &Rule, target: usize, said: Said) -> Finding {
    Finding {
        rule: rule.name,
        severity: said.severity,
        target,
        summary: said.summary,
        advice: said.advice,
        evidence: said.evidence,
    }
}

/// How bad a finding is together with its symptoms. What is only worth knowing isn't the cause of anything.
fn rank(rule: &Rule, cause: &Finding, all: &[(&Rule, Finding)]) -> Severity {
    let symptom = |other: &&Finding| {
        cause.severity < Severity::Info && other.target == cause.target && rule.explains.contains(&other.rule)
    };
    let symptoms = all.iter().map(|(_, other)| other).filter(symptom).map(|other| other.severity);
    symptoms.chain([cause.severity]).min().unwrap_or(cause.severity)
}
