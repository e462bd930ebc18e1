//! The same program twice at the same time, so that only one of them is observed.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::proc::copy_executable;
use std::fs;
use std::process::Command;
use std::thread::{scope, sleep};
use std::time::Duration;
use tempfile::TempDir;

/// Much shorter than the times for which a processor is faster or slower, which are seconds; much longer than what a move
/// to another processor costs.
const TURN: Duration = Duration::from_millis(50);

/// Two processes of one fixture, of which `serve` is told to leave the one called `twin` alone. Each is on one P
/// and on a processor of its own, which they swap all the time: whatever makes a processor of this machine slower for a
/// while makes both of them slower alike. The processors are busy all the time, so that nothing hides behind idle ones.
pub(crate) struct Twins {
    target: Fixture,
    twin: Fixture,
    processors: [CpuSet; 2],
    /// Holds the twin's executable, a file of its own: probes are of files.
    _directory: TempDir,
}

/// Nanoseconds that each of what a fixture counts took.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) target: f64,
    pub(crate) twin: f64,
}

impl Pair {
    /// By how much more time the target needs than its twin, as a share.
    pub(crate) fn slower(self) -> f64 {
        self.target / self.twin - 1.0
    }
}

impl Twins {
    pub(crate) fn start(fixture: &str) -> Result<Self> {
        let executable = build(fixture, Go::NEWEST, Variant::Static)?;
        let directory = tempfile::tempdir()?;
        let copy = directory.path().join("twin");
        copy_executable(&executable, &copy)?;
        let start = |path| Fixture::spawn(Command::new(path).env("GOMAXPROCS", "1"));
        Ok(Self {
            target: start(&executable)?,
            twin: start(&copy)?,
            processors: two_processors()?,
            _directory: directory,
        })
    }

    /// Process id of the one that is observed.
    pub(crate) const fn target(&self) -> u32 {
        self.target.pid()
    }

    /// Has both work at the same time.
    pub(crate) fn work(&mut self, seconds: u32) -> Result<Pair> {
        let pids = [self.target.pid(), self.twin.pid()];
        let [mut first, mut second] = self.processors;
        scope(|scope| {
            let target = scope.spawn(|| round(&mut self.target, seconds));
            let twin = scope.spawn(|| round(&mut self.twin, seconds));
            while !(target.is_finished() && twin.is_finished()) {
                pin(pids[0], &first)?;
                pin(pids[1], &second)?;
                sleep(TURN);
                (first, second) = (second, first);
            }
            let (Ok(target), Ok(twin)) = (target.join(), twin.join()) else { bail!("a thread panicked") };
            Ok(Pair { target: target?, twin: twin? })
        })
    }
}

/// Nanoseconds for each.
fn round(fixture: &mut Fixture, seconds: u32) -> Result<f64> {
    fixture.ask(&format!("round {seconds}s"))?["ns"].as_f64().context("no figure")
}

/// Two of the processors that this process may use.
fn two_processors() -> Result<[CpuSet; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut allowed = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).map(|cpu| {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        anyhow::Ok(set)
    });
    let (Some(first), Some(second)) = (allowed.next(), allowed.next()) else {
        bail!("this machine has one processor, and twins need two");
    };
    Ok([first?, second?])
}

/// Moves all threads of a process; one that has ended since it was listed is fine, and one that started since then
/// follows with the next turn.
fn pin(pid: u32, processor: &CpuSet) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let tid = task?.file_name().to_string_lossy().parse()?;
        match sched_setaffinity(Pid::from_raw(tid), processor) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Pair;

    #[test]
    fn a_target_is_slower_than_its_twin_by_a_share() {
        assert!((Pair { target: 103.0, twin: 100.0 }.slower() - 0.03).abs() < 1e-9);
    }
}
