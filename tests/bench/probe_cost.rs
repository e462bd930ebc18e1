//! What probes cost a program that does nothing but start goroutines.

use crate::kernel::AtEntry;
use crate::report::{Goal, Report, median};
use anyhow::{Context, Result};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::observer::{self, Attach};
use observer_tests::proc::text_is_pristine;
use observer_tests::wait;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const BENCH: &str = "probe-cost";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (rounds, length) = if short { (2, "200ms") } else { (7, "1s") };
    let executable = build("spawnloop", Go::NEWEST, Variant::Static)?;
    // On one P the cost of a probe is added to the time of each goroutine, and hides behind nothing.
    let mut target = Fixture::spawn(Command::new(&executable).env("GOMAXPROCS", "1"))?;
    let (mut bare, mut ours, mut entry) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(round(&mut target, length)?);

        let attach = Attach::within(target.pid(), "60s", "unlimited")?;
        await_probes(target.pid())?;
        ours.push(round(&mut target, length)?);
        drop(attach);
        await_no_probes(target.pid())?;

        let at_entry = AtEntry::attach(&observer::binary()?, &executable, target.pid())?;
        entry.push(round(&mut target, length)?);
        drop(at_entry);
        await_no_probes(target.pid())?;
    }
    let (bare, ours, entry) = (median(bare)?, median(ours)?, median(entry)?);
    report.add(BENCH, "goroutine, no probe", bare, "ns");
    report.add(BENCH, "goroutine, observer attached", ours, "ns");
    report.add(BENCH, "goroutine, same programs at function entries", entry, "ns");
    let ratio = (ours - bare) / (entry - bare);
    report.goal(BENCH, "added by observer ÷ added at entries", ratio, "", Goal::AtMost(0.125));
    Ok(())
}

/// Nanoseconds for each goroutine.
fn round(target: &mut Fixture, length: &str) -> Result<f64> {
    target.ask(&format!("round {length}"))?["ns"].as_f64().context("no figure")
}

/// Waits until probes are in the target, and all of them.
fn await_probes(pid: u32) -> Result<()> {
    wait::until("probes", || Ok((!text_is_pristine(pid)?).then_some(())))?;
    // They come one after the other, tens of milliseconds apart.
    sleep(Duration::from_millis(500));
    Ok(())
}

fn await_no_probes(pid: u32) -> Result<()> {
    wait::until("the code as it was", || Ok(text_is_pristine(pid)?.then_some(())))
}
