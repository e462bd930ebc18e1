//! The same work alone and beside `serve`, in turns.

use crate::report::median;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::metrics::Samples;
use observer_tests::proc::{cpu_time, text_is_pristine};
use observer_tests::serve::Serve;
use observer_tests::wait;
use std::time::Instant;

/// What was measured in the rounds: each observed one is between two alone, so that a machine that becomes slower or
/// faster meanwhile disturbs both sides alike.
pub(crate) struct Rounds<T> {
    pub(crate) alone: Vec<T>,
    pub(crate) observed: Vec<T>,
    /// CPU time of `serve` in the observed rounds, as shares of one processor.
    pub(crate) serve_cpu: Vec<f64>,
}

/// How many rounds there are, and their lengths in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Options of `serve`.
    pub(crate) options: &'static [&'static str],
    /// Observed rounds; there is one more alone.
    pub(crate) observed: usize,
    /// Of an observed round.
    pub(crate) seconds: u32,
    /// Of a round alone.
    pub(crate) alone_seconds: u32,
    /// The target works while `serve` starts and the governor learns what it does; nobody measures that. Longer than
    /// an interval of `serve`.
    pub(crate) settling_seconds: u32,
}

impl<T> Rounds<T> {
    /// Has `work` measure so many seconds of a target, which is named by its process id and by how the metrics call
    /// it.
    pub(crate) fn of(
        plan: Plan,
        (pid, process): (u32, &str),
        mut work: impl FnMut(u32) -> Result<T>,
    ) -> Result<Self> {
        let mut rounds =
            Self { alone: vec![work(plan.alone_seconds)?], observed: Vec::new(), serve_cpu: Vec::new() };
        for _ in 0..plan.observed {
            let serve = Serve::start(plan.options)?;
            work(plan.settling_seconds)?;
            await_probes(&serve, process)?;
            let (start, used) = (Instant::now(), cpu_time(serve.pid())?);
            rounds.observed.push(work(plan.seconds)?);
            let used = cpu_time(serve.pid())? - used;
            rounds.serve_cpu.push(used.as_secs_f64() / start.elapsed().as_secs_f64());
            serve.end_by(Signal::SIGTERM)?;
            wait::until("the code as it was", || Ok(text_is_pristine(pid)?.then_some(())))?;
            rounds.alone.push(work(plan.alone_seconds)?);
        }
        Ok(rounds)
    }

    /// How many times as large a figure is beside `serve`: the median of the ratios to the mean of the two rounds
    /// around.
    pub(crate) fn ratio(&self, figure: impl Fn(&T) -> f64) -> Result<f64> {
        let around = self.alone.windows(2).map(|pair| f64::midpoint(figure(&pair[0]), figure(&pair[1])));
        median(self.observed.iter().zip(around).map(|(observed, alone)| figure(observed) / alone).collect())
    }
}

/// Waits until `serve` has had probes in the target, and sees that it had none in a twin.
fn await_probes(serve: &Serve, process: &str) -> Result<()> {
    let covers = |samples: &Samples, process: &str| {
        let mut covered = samples.of("observer_probe_coverage_ratio", &[]);
        covered.any(|sample| sample.labels.get("process").is_some_and(|name| name.starts_with(process)))
    };
    let samples = serve.until("the target's probes", |samples| covers(samples, process))?;
    ensure!(!covers(&samples, "twin"), "the twin has probes, too");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Rounds;

    /// A machine that becomes slower all the time doesn't make a program look slower that isn't.
    #[test]
    fn drift_is_no_slowdown() {
        let rounds = |alone: &[f64], observed: &[f64]| Rounds {
            alone: alone.to_vec(),
            observed: observed.to_vec(),
            serve_cpu: Vec::new(),
        };
        let drifting = rounds(&[100.0, 120.0, 140.0], &[110.0, 130.0]);
        assert!((drifting.ratio(|ns| *ns).unwrap() - 1.0).abs() < 1e-9);
        let slower = rounds(&[100.0, 100.0], &[103.0]);
        assert!((slower.ratio(|ns| *ns).unwrap() - 1.03).abs() < 1e-9);
        assert!(rounds(&[100.0], &[]).ratio(|ns| *ns).is_err());
    }
}
