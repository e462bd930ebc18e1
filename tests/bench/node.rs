//! What `serve` needs on a node: many processes in cgroups of their own, and a scrape of many series.

use crate::report::{Goal, Report, median};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::proc::{copy_executable, cpu_time, status_bytes};
use observer_tests::serve::Serve;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const BENCH: &str = "node";
const TARGETS: usize = 50;
/// In short mode.
const FEW: usize = 5;
/// Workloads for the scrape; each has about 420 series.
const WORKLOADS: usize = 24;
const SERIES: usize = 10_000;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// A process, and the cgroup that it is in.
struct Placed {
    _fixture: Fixture,
    _group: Child,
}

/// Starts a program in a cgroup of its own.
fn place(executable: &Path) -> Result<Placed> {
    let fixture = Fixture::run(executable, &[])?;
    let group = Child::create("cpu")?;
    group.add(fixture.pid())?;
    Ok(Placed { _fixture: fixture, _group: group })
}

/// 50 processes, the default interval.
pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (number, seconds) = if short { (FEW, 3) } else { (TARGETS, 150) };
    let executable = build("healthy", Go::NEWEST, Variant::Stripped)?;
    let name = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let targets: Vec<Placed> = (0..number).map(|_| place(&executable)).collect::<Result<_>>()?;
    // Other Go processes of this machine would disturb the figures.
    let serve = Serve::start(&["--include", &format!("process={name}")])?;
    let found = |samples: &Samples| samples.of("observer_target_info", &[("process", name)]).count();
    serve.until("all targets", |samples| found(samples) >= targets.len())?;
    // By then probes are in all of them.
    sleep(Duration::from_secs(5));
    let memory = |name| Ok::<_, anyhow::Error>(status_bytes(serve.pid(), name)? as f64 / MEBIBYTE);
    let start_up = memory("VmHWM")?;
    let (start, before) = (Instant::now(), cpu_time(serve.pid())?);
    sleep(Duration::from_secs(seconds));
    let used = cpu_time(serve.pid())?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = memory("VmRSS")?;
    let what = format!("serve, {number} targets in {number} cgroups, every 15 s");
    report.goal(BENCH, format!("{what}: CPU"), used * 100.0, "%", Goal::AtMost(1.0));
    report.goal(BENCH, format!("{what}: resident"), resident, "MiB", Goal::AtMost(30.0));
    report.goal(BENCH, format!("{what}: peak at start"), start_up, "MiB", Goal::AtMost(64.0));
    Ok(())
}

/// Scrapes of 10 000 series. Every workload has another name, so that nothing is summed.
pub(crate) fn scrape(report: &mut Report, short: bool) -> Result<()> {
    let (workloads, rounds) = if short { (FEW, 4) } else { (WORKLOADS, 200) };
    let enough = SERIES * workloads / WORKLOADS;
    let folder = tempfile::tempdir()?;
    let program = build("grid", Go::NEWEST, Variant::Stripped)?;
    let mut targets = Vec::new();
    for number in 0..workloads {
        let copy = folder.path().join(format!("workload-{number:03}"));
        copy_executable(&program, &copy)?;
        targets.push(place(&copy)?);
    }
    let options = ["--interval", "1s", "--max-callsites", "100", "--include", "process=workload-.*"];
    let serve = Serve::start(&options)?;
    let samples = serve.until("all series", |samples| samples.all.len() >= enough)?;
    report.add(BENCH, "scrape: series", samples.all.len() as f64, "");
    let (mut times, mut plain, mut gzip) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        // One scrape per view, as a Prometheus does: none finds the text of an earlier one.
        sleep(Duration::from_millis(1000));
        let compressed = round % 2 == 0;
        let began = Instant::now();
        let length = body(serve.address(), compressed)?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        *(if compressed { &mut gzip } else { &mut plain }) = length;
    }
    let worst = percentile(times.clone(), 0.99).context("no scrapes")?;
    report.add(BENCH, "scrape: median", median(times)?, "ms");
    report.goal(BENCH, "scrape: 99th percentile", worst, "ms", Goal::AtMost(50.0));
    report.goal(BENCH, "scrape: body", plain as f64 / MEBIBYTE, "MiB", Goal::AtMost(2.0));
    report.add(BENCH, "scrape: body with gzip", gzip as f64 / MEBIBYTE, "MiB");
    Ok(())
}

/// Scrapes, and returns the length of the body in bytes.
fn body(address: &str, gzip: bool) -> Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    let encoding = if gzip { "gzip" } else { "identity" };
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {encoding}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "no scrape");
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no header")?;
    Ok(answer.len() - head - 4)
}

/// The smallest value that this share of all values doesn't exceed.
fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share).ceil() as usize;
    values.get(index.clamp(1, values.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    /// Of a hundred values the 99th is the second largest one.
    #[test]
    fn percentile_of_a_hundred() {
        assert_eq!(percentile((1..=100).map(f64::from).collect(), 0.99), Some(99.0));
        assert_eq!(percentile(vec![7.0], 0.99), Some(7.0));
        assert_eq!(percentile(Vec::new(), 0.99), None);
    }
}
