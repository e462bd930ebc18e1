//! The table, the JSON and the document.

use crate::machine::Machine;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::fmt::Write;

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    bench: Cow<'static, str>,
    what: String,
    value: f64,
    unit: Cow<'static, str>,
    /// The project's goal for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    /// When it was measured, in UTC; empty until the run is over.
    #[serde(default)]
    date: String,
}

/// A run of earlier, as its JSON tells.
#[derive(Deserialize)]
struct Earlier {
    date: String,
    short: bool,
    machine: Machine,
    figures: Vec<Row>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    const fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    const fn verdict(self, value: f64) -> &'static str {
        if self.is_met(value) { "met" } else { "MISSED" }
    }

    fn bound(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", number(limit)),
            Self::AtLeast(limit) => format!("≥ {}", number(limit)),
        }
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// The figures are too coarse for their goals, which are left out.
    short: bool,
}

impl Report {
    pub(crate) fn new(short: bool) -> Self {
        Self { short, ..Self::default() }
    }

    /// Adds a figure without a goal.
    pub(crate) fn add(
        &mut self,
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.push(bench, what.into(), (value, unit), None);
    }

    /// Adds a figure with its goal.
    pub(crate) fn goal(
        &mut self,
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Goal,
    ) {
        self.push(bench, what.into(), (value, unit), Some(goal));
    }

    fn push(
        &mut self,
        bench: &'static str,
        what: String,
        (value, unit): (f64, &'static str),
        goal: Option<Goal>,
    ) {
        let (bench, unit) = (bench.into(), unit.into());
        let goal = goal.filter(|_| !self.short);
        self.rows.push(Row { bench, what, value, unit, goal, date: String::new() });
    }

    /// Notes when the figures were measured.
    pub(crate) fn stamp(&mut self, setting: &Setting) {
        for row in &mut self.rows {
            row.date.clone_from(&setting.date);
        }
    }

    /// Takes over figures of benches that did not run this time, from the JSON of a run in full on the same machine.
    /// `order`: all benches.
    pub(crate) fn keep(&mut self, json: &str, setting: &Setting, order: &[&str]) -> Result<()> {
        let earlier: Earlier = serde_json::from_str(json)?;
        if earlier.short || earlier.machine != setting.machine {
            return Ok(());
        }
        let ran = |row: &Row| self.rows.iter().any(|own| own.bench == row.bench);
        let mut kept: Vec<Row> = earlier.figures.into_iter().filter(|row| !ran(row)).collect();
        for row in kept.iter_mut().filter(|row| row.date.is_empty()) {
            row.date.clone_from(&earlier.date);
        }
        self.rows.extend(kept);
        self.rows.sort_by_key(|row| order.iter().position(|name| *name == row.bench));
        Ok(())
    }

    /// The figures for a person.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
        for row in &self.rows {
            let goal = row.goal.map(|goal| format!("{} {}", goal.bound(), goal.verdict(row.value)));
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "{:<10}  {:<width$}  {:>10} {:<5}  {goal}",
                row.bench,
                row.what,
                number(row.value),
                row.unit,
                goal = goal.unwrap_or_default(),
            );
        }
        text
    }

    /// The figures for a machine, with what they were measured on.
    pub(crate) fn json(&self, setting: &Setting) -> Result<String> {
        let json = json!({
            "date": setting.date,
            "short": setting.short,
            "machine": setting.machine,
            "figures": self.rows,
        });
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    /// The figures as a document.
    pub(crate) fn markdown(&self, setting: &Setting) -> String {
        let Setting { machine, short, command, .. } = setting;
        let mut text = format!(
            "# Benchmarks\n\nWritten by `{command}`; not by hand. \
             Figures of benches that did not run then are those of the run before.\n\n## Machine\n\n|  |  |\n|---|---|\n"
        );
        // Writing to a String does not fail.
        for (what, value) in machine.rows() {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        if *short {
            text.push_str("\nIn short mode: that everything works, not how fast.\n");
        }
        text.push_str("\n## Figures\n\n| bench | figure | value | goal | | measured |\n");
        text.push_str("|---|---|---:|---:|---|---|\n");
        for Row { bench, what, value, unit, goal, date } in &self.rows {
            let (bound, verdict) = goal.map(|goal| (goal.bound(), goal.verdict(*value))).unwrap_or_default();
            let value = number(*value);
            let _ = writeln!(text, "| {bench} | {what} | {value} {unit} | {bound} | {verdict} | {date} |");
        }
        text + REPEAT
    }
}

/// How and when the figures were measured.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) machine: Machine,
    /// In UTC.
    pub(crate) date: String,
    pub(crate) short: bool,
    /// What a person runs for it.
    pub(crate) command: String,
}

/// The end of the document.
const REPEAT: &str = "
## How to repeat

As root, on a machine with nothing else to do:

```sh
cargo xtask bench                      # everything, and writes this file
cargo xtask bench overhead accuracy --markdown BENCHMARKS.md    # some; the figures of the others stay
cargo xtask bench --short              # shows that everything works, as `cargo xtask test` does
cargo xtask bench --help               # names and options
```

Sides that are compared alternate within one run, on one machine.

`faults` waits for the kernel nearly all the time. Before Linux 6.12, which removes one breakpoint of the machine at a time, ten
thousand cycles in each version of Go take a night; `--fault-minutes` ends it earlier, and its figure says how far it came. The
same figures are in `target/bench.json`.
";

/// Three significant digits or whole numbers.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The middle value; with an even number of values, the smaller of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure beyond its goal is marked, whichever way the goal points.
    #[test]
    fn missed_goals_are_marked() {
        let mut report = Report::default();
        report.goal("b", "small", 5.0, "ms", Goal::AtMost(4.0));
        report.goal("b", "large", 5.0, "ms", Goal::AtLeast(4.0));
        let lines: Vec<_> = report.table().lines().map(str::to_owned).collect();
        assert!(lines[0].ends_with("≤ 4.00 MISSED") && lines[1].ends_with("≥ 4.00 met"), "{lines:?}");
    }

    /// A short run doesn't judge.
    #[test]
    fn short_runs_have_no_goals() {
        let mut report = Report::new(true);
        report.goal("b", "small", 5.0, "ms", Goal::AtMost(4.0));
        assert!(report.table().trim_end().ends_with("5.00 ms"), "{}", report.table());
    }

    /// The document says what was measured where, with a line for each figure, and whether its goal is met.
    #[test]
    fn the_document_has_every_figure() {
        let mut report = Report::default();
        report.add("b", "plain", 1.0, "ms");
        report.goal("b", "large", 5.0, "%", Goal::AtMost(4.0));
        let machine =
            Machine { cpu: "a CPU".into(), cpus: 2, memory: "4.0 GiB".into(), kernel: "6.1".into() };
        let (date, command) = ("2030-01-01".to_owned(), "cargo xtask bench".to_owned());
        let setting = Setting { machine, date, short: false, command };
        report.stamp(&setting);
        let mut earlier = Report::default();
        earlier.add("a", "earlier", 2.0, "s");
        earlier.add("b", "of another time", 3.0, "ms");
        let before = Setting { date: "2029-01-01".to_owned(), ..setting.clone() };
        earlier.stamp(&before);
        report.keep(&earlier.json(&before).unwrap(), &setting, &["a", "b"]).unwrap();
        let text = report.markdown(&setting);
        assert!(!text.contains("another time"), "{text}");
        for line in [
            "| processor | a CPU |",
            "| a | earlier | 2.00 s |  |  | 2029-01-01 |",
            "| b | plain | 1.00 ms |  |  | 2030-01-01 |",
            "| b | large | 5.00 % | ≤ 4.00 | MISSED | 2030-01-01 |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} isn't in {text}");
        }
    }

    /// The median doesn't follow an outlier.
    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]).unwrap(), 2.0);
        assert!(median(vec![]).is_err());
    }
}
