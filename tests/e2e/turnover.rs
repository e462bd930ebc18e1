//! Many targets come and go: what they cost the observer goes with them.

use crate::support::private_copy;
use anyhow::Result;
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::serve::{Machine, Serve};
use observer_tests::wait;
use std::fs;
use tempfile::tempdir;

/// Rounds, and targets in each.
const ROUNDS: usize = 5;
const TARGETS: usize = 12;

fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Descriptors (links, executables, memory, pidfds) return to what they were before the first target, and no
/// created goroutine is lost from the totals of a workload whose processes have all ended.
#[test]
fn descriptors_return_to_the_base() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _alone = Machine::alone()?;
    let directory = tempdir()?;
    let path = private_copy(directory.path(), "turnover", "leak", Go::USUAL)?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let base = descriptors(serve.pid())?;
    for _ in 0..ROUNDS {
        let targets: Vec<Fixture> = (0..TARGETS)
            .map(|_| Fixture::run(&path, &["-rate", "0", "-total", "3"]))
            .collect::<Result<_>>()?;
        serve.until("probes in every target", |samples| {
            samples.sum("observer_goroutines", &[("process", "turnover")]) >= Some((TARGETS * 4) as f64)
                && samples.sum("observer_goroutines_created_total", &[("process", "turnover")]).is_some()
        })?;
        drop(targets);
        serve.until("the end of every target", |samples| {
            samples.sum("observer_target_info", &[("process", "turnover")]).is_none()
        })?;
    }
    // Links of ended targets are closed behind the scenes; other Go programs of the machine may hold a few.
    wait::until("descriptors to return to the base", || {
        Ok((descriptors(serve.pid())? <= base + 4 * 4).then_some(()))
    })?;
    let totals = serve.metrics()?.sum("observer_goroutines_created_total", &[("process", "turnover")]);
    assert!(totals.is_some(), "the totals of ended processes are gone");
    Ok(())
}
