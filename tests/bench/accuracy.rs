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
/// What goroutines of the fixture `pingpong` park for: which of the two depends on whom the runtime interrupted.
const REASONS: [&str; 2] = ["chan receive", "chan send"];
/// Where the first of the fixture's own buckets ends, nanoseconds; each of the next is twice as long.
const FIRST_BUCKET: f64 = 1024.0;

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let length = if short { "2s" } else { "60s" };
    for (budget, most) in BUDGETS {
        creations(report, budget, most, length)?;
        let works =
            [("parks", format!("round {length}")), ("parks with pauses", format!("paced {length} {PACE}"))];
        // In short mode one of them, another within each budget.
        let works =
            works.into_iter().filter(|(what, _)| !short || (*what == "parks") == (budget == "unlimited"));
        for (what, work) in works {
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
        let of = |reason| {
            let labels = [("process", observed.process()), ("wait_reason", reason)];
            samples.sum("observer_goroutine_parks_total", &labels).unwrap_or_default()
        };
        REASONS.into_iter().map(of).sum::<f64>()
    };
    tell(report, what, budget, coverage, (count(&after) - count(&before), truth, most));
    Ok(())
}

/// How many buckets any quantile of known waits is off.
fn quantiles(report: &mut Report, short: bool) -> Result<()> {
    let each = if short { 20 } else { 300 };
    let mut observed = Observed::start("unlimited", short)?;
    let before = observed.waits_within(&observed.settled()?);
    let counts = observed.target.ask(&format!("waits {each}"))?;
    let own: Vec<f64> =
        counts["counts"].as_array().context("no counts")?.iter().filter_map(Value::as_f64).collect();
    let after = observed.waits_within(&observed.settled()?);
    ensure!(!after.is_empty(), "no waits were measured");
    let earlier =
        |bound: f64| before.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, count)| *count);
    let found: Vec<f64> = after.iter().map(|(bound, count)| count - earlier(*bound)).collect();
    let truth: Vec<f64> = after.iter().map(|(bound, _)| within(&own, *bound)).collect();
    let off = (1..100).map(|percent| quantile(&truth, percent).abs_diff(quantile(&found, percent)));
    let worst = off.max().unwrap_or_default() as f64;
    report.add(BENCH, "blocked time: known waits", own.iter().sum(), "");
    report.goal(BENCH, "blocked time, any of p1 to p99: off", worst, "buckets", Goal::AtMost(1.0));
    Ok(())
}

/// Of the fixture's own counts, those of buckets that end within a bound in seconds.
fn within(own: &[f64], bound: f64) -> f64 {
    let ends = (0..).map(|bucket| FIRST_BUCKET * f64::powi(2.0, bucket) / 1e9);
    let inside = |end: f64| end <= bound * 1.000_001;
    let buckets = own.iter().zip(ends).enumerate();
    // The last bucket has no end.
    buckets
        .filter(|(index, (_, end))| bound.is_infinite() || index + 1 < own.len() && inside(*end))
        .map(|(_, (count, _))| count)
        .sum()
}

/// The bound, by its place, that so many percent of all durations are within.
fn quantile(cumulative: &[f64], percent: u32) -> usize {
    let rank = cumulative.last().copied().unwrap_or_default() * f64::from(percent) / 100.0;
    cumulative.iter().position(|count| *count >= rank).unwrap_or(cumulative.len())
}

/// A program that counts its parks, beside `serve`.
struct Observed {
    target: Fixture,
    serve: Serve,
    executable: PathBuf,
    /// The last window of what the target did ends within this time.
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
            Self { target, serve, executable, rest: Duration::from_secs(if short { 0 } else { 8 }) };
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
        let looks = |samples: &Samples| {
            samples.sum("observer_snapshot_duration_seconds_count", &[]).unwrap_or_default()
        };
        let before = looks(&self.serve.metrics()?);
        // The first of them may have begun before.
        self.serve.until("two more looks", |samples| looks(samples) >= before + 2.0)
    }

    /// Waits for a message within each bound in seconds, the smallest first.
    fn waits_within(&self, samples: &Samples) -> Vec<(f64, f64)> {
        let labels = [("process", self.process()), ("wait_reason", REASONS[0])];
        let mut bounds: Vec<(f64, f64)> = samples
            .of("observer_goroutine_wait_seconds_bucket", &labels)
            .filter_map(|sample| Some((sample.labels.get("le")?.parse().ok()?, sample.value)))
            .collect();
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::{quantile, within};

    /// The bound of the middle value is the median's, and that of the last one p99's; a bound has all buckets that
    /// end within it.
    #[test]
    fn quantiles_are_found() {
        let own = [1.0, 0.0, 5.0, 4.0];
        let cumulative = [1.024e-6, 2.048e-6, 4.096e-6, f64::INFINITY].map(|bound| within(&own, bound));
        assert_eq!(cumulative, [1.0, 1.0, 6.0, 10.0]);
        assert_eq!([1, 10, 50, 60, 61, 99].map(|percent| quantile(&cumulative, percent)), [0, 0, 2, 2, 3, 3]);
    }
}
