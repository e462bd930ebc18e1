//! Whether anything stays behind of containers that come and go.

use crate::report::{Goal, Report};
use anyhow::{Context, Result};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::proc::status_bytes;
use observer_tests::serve::Serve;
use observer_tests::wait;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const BENCH: &str = "turnover";
/// Time from one container to the next: five per second.
const PACE: Duration = Duration::from_millis(200);
/// How many live at a time: each for three seconds.
const LIVING: usize = 15;
/// Containers before the base is taken: what is made once has been made then.
const WARM_UP: usize = 25;
const KIBIBYTE: f64 = 1024.0;

/// What the observer holds.
struct Held {
    resident: f64,
    descriptors: f64,
    /// Memory of its maps in the kernel, which have no entries before they are needed.
    maps: f64,
}

impl Held {
    fn by(serve: &Serve) -> Result<Self> {
        let mut descriptors = f64::INFINITY;
        // What is open for a moment only, to be read, is not held.
        for _ in 0..20 {
            let open = fs::read_dir(format!("/proc/{}/fd", serve.pid()))?.count() as f64;
            descriptors = descriptors.min(open);
            sleep(Duration::from_millis(50));
        }
        let resident = status_bytes(serve.pid(), "VmRSS")? as f64 / KIBIBYTE;
        Ok(Self { resident, descriptors, maps: maps(serve.pid())? / KIBIBYTE })
    }
}

/// Memory of a process's BPF maps, in bytes; each counts once.
fn maps(pid: u32) -> Result<f64> {
    let mut maps = BTreeMap::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may have been closed meanwhile.
        let text = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")?.trim().parse().ok())
        };
        if let (Some(id), Some(memory)) = (field("map_id"), field("memlock")) {
            maps.insert(id, memory);
        }
    }
    Ok(maps.into_values().sum::<u64>() as f64)
}

/// A container: a program in a cgroup with a name of its own.
struct Container {
    fixture: Fixture,
    group: Child,
}

impl Container {
    fn start(program: &Path) -> Result<Self> {
        let fixture = Fixture::run(program, &["-rate", "0", "-total", "3"])?;
        let group = Child::create("cpu")?;
        group.add(fixture.pid())?;
        Ok(Self { fixture, group })
    }

    fn end(self) -> Result<()> {
        self.fixture.stop()?;
        self.group.remove()
    }
}

/// Lets containers come and go, and waits until the last one is forgotten.
fn churn(serve: &Serve, program: &Path, count: usize) -> Result<()> {
    let mut living = VecDeque::new();
    let start = Instant::now();
    for number in 0..count {
        living.push_back(Container::start(program)?);
        if living.len() > LIVING {
            living.pop_front().context("there are some")?.end()?;
        }
        let due = PACE * u32::try_from(number + 1)?;
        sleep(due.saturating_sub(start.elapsed()));
    }
    living.into_iter().try_for_each(Container::end)?;
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    serve.until("the end of every container", |samples| {
        samples.of("observer_target_info", &[("process", name)]).next().is_none()
    })?;
    Ok(())
}

/// What is held when links of ended targets, which the kernel removes one after the other, are closed.
fn settled(serve: &Serve) -> Result<Held> {
    let mut held = Held::by(serve)?;
    wait::until("descriptors to be closed", || {
        sleep(Duration::from_secs(3));
        let before = std::mem::replace(&mut held, Held::by(serve)?);
        Ok((held.descriptors >= before.descriptors).then_some(()))
    })?;
    Ok(held)
}

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (warm_up, count) = if short { (5, 10) } else { (WARM_UP, 1000) };
    let program = build("leak", Go::NEWEST, Variant::Stripped)?;
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let serve = Serve::start(&["--interval", "1s", "--include", &format!("process={name}")])?;
    churn(&serve, &program, warm_up)?;
    let base = settled(&serve)?;
    churn(&serve, &program, count)?;
    let most = Held::by(&serve)?.descriptors;
    let after = settled(&serve)?;
    report.add(BENCH, format!("{LIVING} containers at a time: descriptors at the end"), most, "");
    let what = format!("after {count} containers");
    report.goal(BENCH, format!("{what}: descriptors"), after.descriptors, "", Goal::AtMost(base.descriptors));
    report.goal(BENCH, format!("{what}: maps in the kernel"), after.maps, "KiB", Goal::AtMost(base.maps));
    // Totals of each stay for ten minutes, for counters that must not fall.
    report.add(BENCH, format!("{what}: resident, with totals"), after.resident - base.resident, "KiB");
    if !short {
        sleep(Duration::from_secs(630));
        let later = Held::by(&serve)?.resident;
        // An allocator doesn't give back every page.
        report.goal(
            BENCH,
            format!("{what}, ten minutes later: resident"),
            later,
            "KiB",
            Goal::AtMost(base.resident * 1.1),
        );
    }
    Ok(())
}
