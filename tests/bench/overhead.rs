//! What `serve` with its defaults costs programs that do nothing but what probes watch.

use crate::report::{Goal, Report, median};
use crate::rounds::{Plan, Rounds};
use anyhow::{Context, Result};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;

const BENCH: &str = "overhead";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let plan = Plan::new(short);
    slowdown(report, plan, "spawnloop", "starting goroutines", 3.0)?;
    slowdown(report, plan, "pingpong", "parking goroutines", 2.0)
}

/// By how much a program is slower while it is observed, in percent.
fn slowdown(report: &mut Report, plan: Plan, fixture: &str, what: &str, most: f64) -> Result<()> {
    let mut target = Fixture::start(fixture, Go::NEWEST, Variant::Static, &[])?;
    let rounds = Rounds::of(&mut target, fixture, plan, |seconds| format!("round {seconds}s"))?;
    let (alone, observed) = (rounds.alone("ns"), rounds.observed("ns"));
    report.add(BENCH, format!("{what}: each, alone"), median(alone.clone())?, "ns");
    report.add(BENCH, format!("{what}: each, with serve"), median(observed)?, "ns");
    let (least, largest) = extremes(&alone)?;
    report.add(BENCH, format!("{what}: rounds alone differ by"), (largest / least - 1.0) * 100.0, "%");
    let slower = (rounds.ratio("ns")? - 1.0) * 100.0;
    report.goal(BENCH, format!("{what}: slower with serve"), slower, "%", Goal::AtMost(most));
    Ok(())
}

/// The smallest and the largest value.
fn extremes(values: &[f64]) -> Result<(f64, f64)> {
    let extreme = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
    extreme(f64::min).zip(extreme(f64::max)).context("nothing was measured")
}
