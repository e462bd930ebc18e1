//! What `serve` with its defaults costs a web server's requests.

use crate::rank::chance;
use crate::report::{Goal, Report, median};
use crate::rounds::{Plan, Rounds};
use anyhow::{Context, Result};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;

const BENCH: &str = "http";

/// Requests per second: what the machine that the figures are for serves with time to spare.
const REQUESTS: &str = "10000";

/// Below this it is said that latencies are larger than noise makes them.
const CHANCE: f64 = 0.05;

/// Latencies are within the noise if rounds with `serve` can't be told from rounds alone by their ranks, however large
/// the differences are: a round may be the machine's neighbours'.
pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let plan = if short {
        Plan {
            options: &["--interval", "1s"],
            observed: 2,
            seconds: 1,
            alone_seconds: 1,
            settling_seconds: 2,
        }
    } else {
        // All of one length: the longer a round, the more of what is rare on the machine comes into its tail.
        Plan { options: &[], observed: 5, seconds: 30, alone_seconds: 30, settling_seconds: 20 }
    };
    let mut server = Fixture::start("webload", Go::NEWEST, Variant::Static, &[])?;
    let rounds = Rounds::of(plan, (server.pid(), "webload"), |seconds| {
        let answer = server.ask(&format!("round {seconds}s {REQUESTS}"))?;
        let figure = |name: &str| answer[name].as_f64().with_context(|| format!("no {name} in {answer}"));
        Ok([figure("p50_us")?, figure("p99_us")?])
    })?;
    quantile(report, "p50", &rounds, |[p50, _]| *p50)?;
    let chance = quantile(report, "p99", &rounds, |[_, p99]| *p99)?;
    report.goal(BENCH, "p99: chance that noise alone does this", chance, "", Goal::AtLeast(CHANCE));
    Ok(())
}

/// Reports one quantile; returns how often noise alone would make rounds with `serve` look so slow.
fn quantile(
    report: &mut Report,
    name: &str,
    rounds: &Rounds<[f64; 2]>,
    figure: impl Fn(&[f64; 2]) -> f64 + Copy,
) -> Result<f64> {
    let figures = |rounds: &[[f64; 2]]| rounds.iter().map(figure).collect::<Vec<_>>();
    let (alone, observed) = (figures(&rounds.alone), figures(&rounds.observed));
    let slower = (rounds.ratio(figure)? - 1.0) * 100.0;
    let mut add = |what: &str, value, unit| report.add(BENCH, format!("{name}: {what}"), value, unit);
    for (what, values) in [("alone", &alone), ("with serve", &observed)] {
        let (fastest, slowest) = extremes(values)?;
        add(what, median(values.clone())?, "µs");
        add(&format!("{what}, fastest round"), fastest, "µs");
        add(&format!("{what}, slowest round"), slowest, "µs");
    }
    add("slower with serve", slower, "%");
    Ok(chance(&alone, &observed))
}

/// The smallest and the largest value.
fn extremes(values: &[f64]) -> Result<(f64, f64)> {
    let extreme = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
    extreme(f64::min).zip(extreme(f64::max)).context("nothing was measured")
}
