//! Speed and size of the observer, against the goals of the project. Ratios are measured in one run, with rounds
//! that alternate, so that a noisy machine disturbs both sides alike.
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

mod accuracy;
mod cgroups;
mod child;
mod dump;
mod faults;
mod http;
mod idle;
mod inspect;
mod kernel;
mod machine;
mod node;
mod overhead;
mod probe_cost;
mod rank;
mod report;
mod rounds;
mod snapshot;
mod turnover;
mod twins;

use anyhow::{Context, Result, bail};
use clap::Parser;
use machine::Machine;
use observer_tests::gate;
use report::{Report, Setting};
use std::fs;
use std::path::{Path, PathBuf};

/// Measures the observer named by OBSERVER_BIN, or else this workspace's release build
#[derive(Parser)]
struct Args {
    /// Benches to run: all of them unless named
    #[arg(value_parser = NAMES.map(|(name, _)| name).to_vec())]
    names: Vec<String>,
    /// Fewer and shorter rounds: shows that everything works, not how fast; no goals
    #[arg(long)]
    short: bool,
    /// Where to write the figures as JSON [default: target/bench.json, in short mode target/bench-short.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to write the figures as a document [default: BENCHMARKS.md, if all benches ran in full]
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    faults: faults::Limits,
}

/// What every bench is told.
struct Run {
    short: bool,
    faults: faults::Limits,
}

type Bench = fn(&mut Report, &Run) -> Result<()>;

/// `inspect` comes first: a child's peak memory is at least its parent's when it was started.
const NAMES: [(&str, Bench); 13] = [
    ("inspect", |report, run| inspect::run(report, run.short)),
    ("probe-cost", |report, run| probe_cost::run(report, run.short)),
    ("snapshot", |report, run| snapshot::run(report, run.short)),
    ("dump", |report, run| dump::run(report, run.short)),
    ("cgroups", |report, run| cgroups::run(report, run.short)),
    ("idle", |report, run| idle::run(report, run.short)),
    ("node", |report, run| node::run(report, run.short)),
    ("scrape", |report, run| node::scrape(report, run.short)),
    ("turnover", |report, run| turnover::run(report, run.short)),
    ("overhead", |report, run| overhead::run(report, run.short)),
    ("http", |report, run| http::run(report, run.short)),
    ("accuracy", |report, run| accuracy::run(report, run.short)),
    ("faults", |report, run| faults::run(report, &run.faults, run.short)),
];

fn main() -> Result<()> {
    let args = Args::parse();
    if args.short && !gate::root() {
        return Ok(());
    }
    let run = Run { short: args.short, faults: args.faults };
    let mut report = Report::new(args.short);
    let mut failed = Vec::new();
    for (name, bench) in NAMES {
        if args.names.is_empty() || args.names.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            if let Err(error) = bench(&mut report, &run) {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    print!("{}", report.table());
    let setting = Setting {
        machine: Machine::look()?,
        date: machine::date()?,
        short: args.short,
        command: command(std::env::args().skip(1)),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let json = if args.short { "target/bench-short.json" } else { "target/bench.json" };
    let json = args.json.unwrap_or_else(|| workspace.join(json));
    report.stamp(&setting);
    if let Some(earlier) = fs::read_to_string(&json).ok().filter(|_| !args.short)
        && let Err(error) = report.keep(&earlier, &setting, &NAMES.map(|(name, _)| name))
    {
        eprintln!("figures of earlier runs are left out, {} is no report: {error:#}", json.display());
    }
    write(&json, &report.json(&setting)?)?;
    let complete = args.names.is_empty() && !args.short && failed.is_empty();
    let document = args.markdown.or_else(|| complete.then(|| workspace.join("BENCHMARKS.md")));
    if let Some(document) = document {
        write(&document, &report.markdown(&setting))?;
    }
    if !failed.is_empty() {
        bail!("could not measure {}", failed.join(", "));
    }
    Ok(())
}

/// What a person runs to have this program run with these arguments.
fn command(args: impl Iterator<Item = String>) -> String {
    ["cargo xtask bench".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
