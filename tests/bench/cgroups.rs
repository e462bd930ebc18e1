//! What reading many cgroups costs the observer, in CPU time of one process.

use crate::report::{Goal, Report, median};
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use observer::cgroup::{Hierarchies, Membership};
use observer_tests::cgroup::Child;
use std::process::{Child as Process, Command};
use std::thread::sleep;
use std::time::Duration;

const BENCH: &str = "cgroups";
const GROUPS: usize = 500;
const SECOND: Duration = Duration::from_secs(1);
/// Controllers in which tests may make groups, as far as they are there.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "pids", "blkio", "io", "hugetlb"];

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (rounds, number) = if short { (2, 20) } else { (15, GROUPS) };
    // Several controllers may share a hierarchy: one folder for all of them.
    let mut parents: Vec<Child> = Vec::new();
    for controller in CONTROLLERS {
        match Child::create(controller) {
            Ok(parent) => parents.push(parent),
            Err(error) => eprintln!("without {controller}: {error:#}"),
        }
    }
    ensure!(!parents.is_empty(), "no cgroups can be made here");
    let mut hierarchies = Hierarchies::discover()?;
    let groups = populate(&parents, &hierarchies, number)?;
    sweep(&mut hierarchies, &groups.memberships)?;
    let mut measure = |pause: Duration, rounds: u32| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            sleep(pause);
            let before = cpu_milliseconds()?;
            sweep(&mut hierarchies, &groups.memberships)?;
            times.push(cpu_milliseconds()? - before);
        }
        median(times)
    };
    let what = format!("sweep over {number} idle groups: CPU");
    report.goal(BENCH, format!("{what}, every second"), measure(SECOND, rounds)?, "ms", Goal::AtMost(10.0));
    // Limits are read anew as well, and some of what is read once a minute.
    report.add(
        BENCH,
        format!("{what}, every 6 s"),
        measure(6 * SECOND, rounds.min(5) / if short { 2 } else { 1 })?,
        "ms",
    );
    report.add(BENCH, "control files kept open", hierarchies.open_files() as f64, "");
    Ok(())
}

/// Groups and a membership in each.
struct Groups {
    memberships: Vec<Membership>,
    // Removed in this order: a group that holds groups can't be.
    _children: Vec<Child>,
}

/// Makes the groups. One process goes through all of them, so that each has a membership.
fn populate(parents: &[Child], hierarchies: &Hierarchies, number: usize) -> Result<Groups> {
    let process = Sleeper(Command::new("sleep").arg("1000").spawn()?);
    let mut groups = Groups { memberships: Vec::new(), _children: Vec::new() };
    for _ in 0..number {
        for parent in parents {
            let child = parent.nested()?;
            child.add(process.0.id())?;
            groups._children.push(child);
        }
        groups.memberships.push(hierarchies.membership(process.0.id())?);
    }
    Ok(groups)
}

fn sweep(hierarchies: &mut Hierarchies, memberships: &[Membership]) -> Result<()> {
    hierarchies.begin_sweep();
    for membership in memberships {
        let reading = hierarchies.read(membership)?;
        ensure!(reading.problems.is_empty(), "{:?}", reading.problems);
    }
    hierarchies.end_sweep();
    Ok(())
}

fn cpu_milliseconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("no usage")?;
    let time = usage.user_time() + usage.system_time();
    Ok(time.num_microseconds() as f64 / 1e3)
}

/// A process that ends with this value.
struct Sleeper(Process);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
