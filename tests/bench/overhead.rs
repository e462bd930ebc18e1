//! What `serve` with its defaults costs programs that do nothing but what probes watch, and a web server.

use crate::report::{Goal, Report, median};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::proc::text_is_pristine;
use observer_tests::serve::Serve;
use observer_tests::wait;

const BENCH: &str = "overhead";

/// Requests per second: what the machine that the figures are for serves with time to spare.
const REQUESTS: &str = "10000";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let spawn = slowdown(report, "spawnloop", "goroutine", short)?;
    report.goal(BENCH, "starting goroutines: slower with serve", spawn, "%", Goal::AtMost(3.0));
    let park = slowdown(report, "pingpong", "park", short)?;
    report.goal(BENCH, "parking goroutines: slower with serve", park, "%", Goal::AtMost(2.0));
    web(report, short)
}

/// By how much a program is slower while it is observed, in percent.
fn slowdown(report: &mut Report, fixture: &str, what: &str, short: bool) -> Result<f64> {
    let (rounds, length) = if short { (1, "2s") } else { (3, "60s") };
    let mut target = Fixture::start(fixture, Go::NEWEST, Variant::Static, &[])?;
    let (mut bare, mut observed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let command = format!("round {length}");
        bare.push(target.ask(&command)?["ns"].as_f64().context("no figure")?);
        observed.push(beside_serve(&mut target, fixture, &command)?["ns"].as_f64().context("no figure")?);
    }
    let (bare, observed) = (median(bare)?, median(observed)?);
    report.add(BENCH, format!("{what}, alone"), bare, "ns");
    report.add(BENCH, format!("{what}, with serve"), observed, "ns");
    Ok((observed / bare - 1.0) * 100.0)
}

fn web(report: &mut Report, short: bool) -> Result<()> {
    let (rounds, length) = if short { (1, "2s") } else { (3, "60s") };
    let mut target = Fixture::start("webload", Go::NEWEST, Variant::Static, &[])?;
    let command = format!("round {length} {REQUESTS}");
    let (mut bare, mut observed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(target.ask(&command)?);
        observed.push(beside_serve(&mut target, "webload", &command)?);
    }
    for quantile in ["p50", "p99"] {
        let of = |answers: &[serde_json::Value]| {
            let values = answers.iter().filter_map(|answer| answer[format!("{quantile}_us")].as_f64());
            values.collect::<Vec<f64>>()
        };
        let (alone, noise) = (median(of(&bare))?, spread(&of(&bare)));
        let with = median(of(&observed))?;
        report.add(BENCH, format!("HTTP request, alone: {quantile}"), alone, "µs");
        report.add(BENCH, format!("HTTP request, rounds alone differ by: {quantile}"), noise, "µs");
        report.add(BENCH, format!("HTTP request, with serve: {quantile}"), with, "µs");
    }
    Ok(())
}

/// Has a target do something while `serve` with its defaults watches it.
fn beside_serve(target: &mut Fixture, fixture: &str, command: &str) -> Result<serde_json::Value> {
    let serve = Serve::start(&[])?;
    serve.until("the target's probes", |samples| {
        let mut covered = samples.of("observer_probe_coverage_ratio", &[]);
        covered.any(|sample| sample.labels.get("process").is_some_and(|name| name.starts_with(fixture)))
    })?;
    let answer = target.ask(command)?;
    serve.end_by(Signal::SIGTERM)?;
    wait::until("the code as it was", || Ok(text_is_pristine(target.pid())?.then_some(())))?;
    Ok(answer)
}

/// By how much the largest exceeds the smallest.
fn spread(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    largest - values.iter().copied().fold(f64::MAX, f64::min)
}
