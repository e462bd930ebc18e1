//! `observer check`.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use super::names::NameArguments;
use super::output::{self, Format};
use crate::cgroup::Hierarchies;
use crate::container::{self, RuntimeSocket};
use crate::probe::features::FEATURES;
use crate::text::printable;

#[derive(Args)]
pub(super) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    names: NameArguments,
}

#[derive(Serialize)]
struct Report {
    kernel: String,
    cgroups: &'static str,
    container_runtimes: Vec<RuntimeRow>,
    features: Vec<Row>,
}

/// A container runtime's socket.
#[derive(Serialize)]
struct RuntimeRow {
    socket: String,
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<RuntimeSocket> for RuntimeRow {
    fn from(RuntimeSocket { path, answer }: RuntimeSocket) -> Self {
        let (runtime, reason) = match answer {
            Ok(runtime) => (Some(runtime), None),
            Err(reason) => (None, Some(reason)),
        };
        let socket = printable(&path.to_string_lossy()).into_owned();
        Self { socket, answers: runtime.is_some(), runtime, reason }
    }
}

/// What the container runtime is for.
const NAMES: &str = "namespace, pod and container names";

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
    let report = report(arguments)?;
    match arguments.output {
        Format::Json => output::json(&report, true),
        Format::Table => Ok(output::print(&table(&report))?),
    }
}

fn report(arguments: &Arguments) -> anyhow::Result<Report> {
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
    let runtimes = container::runtimes(&arguments.names.options())?;
    let container_runtimes = runtimes.into_iter().map(RuntimeRow::from).collect();
    Ok(Report { kernel, cgroups, container_runtimes, features: features.collect() })
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
    text.push_str(&runtimes(&report.container_runtimes));
    text
}

/// A row for each socket; one that says what is lost where there is none.
fn runtimes(rows: &[RuntimeRow]) -> String {
    let name = "container_runtime";
    let mut text = String::new();
    for RuntimeRow { socket, runtime, reason, .. } in rows {
        let mark = if runtime.is_some() { "yes" } else { "NO " };
        let said = runtime.as_ref().or(reason.as_ref()).map_or("", |said| said);
        _ = writeln!(text, "{mark}  {name:<17} {NAMES}\n     {:<17} {socket}: {said}", "");
    }
    if rows.is_empty() {
        _ = writeln!(
            text,
            "NO   {name:<17} {NAMES}\n     {:<17} no socket was found, so a container is called by the \
                            beginning of its id: name the socket with --cri-socket if there are pods here",
            ""
        );
    }
    text
}
