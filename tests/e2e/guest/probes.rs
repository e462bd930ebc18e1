//! Probes on other kernels. Under emulation a hit costs so much that the usual budget would end in windows.

use super::support::leak;
use crate::doctor::finds_a_leak;
use crate::support::{callsite, number};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::Attach;
use observer_tests::proc::{signal, text_is_pristine};
use observer_tests::serve::Serve;
use observer_tests::truth::compare;
use observer_tests::wait;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Creations are counted exactly; the program's code has probes meanwhile, and is as in its file afterwards,
/// whether the observer ended by itself or was killed.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn attach_count_detach() -> Result<()> {
    for end in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut leak = leak("10")?;
        let mut attach = Attach::within(leak.pid(), "200ms", "unlimited")?;
        attach.until("the probes", |line| line["probes"]["created_total"].is_u64())?;
        ensure!(!text_is_pristine(leak.pid())?, "there is no probe in the program");
        leak.ask("go 7")?;
        let line = attach.fresh_line()?;
        assert_eq!(number(&line["probes"], "created_total")?, 7, "{line}");
        assert_eq!(number(&line["probes"], "drift")?, 0, "{line}");
        compare(&leak.truth()?, &line)?;
        signal(attach.pid(), end);
        let pristine = || Ok(text_is_pristine(leak.pid())?.then_some(()));
        wait::until("the program's own code", pristine).with_context(|| format!("after {end}"))?;
        compare_alive(&mut leak)?;
    }
    Ok(())
}

/// The program still runs, and creates goroutines where the probe was.
fn compare_alive(leak: &mut Fixture) -> Result<()> {
    leak.ask("go 3")?;
    assert_eq!(leak.truth()?.num_goroutine, 21);
    Ok(())
}

/// Thousands of goroutines a second, for every Go version: creations and ends of each callsite are exactly the
/// program's own counts, and none was lost. Emulated processors are too slow for the 100 000 of other machines.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn counts_are_exact() -> Result<()> {
    Go::MATRIX.into_iter().try_for_each(|go| exact(go).with_context(|| format!("{go:?}")))
}

fn exact(go: Go) -> Result<()> {
    let mut churn = Fixture::start("churn", go, Variant::Stripped, &[])?;
    let mut attach = Attach::within(churn.pid(), "250ms", "unlimited")?;
    attach.until("the probes", |line| line["probes"]["created_total"].is_u64())?;
    churn.ask("go 6000")?;
    sleep(Duration::from_secs(1));
    let counts = churn.ask("quiesce")?;
    let line = attach.fresh_line()?;
    for site in counts["sites"].as_array().context("sites")? {
        let text = |name: &str| site[name].as_str().context("a name");
        let seen = callsite(&line, text("created_by")?, text("entry")?);
        let seen = seen.with_context(|| format!("{site} is missing in {line}"))?;
        for (ours, own) in [("created_total", "created"), ("exited_total", "ended")] {
            ensure!(number(seen, ours)? == number(site, own)?, "program {site}, observer {line}");
        }
    }
    compare(&churn.truth()?, &line)?;
    // A goroutine may have been between what a probe counts and what a snapshot sees when the one before was taken.
    attach.until("an end of all drift", |line| line["probes"]["drift"] == 0).map(drop)
}

/// A leak is found with its exact callsite where exits are counted all the time.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_leak() -> Result<()> {
    finds_a_leak(&["--overhead-budget", "unlimited"])
}

/// With probes in the machine's programs the kernel has nothing to complain about.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn serve_leaves_no_trace_in_the_kernels_log() -> Result<()> {
    let mut leak = leak("10")?;
    let serve = Serve::start(&["--interval", "200ms", "--overhead-budget", "unlimited"])?;
    let created = |samples: &Samples| {
        samples.sum("observer_goroutines_created_total", &[("process", "leak-1.24-static")])
    };
    let before = serve.until("the probes", |samples| created(samples).is_some())?;
    leak.ask("go 9")?;
    let before = created(&before).unwrap_or(0.0);
    serve.until("nine more", |samples| created(samples).is_some_and(|n| n >= before + 9.0))?;
    let (status, stderr) = serve.end_by(Signal::SIGTERM)?;
    ensure!(status.success(), "{stderr}");
    let taint = fs::read_to_string("/proc/sys/kernel/tainted")?;
    // Bit 9: the kernel has issued a warning.
    ensure!(taint.trim().parse::<u64>()? & (1 << 9) == 0, "the kernel has warned");
    Ok(())
}
