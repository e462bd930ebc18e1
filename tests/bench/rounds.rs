//! The same work alone and beside `serve`, in turns.

use crate::report::median;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::fixture::Fixture;
use observer_tests::proc::text_is_pristine;
use observer_tests::serve::Serve;
use observer_tests::wait;
use serde_json::Value;

/// What a target said of its rounds: each observed one is between two alone, so that a machine that becomes slower
/// or faster meanwhile disturbs both sides alike.
pub(crate) struct Rounds {
    alone: Vec<Value>,
    observed: Vec<Value>,
}

/// How many rounds there are, and their lengths in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Options of `serve`.
    options: &'static [&'static str],
    observed: usize,
    alone_seconds: u32,
    /// The target works while `serve` starts and the governor learns what it does; nobody measures that. Longer than
    /// an interval of `serve`.
    settling_seconds: u32,
    observed_seconds: u32,
}

impl Plan {
    pub(crate) const fn new(short: bool) -> Self {
        if short {
            let options = &["--interval", "1s"];
            Self { options, observed: 1, alone_seconds: 1, settling_seconds: 2, observed_seconds: 2 }
        } else {
            Self { options: &[], observed: 3, alone_seconds: 30, settling_seconds: 20, observed_seconds: 60 }
        }
    }

    /// More rounds, and all of one length: the longer a round, the more of what is rare on the machine comes into its
    /// tail.
    pub(crate) const fn even(short: bool) -> Self {
        let plan = Self::new(short);
        let observed = if short { 2 } else { 5 };
        Self { observed, observed_seconds: plan.alone_seconds, ..plan }
    }
}

impl Rounds {
    /// Has a fixture do what `round` asks for within so many seconds.
    pub(crate) fn of(
        target: &mut Fixture,
        fixture: &str,
        plan: Plan,
        round: impl Fn(u32) -> String,
    ) -> Result<Self> {
        let mut rounds = Self { alone: vec![target.ask(&round(plan.alone_seconds))?], observed: Vec::new() };
        for _ in 0..plan.observed {
            let serve = Serve::start(plan.options)?;
            target.ask(&round(plan.settling_seconds))?;
            await_probes(&serve, fixture)?;
            rounds.observed.push(target.ask(&round(plan.observed_seconds))?);
            serve.end_by(Signal::SIGTERM)?;
            wait::until("the code as it was", || Ok(text_is_pristine(target.pid())?.then_some(())))?;
            rounds.alone.push(target.ask(&round(plan.alone_seconds))?);
        }
        Ok(rounds)
    }

    /// A figure of the rounds alone.
    pub(crate) fn alone(&self, figure: &str) -> Vec<f64> {
        figures(&self.alone, figure)
    }

    /// A figure of the observed rounds.
    pub(crate) fn observed(&self, figure: &str) -> Vec<f64> {
        figures(&self.observed, figure)
    }

    /// How many times as large a figure is beside `serve`: the median of the ratios to the mean of the two rounds
    /// around.
    pub(crate) fn ratio(&self, figure: &str) -> Result<f64> {
        let (alone, observed) = (self.alone(figure), self.observed(figure));
        ensure!(alone.len() == observed.len() + 1, "a round has no {figure}");
        let around = alone.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
        median(observed.iter().zip(around).map(|(observed, alone)| observed / alone).collect())
    }
}

fn figures(rounds: &[Value], figure: &str) -> Vec<f64> {
    rounds.iter().filter_map(|answer| answer[figure].as_f64()).collect()
}

/// Waits until `serve` has had probes in the fixture.
fn await_probes(serve: &Serve, fixture: &str) -> Result<()> {
    serve.until("the target's probes", |samples| {
        let mut covered = samples.of("observer_probe_coverage_ratio", &[]);
        covered.any(|sample| sample.labels.get("process").is_some_and(|name| name.starts_with(fixture)))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Rounds;
    use serde_json::json;

    /// A machine that becomes slower all the time doesn't make a program look slower that isn't.
    #[test]
    fn drift_is_no_slowdown() {
        let rounds = |values: &[f64]| values.iter().map(|ns| json!({ "ns": ns })).collect::<Vec<_>>();
        let drifting = Rounds { alone: rounds(&[100.0, 120.0, 140.0]), observed: rounds(&[110.0, 130.0]) };
        assert!((drifting.ratio("ns").unwrap() - 1.0).abs() < 1e-9);
        let slower = Rounds { alone: rounds(&[100.0, 100.0]), observed: rounds(&[103.0]) };
        assert!((slower.ratio("ns").unwrap() - 1.03).abs() < 1e-9);
        assert!(slower.ratio("p99_us").is_err());
    }
}
