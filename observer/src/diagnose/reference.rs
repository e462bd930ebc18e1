//! `docs/rules.md`, written from the rules.

use std::fmt::Write;

use super::{RULES, THRESHOLDS};

const INTRODUCTION: &str = "\
# Rules

What `observer doctor` and the metric `observer_finding` can say. Written from the rules in
`observer/src/diagnose/rules/`; a test compares. To write it anew:
`UPDATE_GOLDEN=1 cargo test -p observer --lib diagnose::`.

A rule that lacks data says nothing. The worst finding comes first, and a cause before its symptoms, however bad they
are alone. Findings of equal severity come in the order of this page.

| rule | fires when |
|---|---|
";

const THRESHOLDS_INTRODUCTION: &str = "
## Thresholds

`observer doctor` and `observer serve` take `--threshold NAME=VALUE`, as often as needed.

| threshold | default | meaning |
|---|---|---|
";

/// The text of `docs/rules.md`.
#[must_use]
pub fn rules_reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    // Writing to a string can't fail.
    for rule in RULES {
        _ = writeln!(text, "| [{0}](#{0}) | {1} |", rule.name, rule.when);
    }
    for rule in RULES {
        _ = write!(text, "\n## {}\n\n{}\n\n{}\n", rule.name, rule.when, rule.why);
        if !rule.explains.is_empty() {
            let symptoms: Vec<_> = rule.explains.iter().map(|name| format!("[{name}](#{name})")).collect();
            _ = write!(text, "\nIn the same process it explains {}.\n", symptoms.join(", "));
        }
    }
    text.push_str(THRESHOLDS_INTRODUCTION);
    for threshold in THRESHOLDS {
        _ = writeln!(text, "| `{}` | {} | {} |", threshold.name, threshold.default, threshold.help);
    }
    text
}
