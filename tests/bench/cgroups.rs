//! What reading many cgroups costs the observer, in CPU time of one process.

use crate::report::{Goal, Report, median};
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use observer::cgroup::{Hierarchies, Membership};
use observer_tests::cgroup::{Child, is_v2};
use observer_tests::proc::signal;
use std::process::{Child as Process, Command};
use std::thread::sleep;
use std::time::Duration;

const BENCH: &str = "cgroups";
const GROUPS: usize = 500;
const SECOND: Duration = Duration::from_secs(1);
/// Controllers in which tests may make groups.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "pids", "blkio", "io", "hugetlb"];

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (rounds, number) = if short { (2, 20) } else { (15, GROUPS) };
    let mut hierarchies = Hierarchies::discover()?;
    let groups = Groups::populate(&hierarchies, number)?;
    // Until the processes have started up.
    sleep(2 * SECOND);
    sweep(&mut hierarchies, &groups.memberships)?;
    let mut measure = |pause: Duration, rounds: u32, busy: bool| -> Result<f64> {
        let mut times = Vec::new();
        let mut used = sweep(&mut hierarchies, &groups.memberships)?;
        for _ in 0..rounds {
            if busy {
                groups.run_briefly();
            }
            sleep(pause);
            let before = cpu_milliseconds()?;
            let now = sweep(&mut hierarchies, &groups.memberships)?;
            times.push(cpu_milliseconds()? - before);
            let ran = now.iter().zip(&used).filter(|(now, used)| now > used).count();
            ensure!(ran == if busy { number } else { 0 }, "{ran} groups have used CPU time");
            used = now;
        }
        median(times)
    };
    let what = |state: &str| format!("sweep over {number} {state} groups: CPU");
    let idle = measure(SECOND, rounds, false)?;
    report.goal(BENCH, format!("{}, every second", what("idle")), idle, "ms", Goal::AtMost(10.0));
    let busy = measure(SECOND, rounds, true)?;
    report.add(BENCH, format!("{}, every second", what("busy")), busy, "ms");
    // Limits are read anew as well, and some of what is read once a minute.
    let seldom = measure(6 * SECOND, rounds.min(5) / if short { 2 } else { 1 }, false)?;
    report.add(BENCH, format!("{}, every 6 s", what("idle")), seldom, "ms");
    report.add(BENCH, "control files kept open", hierarchies.open_files() as f64, "");
    Ok(())
}

/// Groups as container managers make them: of the same name in every hierarchy, with a process in each.
struct Groups {
    memberships: Vec<Membership>,
    // Dropped in this order: a group that holds processes or groups can't be removed.
    processes: Vec<Sleeper>,
    _children: Vec<Child>,
    _parents: Vec<Child>,
}

impl Groups {
    fn populate(hierarchies: &Hierarchies, number: usize) -> Result<Self> {
        // Of memory there are groups in v2 only: v1's are not for tests.
        let memory = is_v2("memory").then_some("memory");
        let parents = Child::alike(&CONTROLLERS.into_iter().chain(memory).collect::<Vec<_>>())?;
        ensure!(!parents.is_empty(), "no cgroups can be made here");
        parents.iter().try_for_each(Child::pass_on)?;
        let (mut memberships, mut processes, mut children) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..number {
            let process = Sleeper(Command::new("sleep").arg("10000").spawn()?);
            for parent in &parents {
                let child = parent.named(&number.to_string())?;
                child.add(process.0.id())?;
                children.push(child);
            }
            memberships.push(hierarchies.membership(process.0.id())?);
            processes.push(process);
        }
        Ok(Self { memberships, processes, _children: children, _parents: parents })
    }

    /// Lets the process of each group use a little CPU time: being stopped and continued.
    fn run_briefly(&self) {
        for kind in [Signal::SIGSTOP, Signal::SIGCONT] {
            for process in &self.processes {
                signal(process.0.id(), kind);
            }
            sleep(SECOND / 5);
        }
    }
}

/// Reads all groups; gives the CPU time that each has used.
fn sweep(hierarchies: &mut Hierarchies, memberships: &[Membership]) -> Result<Vec<f64>> {
    let mut used = Vec::with_capacity(memberships.len());
    hierarchies.begin_sweep();
    for membership in memberships {
        let reading = hierarchies.read(membership)?;
        ensure!(reading.problems.is_empty(), "{:?}", reading.problems);
        used.push(reading.cpu.and_then(|cpu| cpu.usage_seconds).context("no CPU time")?);
    }
    hierarchies.end_sweep();
    Ok(used)
}

fn cpu_milliseconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("no usage")?;
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
