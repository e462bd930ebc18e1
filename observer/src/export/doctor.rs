//! Findings for people and for programs: `observer doctor`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::shown;
use crate::model::view::{Fact, Finding, TargetView, View};
use crate::text::printable;

/// All findings of a view.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Worst first, a cause before its symptoms.
    pub findings: Vec<Row<'a>>,
    /// Go processes of which nothing could be read.
    pub not_seen: Vec<NotSeen<'a>>,
}

/// One finding.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// The rule's stable name.
    pub rule: &'static str,
    /// `critical`, `warning` or `info`.
    pub severity: &'static str,
    /// Process id.
    pub pid: u32,
    /// Base name of the executable.
    pub process: Cow<'a, str>,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Cow<'a, str>>,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Cow<'a, str>>,
    /// Container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Cow<'a, str>>,
    /// systemd unit, or the cgroup's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Cow<'a, str>>,
    /// What is wrong: one sentence.
    pub summary: Cow<'a, str>,
    /// What it rests on: numbers and names, the units in the keys.
    pub evidence: BTreeMap<&'static str, Value<'a>>,
    /// What to do.
    pub advice: Cow<'a, str>,
}

/// A fact.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// Another number.
    Number(f64),
    /// A name.
    Text(Cow<'a, str>),
}

/// A process that could not be looked at.
#[derive(Debug, Serialize)]
pub struct NotSeen<'a> {
    /// Process id.
    pub pid: u32,
    /// Why: one sentence.
    pub reason: Cow<'a, str>,
}

/// The findings of a view, for programs.
#[must_use]
pub fn json(view: &View) -> Report<'_> {
    let rows = view.findings.iter().filter_map(|finding| {
        let target = view.targets.get(finding.target)?;
        Some(Row {
            rule: finding.rule,
            severity: finding.severity.name(),
            pid: target.pid,
            process: printable(&target.process),
            namespace: shown(&target.owner.namespace),
            pod: shown(&target.owner.pod),
            container: shown(&target.owner.container),
            unit: shown(&target.owner.unit),
            summary: printable(&finding.summary),
            evidence: finding.evidence.iter().map(|(name, fact)| (*name, value(fact))).collect(),
            advice: printable(&finding.advice),
        })
    });
    Report { findings: rows.collect(), not_seen: not_seen(view).collect() }
}

fn value(fact: &Fact) -> Value<'_> {
    match fact {
        // Up to here every whole number is exact.
        Fact::Number(number) if number.fract() == 0.0 && (0.0..9e15).contains(number) => {
            Value::Count(*number as u64)
        }
        Fact::Number(number) => Value::Number(*number),
        Fact::Text(text) => Value::Text(printable(text)),
    }
}

fn not_seen(view: &View) -> impl Iterator<Item = NotSeen<'_>> {
    let unseen = view.targets.iter().filter(|target| target.goroutines.is_none());
    unseen.map(|target| NotSeen {
        pid: target.pid,
        reason: target.reason.as_deref().map_or(Cow::Borrowed("it was not looked at yet"), printable),
    })
}

/// The findings of a view, for people: by target, the one with the worst finding first.
#[must_use]
pub fn text(view: &View) -> String {
    let mut text = String::new();
    let mut shown: Vec<usize> = Vec::new();
    for finding in &view.findings {
        if shown.contains(&finding.target) {
            continue;
        }
        shown.push(finding.target);
        let Some(target) = view.targets.get(finding.target) else { continue };
        let own = view.findings.iter().filter(|other| other.target == finding.target);
        group(&mut text, target, own);
    }
    let healthy =
        view.targets.iter().filter(|target| target.goroutines.is_some()).count() - seen(view, &shown);
    let other = if shown.is_empty() { "" } else { "other " };
    match healthy {
        0 if view.targets.is_empty() => {
            text.push_str("There is no Go process here that these privileges can see.\n");
        }
        0 => {}
        1 => _ = writeln!(text, "No finding for the {other}Go process that was looked at."),
        _ => _ = writeln!(text, "No finding for the {other}{healthy} Go processes that were looked at."),
    }
    for unseen in not_seen(view) {
        _ = writeln!(text, "not seen: process {}: {}", unseen.pid, unseen.reason);
    }
    text
}

fn seen(view: &View, shown: &[usize]) -> usize {
    let goroutines =
        |index: &&usize| view.targets.get(**index).is_some_and(|target| target.goroutines.is_some());
    shown.iter().filter(goroutines).count()
}

fn group<'a>(text: &mut String, target: &TargetView, findings: impl Iterator<Item = &'a Finding>) {
    let owner = super::owner(target).map(|owner| format!(", {owner}")).unwrap_or_default();
    _ = writeln!(text, "{} (pid {}){owner}", printable(&target.process), target.pid);
    for finding in findings {
        _ = writeln!(
            text,
            "  {} {}: {}.",
            finding.severity.name(),
            finding.rule,
            printable(&finding.summary)
        );
        _ = writeln!(text, "    {}", printable(&finding.advice));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testdata::view;
    use crate::testing::assert_golden;

    /// Findings of the recorded view for programs: whole numbers are whole, and nothing acts on a terminal.
    #[test]
    fn json_of_the_recorded_view() {
        let text = serde_json::to_string_pretty(&json(&view())).unwrap() + "\n";
        assert_golden("src/export/testdata/doctor.json", &text);
    }

    /// The same for people: what was found, what is fine, and what was not seen.
    #[test]
    fn text_of_the_recorded_view() {
        assert_golden("src/export/testdata/doctor.txt", &text(&view()));
    }

    /// What is first of a process for programs is first of it for people.
    #[test]
    fn text_and_json_have_one_order() {
        let view = view();
        let (report, text) = (json(&view), text(&view));
        for pid in report.findings.iter().map(|row| row.pid) {
            let rows = report.findings.iter().filter(|row| row.pid == pid);
            let line = |row: &Row<'_>| text.find(&format!("{} {}: {}.", row.severity, row.rule, row.summary));
            let places: Option<Vec<_>> = rows.map(line).collect();
            assert!(places.expect("every finding is in the text").is_sorted(), "{text}");
        }
    }

    /// Without findings there is one sentence.
    #[test]
    fn a_healthy_machine_is_told_in_one_line() {
        let mut view = view();
        view.findings.clear();
        view.targets.retain(|target| target.goroutines.is_some());
        assert_eq!(text(&view), "No finding for the 3 Go processes that were looked at.\n");
        view.targets.truncate(1);
        assert_eq!(text(&view), "No finding for the Go process that was looked at.\n");
        view.targets.clear();
        assert_eq!(text(&view), "There is no Go process here that these privileges can see.\n");
    }
}
