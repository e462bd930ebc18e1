//! What `serve` with its defaults costs a web server's requests.

use crate::report::{Goal, Report, median};
use crate::rounds::{Plan, Rounds};
use anyhow::{Context, Result, bail};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;

const BENCH: &str = "http";

/// Requests per second: what the machine that the figures are for serves with time to spare.
const REQUESTS: &str = "10000";

/// Latencies are within the noise if those with `serve` are, in the median of the rounds, no larger than in the
/// slowest round alone but one: the slowest of all may be the machine's.
pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let plan = if short {
        Plan { options: &["--interval", "1s"], observed: 2, seconds: 1, settling_seconds: 2 }
    } else {
        Plan { options: &[], observed: 5, seconds: 30, settling_seconds: 20 }
    };
    let mut server = Fixture::start("webload", Go::NEWEST, Variant::Static, &[])?;
    let rounds = Rounds::of(plan, (server.pid(), "webload"), |seconds| {
        let answer = server.ask(&format!("round {seconds}s {REQUESTS}"))?;
        let figure = |name: &str| answer[name].as_f64().with_context(|| format!("no {name} in {answer}"));
        Ok([figure("p50_us")?, figure("p99_us")?])
    })?;
    quantile(report, "p50", &rounds, |[p50, _]| *p50)?;
    let (with, slow) = quantile(report, "p99", &rounds, |[_, p99]| *p99)?;
    let what = "p99: with serve, no more than the slowest round alone but one";
    report.goal(BENCH, what, with, "µs", Goal::AtMost(slow));
    Ok(())
}

/// Reports one quantile; returns what it is with `serve`, and in the slowest round alone but one.
fn quantile(
    report: &mut Report,
    name: &str,
    rounds: &Rounds<[f64; 2]>,
    figure: impl Fn(&[f64; 2]) -> f64 + Copy,
) -> Result<(f64, f64)> {
    let mut alone: Vec<f64> = rounds.alone.iter().map(figure).collect();
    alone.sort_by(f64::total_cmp);
    let [fastest, .., slow, slowest] = alone[..] else { bail!("too few rounds alone") };
    let with = median(rounds.observed.iter().map(figure).collect())?;
    let slower = (rounds.ratio(figure)? - 1.0) * 100.0;
    let mut add = |what: &str, value, unit| report.add(BENCH, format!("{name}: {what}"), value, unit);
    add("alone", median(alone.clone())?, "µs");
    add("fastest round alone", fastest, "µs");
    add("slowest round alone", slowest, "µs");
    add("with serve", with, "µs");
    add("slower with serve", slower, "%");
    Ok((with, slow))
}
