//! What `serve` with its defaults costs programs that do nothing but what probes watch.

use crate::report::{Goal, Report, median};
use crate::rounds::{Plan, Rounds};
use crate::twins::{Pair, Twins};
use anyhow::Result;

const BENCH: &str = "overhead";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    slowdown(report, short, "spawnloop", "starting goroutines", 3.0)?;
    slowdown(report, short, "pingpong", "parking goroutines", 2.0)
}

const fn plan(short: bool) -> Plan {
    if short {
        let options = &["--exclude", "process=twin", "--interval", "1s"];
        Plan { options, observed: 1, seconds: 1, alone_seconds: 1, settling_seconds: 2 }
    } else {
        let options = &["--exclude", "process=twin"];
        Plan { options, observed: 2, seconds: 60, alone_seconds: 20, settling_seconds: 20 }
    }
}

/// By how much a program is slower while it is observed, in percent.
///
/// Rounds one after the other can't tell a few percent: on the machine that the figures are for, with nothing else
/// running and no time stolen, these loops become slower by a third, for seconds. So a round compares the program with
/// its twin, which runs at the same time and is not observed; what that can't see, because it is taken from both, is
/// the CPU time of `serve`, which is added: of two processors that are busy it takes half from each.
fn slowdown(report: &mut Report, short: bool, fixture: &str, what: &str, most: f64) -> Result<()> {
    let mut twins = Twins::start(fixture)?;
    let rounds = Rounds::of(plan(short), (twins.target(), fixture), |seconds| twins.work(seconds))?;
    let (alone, observed) = (&rounds.alone, &rounds.observed);
    let nanoseconds = |pairs: &[Pair], of: fn(&Pair) -> f64| median(pairs.iter().map(of).collect());
    let mut add = |figure: &str, value, unit| report.add(BENCH, format!("{what}: {figure}"), value, unit);
    add("each, alone", nanoseconds(alone, |pair| pair.target)?, "ns");
    add("each, with serve", nanoseconds(observed, |pair| pair.target)?, "ns");
    add("each, in the twin that serve leaves alone", nanoseconds(observed, |pair| pair.twin)?, "ns");
    let apart = alone.iter().map(|pair| pair.slower().abs()).fold(0.0, f64::max);
    add("twins alone differ by at most", apart * 100.0, "%");
    let slower = median(observed.iter().map(|pair| pair.slower()).collect())?;
    add("slower than the twin", slower * 100.0, "%");
    let cpu = median(rounds.serve_cpu)?;
    add("CPU of serve", cpu * 100.0, "%");
    let slower = (1.0 + slower) / (1.0 - cpu / 2.0) - 1.0;
    report.goal(BENCH, format!("{what}: slower with serve"), slower * 100.0, "%", Goal::AtMost(most));
    Ok(())
}
