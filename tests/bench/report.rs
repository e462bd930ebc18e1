//! The table and the JSON.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One figure.
#[derive(Debug, Clone, Serialize)]
struct Row {
    bench: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    /// The project's goal for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self, value: f64) -> String {
        let met = if self.is_met(value) { "met" } else { "MISSED" };
        match self {
            Self::AtMost(limit) => format!("≤ {} {met}", number(limit)),
            Self::AtLeast(limit) => format!("≥ {} {met}", number(limit)),
        }
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds a figure without a goal.
    pub(crate) fn add(
        &mut self,
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.0.push(Row { bench, what: what.into(), value, unit, goal: None });
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
        self.0.push(Row { bench, what: what.into(), value, unit, goal: Some(goal) });
    }

    /// The figures for a person.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let width = self.0.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
        for row in &self.0 {
            let goal = row.goal.map(|goal| goal.text(row.value)).unwrap_or_default();
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "{:<10}  {:<width$}  {:>10} {:<5}  {goal}",
                row.bench,
                row.what,
                number(row.value),
                row.unit
            );
        }
        text
    }

    /// The figures for a machine, with what they were measured on.
    pub(crate) fn write_json(&self, path: &Path, short: bool) -> Result<()> {
        let json = json!({
            "date": date()?,
            "short": short,
            "machine": {
                "cpus": std::thread::available_parallelism()?.get(),
                "cpu": first(&fs::read_to_string("/proc/cpuinfo")?, "model name"),
                "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
                "memory": first(&fs::read_to_string("/proc/meminfo")?, "MemTotal"),
            },
            "figures": self.0,
        });
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(path, serde_json::to_string_pretty(&json)? + "\n")?)
    }
}

fn date() -> Result<String> {
    let output =
        Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().context("cannot run date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The value of the first `name: value` line.
fn first(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

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

    /// The median doesn't follow an outlier.
    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]).unwrap(), 2.0);
        assert!(median(vec![]).is_err());
    }
}
