//! Targets come, go and change at any moment, and so does the observer.

use crate::support::{callsite, goroutines, number, start_as};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::Attach;
use observer_tests::proc::{copy_executable, signal, text_is_pristine};
use observer_tests::serve::{Machine, Serve};
use observer_tests::truth::compare;
use observer_tests::wait;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::tempdir;

fn leak(total: &str) -> Result<Fixture> {
    Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0", "-total", total])
}

/// Two targets of one binary have counts of their own.
#[test]
fn two_targets_of_one_binary() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let (mut one, mut two) = (leak("10")?, leak("20")?);
    let (mut attach_one, mut attach_two) =
        (Attach::start(one.pid(), "200ms")?, Attach::start(two.pid(), "200ms")?);
    attach_two.fresh_line()?;
    one.ask("go 5")?;
    let (line_one, line_two) = (attach_one.fresh_line()?, attach_two.fresh_line()?);
    compare(&one.truth()?, &line_one)?;
    compare(&two.truth()?, &line_two)?;
    assert_eq!(number(&line_two["probes"], "created_total")?, 0, "{line_two}");
    Ok(())
}

/// A target that ends while it is observed is the normal end of `attach`.
#[test]
fn target_exits_while_attached() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let fixture = leak("10")?;
    let mut attach = Attach::start(fixture.pid(), "200ms")?;
    attach.fresh_line()?;
    fixture.stop()?;
    let (status, stderr) = attach.end()?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    Ok(())
}

/// A target that ends at any moment of attaching ends the observer, too: in order, and without a panic.
#[test]
fn target_exits_while_being_attached() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for milliseconds in (0..150).step_by(10) {
        let fixture = leak("10")?;
        let attach = Attach::start(fixture.pid(), "100ms")?;
        sleep(Duration::from_millis(milliseconds));
        fixture.stop()?;
        let (status, stderr) = attach.end()?;
        assert!(matches!(status.code(), Some(0 | 2)), "after {milliseconds} ms: {status}: {stderr}");
        assert!(!stderr.contains("panicked"), "after {milliseconds} ms: {stderr}");
    }
    Ok(())
}

/// A target that executes another program in place is another target: never the old one's counts with the new
/// one's, in `attach` (which may end) and in `serve`.
#[test]
fn exec_in_place() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let mut fixture = start_as(directory.path(), "before-exec", "execer", &[])?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    serve.until("the first program", |samples| goroutines(samples, "before-exec") == Some(6.0))?;
    let mut attach = Attach::start(fixture.pid(), "200ms")?;
    attach.fresh_line()?;

    let next = directory.path().join("after-exec");
    copy_executable(&build("webhook", Go::NEWEST, Variant::Static)?, &next)?;
    fixture.tell(&format!("exec {} -total 11", next.display()))?;
    fixture.await_ready()?;
    let samples =
        serve.until("the second program", |samples| goroutines(samples, "after-exec") == Some(23.0))?;
    assert_eq!(goroutines(&samples, "before-exec"), None, "the first program has gone");
    let truth = fixture.truth()?;
    // Either attach has ended with the first program, or it soon tells of the second alone.
    let followed = attach.until("the second program", |line| compare(&truth, line).is_ok());
    if let Err(ended) = followed {
        ensure!(format!("{ended:#}").contains("the output has ended"), "{ended:#}");
    }
    Ok(())
}

/// A target whose binary was deleted, as an upgrade does, is counted like any other.
#[test]
fn deleted_binary() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let args = ["-rate", "0", "-total", "40"];
    let mut fixture = start_as(directory.path(), "deleted", "leak", &args)?;
    fs::remove_file(directory.path().join("deleted"))?;
    let mut attach = Attach::start(fixture.pid(), "200ms")?;
    attach.fresh_line()?;
    fixture.ask("go 2")?;
    let line = attach.fresh_line()?;
    compare(&fixture.truth()?, &line)?;
    assert_eq!(number(&line["probes"], "created_total")?, 2, "{line}");
    Ok(())
}

/// A target whose binary was replaced by another build under the same name is read from what it runs.
#[test]
fn replaced_binary() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let args = ["-rate", "0", "-total", "40"];
    let mut fixture = start_as(directory.path(), "replaced", "leak", &args)?;
    let newer = directory.path().join("newer");
    copy_executable(&build("webhook", Go(21), Variant::Static)?, &newer)?;
    fs::rename(newer, directory.path().join("replaced"))?;
    let line = Attach::start(fixture.pid(), "200ms")?.fresh_line()?;
    compare(&fixture.truth()?, &line)
}

/// A process that starts has probes long before the next tick or scan, and is in the metrics from the next tick
/// until it ends.
#[test]
fn serve_sees_processes_come_and_go() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let args = ["-rate", "0", "-total", "12"];
    let rarely = Serve::start(&["--interval", "600s"])?;
    let fixture = start_as(directory.path(), "comes-and-goes", "leak", &args)?;
    let started = Instant::now();
    let pid = fixture.pid();
    wait::until("probes", || Ok((!text_is_pristine(pid)?).then_some(())))?;
    // Without word from the kernel only the next scan would find it, half a minute later.
    let waited = started.elapsed();
    ensure!(waited < Duration::from_secs(15), "probes came after {waited:?}");
    eprintln!("probes came {waited:?} after it was ready");
    drop(rarely);

    let serve = Serve::start(&["--interval", "200ms"])?;
    let shown = |samples: &Samples| goroutines(samples, "comes-and-goes").is_some();
    serve.until("the process", shown)?;
    fixture.stop()?;
    serve.until("its end", |samples| !shown(samples))?;
    Ok(())
}

/// Whatever ends the observer, the target's code is left as its file has it, and the target runs on.
#[test]
fn nothing_is_left_behind() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    for (go, variant) in [(Go(19), Variant::Static), (Go::NEWEST, Variant::Pie)] {
        for ending in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
            let context = || format!("{go:?}, {variant:?}, {ending}");
            let mut fixture = Fixture::start("leak", go, variant, &["-rate", "0", "-total", "5"])?;
            ensure!(text_is_pristine(fixture.pid())?);
            let mut attach = Attach::start(fixture.pid(), "200ms")?;
            attach.fresh_line().with_context(context)?;
            ensure!(!text_is_pristine(fixture.pid())?, "no probe was there to be removed: {}", context());
            signal(attach.pid(), ending);
            let (status, stderr) = attach.end()?;
            if ending != Signal::SIGKILL {
                ensure!(status.code() == Some(0), "{}: {status}: {stderr}", context());
                ensure!(text_is_pristine(fixture.pid())?, "{}", context());
            }
            // After SIGKILL the kernel removes the probes, in its own time.
            wait::until("the code as it was", || Ok(text_is_pristine(fixture.pid())?.then_some(())))?;
            fixture.ask("go 100").with_context(context)?;
            assert_eq!(fixture.truth()?.num_goroutine, 106, "{}", context());
        }
    }
    Ok(())
}

/// The same for `serve`: SIGTERM is a clean end, SIGKILL leaves nothing either.
#[test]
fn serve_leaves_nothing_behind() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let mut fixture = leak("5")?;
    for ending in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let serve = Serve::start(&["--interval", "200ms"])?;
        let pid = fixture.pid();
        wait::until("probes", || Ok((!text_is_pristine(pid)?).then_some(())))?;
        let (status, stderr) = serve.end_by(ending)?;
        if ending != Signal::SIGKILL {
            ensure!(status.code() == Some(0), "{ending}: {status}: {stderr}");
            ensure!(text_is_pristine(pid)?, "{ending}");
        }
        wait::until("the code as it was", || Ok(text_is_pristine(pid)?.then_some(())))?;
        fixture.ask("go 1")?;
    }
    assert_eq!(fixture.truth()?.num_goroutine, 9);
    Ok(())
}

/// A process that gets the pid of one that ended inherits nothing of it.
#[test]
fn pid_reuse() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let first = start_as(directory.path(), "first-of-pid", "leak", &["-rate", "0", "-total", "40"])?;
    let path = crate::support::private_copy(directory.path(), "second-of-pid", "webhook", Go::USUAL)?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    serve.until("the first process", |samples| goroutines(samples, "first-of-pid") == Some(41.0))?;
    let pid = first.pid();
    first.stop()?;
    let mut second = with_pid(pid, || Fixture::run(&path, &["-total", "3"]))?;
    let samples =
        serve.until("the second process", |samples| goroutines(samples, "second-of-pid") == Some(7.0))?;
    ensure!(goroutines(&samples, "first-of-pid").is_none(), "{}", samples.text);

    let counted = |samples: &Samples, n: f64| {
        let labels = [("process", "second-of-pid"), ("created_by", "main.(*Webhook).validate")];
        samples.sum("observer_goroutines_created_total", &labels) == Some(n)
    };
    serve.until("its probes, which have counted nothing", |samples| counted(samples, 0.0))?;
    second.ask("go 2")?;
    // Each request starts three goroutines, two of which stay.
    serve.until("two requests", |samples| {
        counted(samples, 6.0) && goroutines(samples, "second-of-pid") == Some(11.0)
    })?;
    Ok(())
}

/// Starts fixtures until one has the wanted pid: the kernel is told which pid it gave last.
fn with_pid(pid: u32, start: impl Fn() -> Result<Fixture>) -> Result<Fixture> {
    wait::until("a process with the same pid", || {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).context("cannot choose a pid")?;
        let fixture = start()?;
        Ok((fixture.pid() == pid).then_some(fixture))
    })
}

/// A target that forks without exec: the copy is no trouble, and the target's own counts stay right.
#[test]
fn forking_target() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let mut fixture = Fixture::start("execer", Go::USUAL, Variant::Static, &[])?;
    let mut attach = Attach::start(fixture.pid(), "200ms")?;
    attach.fresh_line()?;
    fixture.ask("fork")?;
    fixture.ask("run 20")?;
    let line = attach.fresh_line()?;
    compare(&fixture.truth()?, &line)?;
    ensure!(number(&line["probes"], "drift")? == 0, "{line}");
    ensure!(callsite(&line, "main.main", "main.main.func1").is_some_and(|site| site["live"] == 5), "{line}");
    Ok(())
}

/// A target that is stopped is read like one that runs.
#[test]
fn stopped_target() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let mut fixture = leak("15")?;
    let truth = fixture.truth()?;
    signal(fixture.pid(), Signal::SIGSTOP);
    let line = Attach::start(fixture.pid(), "200ms")?.fresh_line()?;
    signal(fixture.pid(), Signal::SIGCONT);
    compare(&truth, &line)
}
