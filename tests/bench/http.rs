//! What `serve` with its defaults costs a web server's requests.

use crate::report::{Goal, Report, median};
use crate::rounds::{Plan, Rounds};
use anyhow::{Result, bail};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;

const BENCH: &str = "http";

/// Requests per second: what the machine that the figures are for serves with time to spare.
const REQUESTS: &str = "10000";

/// Latencies are within the noise if those with `serve` are, in the median of the rounds, no larger than in the
/// slowest round alone but one: the slowest of all may be the machine's.
pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let mut target = Fixture::start("webload", Go::NEWEST, Variant::Static, &[])?;
    let rounds = Rounds::of(&mut target, "webload", Plan::even(short), |seconds| {
        format!("round {seconds}s {REQUESTS}")
    })?;
    for quantile in ["p50", "p99"] {
        let figure = format!("{quantile}_us");
        let mut alone = rounds.alone(&figure);
        alone.sort_by(f64::total_cmp);
        let with = median(rounds.observed(&figure))?;
        let mut add = |what: &str, value| {
            report.add(BENCH, format!("{quantile}: {what}"), value, "µs");
        };
        add("alone", median(alone.clone())?);
        let [fastest, .., slow, slowest] = alone[..] else { bail!("too few rounds alone") };
        add("fastest round alone", fastest);
        add("slowest round alone", slowest);
        match quantile {
            "p99" => {
                let what = "p99: with serve, no more than the slowest round alone but one";
                report.goal(BENCH, what, with, "µs", Goal::AtMost(slow));
            }
            _ => add("with serve", with),
        }
        let slower = (rounds.ratio(&figure)? - 1.0) * 100.0;
        report.add(BENCH, format!("{quantile}: slower with serve"), slower, "%");
    }
    Ok(())
}
