//! Probes that come and go ten thousand times in a busy target of every Go version: about an hour for each.

use crate::report::{Goal, Report};
use anyhow::Result;
use std::process::Command;

const BENCH: &str = "faults";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let cycles = if short { 4 } else { 10_000 };
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--package=observer", "--test=probe", "faults::a_busy_target_survives"])
        .env("OBSERVER_CYCLES", cycles.to_string())
        .env("OBSERVER_REQUIRE", "1")
        .status()?;
    report.add(BENCH, "attach and detach, every Go version", f64::from(cycles), "times");
    let damaged = f64::from(u8::from(!status.success()));
    report.goal(BENCH, "damage or leftovers", damaged, "", Goal::AtMost(0.0));
    Ok(())
}
