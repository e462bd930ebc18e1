//! Targets that mean harm: whatever they say of themselves, the observer answers in bounded time and memory, and
//! their neighbours are served as before.

use crate::support::{goroutines, is_printable, start_as};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::run;
use observer_tests::proc::{copy_executable, status_bytes};
use observer_tests::serve::{Machine, Serve};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use tempfile::tempdir;

/// The lies that `fixtures/hostile` can tell.
const LIES: [&str; 15] = [
    "length",
    "same",
    "cyclic",
    "garbage",
    "unaligned",
    "kernel",
    "wrap",
    "unmapped",
    "guarded",
    "guarded-descriptors",
    "truncated",
    "fault",
    "fault-descriptors",
    "fault-code",
    "fakes",
];

/// Far above what the observer needs, far below what the lies ask for.
const MEMORY_BOUND: u64 = 256 << 20;

/// `attach` to a liar ends in time and in order, whatever the lie.
#[test]
fn attach_to_a_liar() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for lie in LIES {
        let Some(fixture) = liar(lie)? else { continue };
        let pid = fixture.pid_text();
        let args = ["attach", &pid, "--interval", "200ms", "--duration", "1s", "--output", "json"];
        let ran = run(&args).with_context(|| lie.to_owned())?;
        ensure!(matches!(ran.status.code(), Some(0 | 2)), "{lie}: {ran:?}");
        ensure!(!ran.stderr.contains("panicked"), "{lie}: {ran:?}");
        is_printable(&ran.stdout).with_context(|| lie.to_owned())?;
    }
    Ok(())
}

/// A fixture that tells one lie; `None` when this kernel doesn't offer what the lie needs.
pub(crate) fn liar(lie: &str) -> Result<Option<Fixture>> {
    let mut fixture = Fixture::start("hostile", Go::USUAL, Variant::Static, &[])?;
    Ok(tells(&mut fixture, lie)?.then_some(fixture))
}

/// Has a fixture tell a lie; whether this kernel offers what it needs.
fn tells(fixture: &mut Fixture, lie: &str) -> Result<bool> {
    match fixture.ask(&format!("lie {lie}")) {
        Ok(_) => Ok(true),
        Err(error) if format!("{error:#}").contains("userfaultfd") => {
            eprintln!("without `{lie}`: {error:#}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// `serve` observes liars of every kind at once, and beside them an honest neighbour whose counts stay right.
#[test]
fn serve_among_liars() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let mut honest = start_as(directory.path(), "honest", "leak", &["-rate", "0", "-total", "10"])?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let mut liars = Vec::new();
    for (round, lie) in LIES.into_iter().enumerate() {
        liars.extend(liar(lie)?);
        honest.ask("go 1")?;
        let want = 12.0 + round as f64;
        let right = |samples: &_| goroutines(samples, "honest") == Some(want);
        serve.until("the neighbour's count", right).with_context(|| lie.to_owned())?;
    }
    let samples = serve.metrics()?;
    is_printable(&samples.text)?;
    let series = samples.of("observer_goroutines", &[]).count();
    ensure!(series < 1000, "{series} series of observer_goroutines");
    let errors = samples.sum("observer_snapshot_errors_total", &[]);
    ensure!(errors.is_some_and(|n| n > 0.0), "no lie was noticed: {errors:?}");
    let peak = status_bytes(serve.pid(), "VmHWM")?;
    ensure!(peak < MEMORY_BOUND, "the observer needed {peak} bytes");
    Ok(())
}

/// A target whose code can't be read, because its page faults are never answered, gets no probes, and keeps none from
/// those that come after it.
#[test]
fn code_that_never_answers() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let mut liar = start_as(directory.path(), "liar", "hostile", &[])?;
    if !tells(&mut liar, "fault-code")? {
        return Ok(());
    }
    serve.until("the liar", |samples| goroutines(samples, "liar").is_some())?;
    // By then its turn has come.
    sleep(Duration::from_secs(3));
    let _honest = start_as(directory.path(), "honest", "leak", &["-rate", "0", "-total", "10"])?;
    let coverage = |samples: &Samples, process: &str| {
        samples.sum("observer_probe_coverage_ratio", &[("process", process), ("probe", "lifecycle")])
    };
    let probed = |samples: &Samples| coverage(samples, "honest").is_some_and(|coverage| coverage > 0.0);
    let samples = serve.until("the neighbour's probes", probed)?;
    ensure!(coverage(&samples, "liar").is_none_or(|coverage| coverage == 0.0), "the liar has probes");
    Ok(())
}

/// A target that tells the truth again is observed again.
#[test]
fn a_liar_that_repents() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let mut fixture = start_as(directory.path(), "repentant", "hostile", &[])?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    serve.until("the truth", |samples| goroutines(samples, "repentant") == Some(1.0))?;
    fixture.ask("lie unmapped")?;
    serve.until("silence", |samples| goroutines(samples, "repentant").is_none())?;
    fixture.ask("lie truth")?;
    serve.until("the truth again", |samples| goroutines(samples, "repentant") == Some(1.0))?;
    Ok(())
}

/// The name of an executable is the target's choice: control characters and invalid UTF-8 in it never reach a
/// terminal, a log, or a metric.
#[test]
fn control_characters_in_a_name() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let path = directory.path().join(OsStr::from_bytes(b"evil\x1b]0;owned\x07\x1b[31m\r\n\"\\\xff\xc2\x9b"));
    copy_executable(&build("leak", Go::USUAL, Variant::Static)?, &path)?;
    let fixture = Fixture::run(&path, &["-rate", "0", "-total", "77"])?;
    let pid = fixture.pid_text();
    let attach = ["attach", &pid, "--interval", "200ms", "--duration", "500ms"];
    for args in [&["list"][..], &["list", "--output", "json"], &["inspect", &pid], &attach] {
        let ran = run(args)?;
        ensure!(ran.status.success(), "{args:?}: {ran:?}");
        ensure!(args[0] != "list" || ran.stdout.contains("evil"), "{args:?}: not shown at all: {ran:?}");
        is_printable(&ran.stdout).and(is_printable(&ran.stderr)).with_context(|| format!("{args:?}"))?;
        let on_terminal = on_a_terminal(args)?;
        for sequence in ["\x1b]0;owned", "\x1b[31m\r", "\u{9b}", "\x07"] {
            ensure!(!on_terminal.contains(sequence), "{args:?}: {on_terminal:?}");
        }
    }
    let serve = Serve::start(&["--interval", "200ms"])?;
    let mine = |samples: &observer_tests::metrics::Samples| {
        samples.all.iter().any(|sample| {
            sample.name == "observer_goroutines"
                && sample.labels.get("process").is_some_and(|process| process.starts_with("evil"))
        })
    };
    let samples = serve.until("the target", mine)?;
    is_printable(&samples.text)?;
    let (_, log) = serve.end_by(nix::sys::signal::Signal::SIGTERM)?;
    is_printable(&log)
}

/// What a command writes when its output is a terminal.
fn on_a_terminal(args: &[&str]) -> Result<String> {
    let observer = observer_tests::observer::binary()?;
    let command = format!("{} {}", observer.display(), args.join(" "));
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output();
    Ok(String::from_utf8_lossy(&output.context("needs the command script")?.stdout).into_owned())
}
