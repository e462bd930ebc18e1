//! What `serve` needs when nothing happens.

use crate::report::{Goal, Report};
use anyhow::Result;
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::proc::{cpu_time, status_bytes};
use observer_tests::serve::Serve;
use std::thread::sleep;
use std::time::{Duration, Instant};

const BENCH: &str = "idle";
const TARGETS: usize = 20;

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (number, seconds) = if short { (5, 2) } else { (TARGETS, 30) };
    let length = Duration::from_secs(seconds);
    let executable = build("healthy", Go::NEWEST, Variant::Stripped)?;
    let targets: Vec<Fixture> = (0..number).map(|_| Fixture::run(&executable, &[])).collect::<Result<_>>()?;
    let serve = Serve::start(&["--interval", "1s"])?;
    // All of them have the same identity: their goroutines are summed.
    let name = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let seen =
        |samples: &Samples| samples.sum("observer_goroutines", &[("process", name)]).unwrap_or_default();
    serve.until("all targets", |samples| seen(samples) >= (number * 30) as f64)?;
    sleep(Duration::from_secs(2));

    let (start, before) = (Instant::now(), cpu_time(serve.pid())?);
    sleep(length);
    let used = cpu_time(serve.pid())?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    // Other Go processes of this machine are observed as well, and disturb the figures.
    let all = serve.metrics()?.sum("observer_targets", &[]).unwrap_or_default();
    report.goal(BENCH, "Go processes on this machine", all, "", Goal::AtMost(targets.len() as f64));
    let what = format!("serve, {} idle targets, every second", targets.len());
    report.goal(BENCH, format!("{what}: CPU"), used * 100.0, "%", Goal::AtMost(2.0));
    let memory = |name| Ok::<_, anyhow::Error>(status_bytes(serve.pid(), name)? as f64 / (1 << 20) as f64);
    report.goal(BENCH, format!("{what}: resident"), memory("VmRSS")?, "MiB", Goal::AtMost(30.0));
    report.add(BENCH, format!("{what}: peak"), memory("VmHWM")?, "MiB");
    Ok(())
}
