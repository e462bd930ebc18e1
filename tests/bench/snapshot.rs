//! How long a snapshot takes, and how long the target's own goroutine profile.

use crate::report::{Goal, Report, median};
use anyhow::{Context, Result};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::observer::Attach;

const BENCH: &str = "snapshot";

/// Goroutines, and the goal in milliseconds where there is one.
const SIZES: [(u32, Option<f64>); 3] = [(10_000, None), (200_000, Some(50.0)), (1_000_000, Some(300.0))];

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let rounds = if short { 2 } else { 7 };
    let sizes = if short { &SIZES[..1] } else { &SIZES[..] };
    for &(n, goal) in sizes {
        let count = n.to_string();
        let executable = build("many", Go::NEWEST, Variant::Static)?;
        let mut target = Fixture::run(&executable, &["-n", &count])?;
        let (mut ours, mut pprof) = (Vec::new(), Vec::new());
        let mut attach = Attach::start(target.pid(), "500ms")?;
        for round in 0..rounds {
            ours.push(snapshot_milliseconds(&mut attach)?);
            if round < 3 {
                pprof.push(target.ask("pprof 0")?["seconds"].as_f64().context("no figure")? * 1e3);
            }
        }
        let (ours, pprof) = (median(ours)?, median(pprof)?);
        let what = format!("{n} goroutines");
        match goal {
            Some(limit) => report.goal(BENCH, &what, ours, "ms", Goal::AtMost(limit)),
            None => report.add(BENCH, &what, ours, "ms"),
        }
        report.add(BENCH, format!("{what}, the target's pprof debug=0"), pprof, "ms");
        report.goal(BENCH, format!("{what}, times faster"), pprof / ours, "", Goal::AtLeast(5.0));
    }
    Ok(())
}

fn snapshot_milliseconds(attach: &mut Attach) -> Result<f64> {
    let line = attach.fresh_line()?;
    let seconds = line["snapshot_seconds"].as_f64();
    Ok(seconds.with_context(|| format!("no snapshot_seconds in {line}"))? * 1e3)
}
