//! How near the counts are to a program's own, when all is counted and when a few percent are.

use crate::report::{Goal, Report};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::Attach;
use observer_tests::serve::Serve;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const BENCH: &str = "accuracy";
/// Budgets of the probes, and by how many percent a count may be off within each. The fixtures and the runtime do
/// a little besides what they count.
const BUDGETS: [(&str, f64); 2] = [("unlimited", 0.01), ("1%", 10.0)];
/// Parks per second that leave the program time to spare, also when each is counted.
const PACE: u32 = 50_000;
/// The wait reason of the fixture `pingpong`.
const RECEIVE: (&str, &str) = ("wait_reason", "chan receive");

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let length = if short { "2s" } else { "60s" };
    for (budget, most) in BUDGETS {
        creations(report, budget, most, length)?;
        for (what, work) in
            [("parks", format!("round {length}")), ("parks with pauses", format!("paced {length} {PACE}"))]
        {
            parks(report, (budget, most), what, &work, short)?;
        }
    }
    quantiles(report, short)
}

fn creations(report: &mut Report, budget: &str, most: f64, length: &str) -> Result<()> {
    let mut target = Fixture::start("spawnloop", Go::NEWEST, Variant::Static, &[])?;
    let mut attach = Attach::within(target.pid(), "500ms", budget)?;
    let before = created(&attach.until("the probes", |line| created(line).is_ok())?)?;
    let started = target.ask(&format!("round {length}"))?["goroutines"].as_f64().context("no figure")?;
    let line = attach.fresh_line()?;
    let coverage = line["probes"]["groups"][0]["coverage_ratio"].as_f64().context("no coverage")?;
    let found = created(&line)? - before;
    tell(report, "creations", budget, coverage, (found, started, most));
    Ok(())
}

fn created(line: &Value) -> Result<f64> {
    line["probes"]["created_total"].as_f64().context("no probes")
}

/// A figure for how much was counted, and one for how far off the truth that is.
fn tell(report: &mut Report, what: &str, budget: &str, coverage: f64, of: (f64, f64, f64)) {
    let (found, truth, most) = of;
    let off = (found / truth - 1.0).abs() * 100.0;
    report.add(BENCH, format!("{what} within {budget}: coverage"), coverage * 100.0, "%");
    report.goal(BENCH, format!("{what} within {budget}: off the truth"), off, "%", Goal::AtMost(most));
}

fn parks(
    report: &mut Report,
    (budget, most): (&str, f64),
    what: &str,
    work: &str,
    short: bool,
) -> Result<()> {
    let mut observed = Observed::start(budget, short)?;
    let before = observed.settled()?;
    let truth = observed.target.ask(work)?["parks"].as_f64().context("no figure")?;
    let after = observed.settled()?;
    let coverage = [("process", observed.process()), ("probe", "waits")];
    let coverage = after.sum("observer_probe_coverage_ratio", &coverage).context("no coverage")?;
    let count = |samples: &Samples| {
        let labels = [("process", observed.process()), RECEIVE];
        samples.sum("observer_goroutine_parks_total", &labels).unwrap_or_default()
    };
    tell(report, what, budget, coverage, (count(&after) - count(&before), truth, most));
    Ok(())
}

/// How many buckets any quantile of known waits is off.
fn quantiles(report: &mut Report, short: bool) -> Result<()> {
    let each = if short { 20 } else { 300 };
    let mut observed = Observed::start("unlimited", short)?;
    let before = observed.buckets(&observed.settled()?);
    let counts = observed.target.ask(&format!("waits {each}"))?;
    let truth: Vec<f64> =
        counts["counts"].as_array().context("no counts")?.iter().filter_map(Value::as_f64).collect();
    let after = observed.buckets(&observed.settled()?);
    ensure!(after.len() == truth.len(), "{} buckets instead of {}", after.len(), truth.len());
    let found: Vec<f64> = after
        .iter()
        .enumerate()
        .map(|(index, count)| count - before.get(index).copied().unwrap_or_default())
        .collect();
    let off = (1..100).map(|percent| quantile(&truth, percent).abs_diff(quantile(&found, percent)));
    let worst = off.max().unwrap_or_default() as f64;
    report.add(BENCH, "blocked time: known waits", truth.iter().sum(), "");
    report.goal(BENCH, "blocked time, any of p1 to p99: off", worst, "buckets", Goal::AtMost(1.0));
    Ok(())
}

/// The bucket that so many percent of all durations are not above.
fn quantile(buckets: &[f64], percent: u32) -> usize {
    let rank = buckets.iter().sum::<f64>() * f64::from(percent) / 100.0;
    let mut below = 0.0;
    let reached = |count: &f64| {
        below += count;
        below >= rank
    };
    buckets.iter().position(reached).unwrap_or(buckets.len())
}

/// A program that counts its parks, beside `serve`.
struct Observed {
    target: Fixture,
    serve: Serve,
    executable: PathBuf,
    /// Windows begin within this time.
    rest: Duration,
}

impl Observed {
    fn start(budget: &str, short: bool) -> Result<Self> {
        let executable = build("pingpong", Go::NEWEST, Variant::Static)?;
        // On one processor a message that is handed over is two parks, always.
        let target = Fixture::spawn(Command::new(&executable).env("GOMAXPROCS", "1"))?;
        let process = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let include = format!("process={process}");
        let options = ["--interval", "1s", "--include", &include, "--overhead-budget", budget];
        let options = [&options[..], &["--node-overhead-budget", budget]].concat();
        let serve = Serve::start(&options)?;
        let observed =
            Self { target, serve, executable, rest: Duration::from_secs(if short { 2 } else { 8 }) };
        let waits = [("process", observed.process()), ("probe", "waits")];
        observed.serve.until("the probes", |samples| {
            samples.sum("observer_probe_coverage_ratio", &waits).is_some_and(|coverage| coverage > 0.0)
        })?;
        Ok(observed)
    }

    fn process(&self) -> &str {
        self.executable.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// What is counted when the last window of what the target did before has been told.
    fn settled(&self) -> Result<Samples> {
        sleep(self.rest);
        self.serve.metrics()
    }

    /// Waits for a message, by length.
    fn buckets(&self, samples: &Samples) -> Vec<f64> {
        let labels = [("process", self.process()), RECEIVE];
        let mut bounds: Vec<(f64, f64)> = samples
            .of("observer_goroutine_wait_seconds_bucket", &labels)
            .filter_map(|sample| Some((sample.labels.get("le")?.parse().ok()?, sample.value)))
            .collect();
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let below = [0.0].into_iter().chain(bounds.iter().map(|(_, count)| *count));
        bounds.iter().zip(below).map(|((_, count), below)| count - below).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    /// The bucket with the middle value is the median's, and that with the last one p99's.
    #[test]
    fn quantiles_are_found() {
        let buckets = [1.0, 0.0, 5.0, 4.0];
        assert_eq!([1, 10, 50, 60, 61, 99].map(|percent| quantile(&buckets, percent)), [0, 0, 2, 2, 3, 3]);
    }
}
