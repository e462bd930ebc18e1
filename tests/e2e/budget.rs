//! Probes stay within their budget, and what they then count is told as what it is.

use crate::support::{callsite, number};
use anyhow::{Context, Result, ensure};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::observer::{Attach, run};
use observer_tests::proc::text_is_pristine;
use observer_tests::wait;
use serde_json::Value;
use std::thread::sleep;
use std::time::Duration;

fn lifecycle(line: &Value) -> Option<&Value> {
    line["probes"]["groups"].as_array()?.iter().find(|group| group["probe"] == "lifecycle")
}

fn is_in(line: &Value, states: &[&str]) -> bool {
    lifecycle(line).and_then(|group| group["state"].as_str()).is_some_and(|state| states.contains(&state))
}

/// A target that starts goroutines faster than its budget allows to count is watched in windows: coverage is
/// below 1, nobody speaks of drift, the estimates are within a tenth of the program's own counts, and its code is
/// as it was for most of the time.
#[test]
fn a_heavy_target_is_watched_in_windows() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for go in [Go(19), Go::NEWEST] {
        let mut churn = Fixture::start("churn", go, Variant::Stripped, &[])?;
        let mut attach = Attach::start(churn.pid(), "500ms")?;
        attach.until("the probes", |line| is_in(line, &["on"]))?;
        churn.ask("go 100000")?;
        attach.until("windows", |line| is_in(line, &["windows", "off"]))?;
        sleep(Duration::from_secs(5));
        let line = attach.fresh_line()?;
        let probes = &line["probes"];
        ensure!(probes["estimated"] == true, "{probes}");
        let coverage = lifecycle(&line).and_then(|group| group["coverage_ratio"].as_f64());
        ensure!(coverage.is_some_and(|coverage| coverage < 1.0), "{probes}");
        wait::until("code without breakpoints", || Ok(text_is_pristine(churn.pid())?.then_some(())))?;
        let counts = churn.ask("quiesce")?;
        let line = attach.fresh_line()?;
        for site in counts["sites"].as_array().context("sites")? {
            let text = |name: &str| site[name].as_str().context("a name");
            let seen =
                callsite(&line, text("created_by")?, text("entry")?).context("a callsite is missing")?;
            for (theirs, ours) in [("created", "created_total"), ("ended", "exited_total")] {
                let (theirs, ours) = (number(site, theirs)? as f64, number(seen, ours)? as f64);
                ensure!((ours / theirs - 1.0).abs() < 0.1, "{go:?}: program {site}, observer {seen}");
            }
        }
        // At rest probes come to stay, and agree with the snapshots again.
        attach.until("probes that stay", |line| is_in(line, &["on"]))?;
        attach.until("no drift", |line| line["probes"]["drift"] == 0)?;
    }
    Ok(())
}

/// A budget of nothing puts no probe anywhere; one that can't be read is refused in one sentence.
#[test]
fn budgets_off_and_wrong() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let churn = Fixture::start("churn", Go::NEWEST, Variant::Static, &[])?;
    let mut attach = Attach::within(churn.pid(), "200ms", "off")?;
    let line = attach.fresh_line()?;
    ensure!(line.get("probes").is_none() && text_is_pristine(churn.pid())?, "{line}");
    let ran = run(&["attach", &churn.pid_text(), "--overhead-budget", "much"])?;
    ensure!(ran.status.code() == Some(2) && ran.stderr.contains("unlimited or off"), "{ran:?}");
    Ok(())
}
