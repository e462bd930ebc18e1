//! `observer check`.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use super::output::{self, Format};
use crate::cgroup::Hierarchies;
use crate::probe::features::FEATURES;

#[derive(Args)]
pub(super) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    kernel: String,
    cgroups: &'static str,
    features: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    enabled: bool,
    /// What doesn't work without it.
    gives: &'static str,
    needs: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = report();
    match arguments.output {
        Format::Json => output::json(&report, true),
        Format::Table => Ok(output::print(&table(&report))?),
    }
}

fn report() -> Report {
    let features = FEATURES.iter().map(|feature| {
        let refused = feature.check().err();
        Row {
            name: feature.name,
            enabled: refused.is_none(),
            gives: feature.gives,
            needs: feature.needs,
            minimum_kernel: feature.min_kernel.map(|(major, minor)| format!("{major}.{minor}")),
            reason: refused,
        }
    });
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let cgroups = Hierarchies::discover().map_or("none", |hierarchies| hierarchies.mode().name());
    Report { kernel, cgroups, features: features.collect() }
}

fn table(report: &Report) -> String {
    let mut text = format!("Linux {}, cgroups: {}\n\n", report.kernel, report.cgroups);
    for row in &report.features {
        let mark = if row.enabled { "yes" } else { "NO " };
        _ = writeln!(text, "{mark}  {:<17} {}", row.name, row.gives);
        if let Some(reason) = &row.reason {
            let needs =
                if reason.contains("needs ") { String::new() } else { format!(" (needs {})", row.needs) };
            _ = writeln!(text, "     {:<17} {reason}{needs}", "");
        }
    }
    text
}
