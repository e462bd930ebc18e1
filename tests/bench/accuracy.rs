//! How near the counts are to a program's own, when all is counted and when a few percent are.

use crate::report::{Goal, Report};
use anyhow::{Context, Result};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::observer::Attach;
use serde_json::Value;

const BENCH: &str = "accuracy";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let length = if short { "5s" } else { "60s" };
    // The fixture and the runtime start a few goroutines besides.
    for (budget, goal) in [("unlimited", 0.01), ("1%", 10.0)] {
        let mut target = Fixture::start("spawnloop", Go::NEWEST, Variant::Static, &[])?;
        let mut attach = Attach::within(target.pid(), "500ms", budget)?;
        let before = created(&attach.until("the probes", |line| created(line).is_ok())?)?;
        let started = target.ask(&format!("round {length}"))?["goroutines"].as_f64().context("no figure")?;
        let line = attach.fresh_line()?;
        let coverage = line["probes"]["groups"][0]["coverage_ratio"].as_f64().context("no coverage")?;
        let off = ((created(&line)? - before) / started - 1.0).abs() * 100.0;
        report.add(BENCH, format!("creations within {budget}: coverage"), coverage * 100.0, "%");
        report.goal(BENCH, format!("creations within {budget}: off the truth"), off, "%", Goal::AtMost(goal));
    }
    Ok(())
}

fn created(line: &Value) -> Result<f64> {
    line["probes"]["created_total"].as_f64().context("no probes")
}
