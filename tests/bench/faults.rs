//! Probes that come and go ten thousand times in a busy target of every Go version.

use crate::report::{Goal, Report};
use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};
use std::time::Instant;

const BENCH: &str = "faults";
/// What shall be survived.
const FULL: u32 = 10_000;

/// How long the bench `faults` goes on: where the kernel removes one probe at a time, a third of a second and more for
/// each cycle.
#[derive(clap::Args)]
pub(crate) struct Limits {
    /// How many times probes come and go in a target of each version of Go
    #[arg(long, value_name = "N", default_value_t = FULL)]
    fault_cycles: u32,
    /// Ends it after so many minutes, however many times it was
    #[arg(long, value_name = "N")]
    fault_minutes: Option<u32>,
}

pub(crate) fn run(report: &mut Report, limits: &Limits, short: bool) -> Result<()> {
    let cycles = if short { 2 } else { limits.fault_cycles };
    let mut test = Command::new(env!("CARGO"));
    // The packages are those of `cargo xtask test`: with others, cargo would build them anew.
    test.args(["test", "--quiet", "--workspace", "--exclude=observer-tests", "--test=probe", "--"])
        .args(["--nocapture", "--exact", "faults::a_busy_target_survives"])
        .env("OBSERVER_CYCLES", cycles.to_string())
        .env("OBSERVER_REQUIRE", "1")
        .stderr(Stdio::inherit());
    if let Some(minutes) = limits.fault_minutes {
        test.env("OBSERVER_CYCLES_SECONDS", (60 * u64::from(minutes)).to_string());
    }
    let begin = Instant::now();
    let output = test.output()?;
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    let told = String::from_utf8_lossy(&output.stdout);
    let survived: Vec<f64> = told.lines().filter_map(survived).collect();
    if !output.status.success() {
        eprintln!("{told}");
    }
    report.add(BENCH, "attach and detach: versions of Go", survived.len() as f64, "");
    report.add(BENCH, "attach and detach: all versions", survived.iter().sum(), "times");
    report.add(BENCH, "attach and detach: all versions took", minutes, "min");
    let damaged = f64::from(u8::from(!output.status.success()));
    report.goal(BENCH, "damage or leftovers", damaged, "", Goal::AtMost(0.0));
    ensure!(output.status.success(), "a target was damaged, or something was left in it: see above");
    let fewest = survived.into_iter().reduce(f64::min).context("no version survived")?;
    let what = "attach and detach: in the version with the fewest";
    report.goal(BENCH, what, fewest, "times", Goal::AtLeast(f64::from(FULL)));
    Ok(())
}

/// Of a line of the test: how many times probes came and went in one version.
fn survived(line: &str) -> Option<f64> {
    line.strip_prefix("survived: Go ")?.split_once(", ")?.1.strip_suffix(" times")?.parse().ok()
}
