//! Speed and size of the observer, against the goals of the project. Ratios are measured in one run, with rounds
//! that alternate, so that a noisy machine disturbs both sides alike.
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

mod accuracy;
mod cgroups;
mod child;
mod dump;
mod faults;
mod idle;
mod inspect;
mod kernel;
mod node;
mod overhead;
mod probe_cost;
mod report;
mod snapshot;
mod turnover;

use anyhow::{Context, Result, bail};
use clap::Parser;
use report::Report;
use std::path::{Path, PathBuf};

/// Measures the observer named by OBSERVER_BIN, or else this workspace's release build
#[derive(Parser)]
struct Args {
    /// Benches to run: all of them unless named
    #[arg(value_parser = NAMES.map(|(name, _)| name).to_vec())]
    names: Vec<String>,
    /// Fewer and shorter rounds: shows that everything works, not how fast
    #[arg(long)]
    short: bool,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

type Bench = fn(&mut Report, bool) -> Result<()>;

/// `inspect` comes first: a child's peak memory is at least its parent's when it was started.
const NAMES: [(&str, Bench); 12] = [
    ("inspect", inspect::run),
    ("probe-cost", probe_cost::run),
    ("snapshot", snapshot::run),
    ("dump", dump::run),
    ("cgroups", cgroups::run),
    ("idle", idle::run),
    ("node", node::run),
    ("scrape", node::scrape),
    ("turnover", turnover::run),
    ("overhead", overhead::run),
    ("accuracy", accuracy::run),
    ("faults", faults::run),
];

fn main() -> Result<()> {
    let args = Args::parse();
    let mut report = Report::default();
    let mut failed = Vec::new();
    for (name, bench) in NAMES {
        if args.names.is_empty() || args.names.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            if let Err(error) = bench(&mut report, args.short) {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    print!("{}", report.table());
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench.json");
    let path = args.json.unwrap_or(default);
    report.write_json(&path, args.short).with_context(|| format!("cannot write {}", path.display()))?;
    if !failed.is_empty() {
        bail!("could not measure {}", failed.join(", "));
    }
    Ok(())
}
