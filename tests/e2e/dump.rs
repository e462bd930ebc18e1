//! `observer dump`, and profiles over HTTP.

use crate::hostile::liar;
use crate::support::{is_printable, number};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::http::Response;
use observer_tests::observer::{command, run};
use observer_tests::proc::signal;
use observer_tests::serve::{Machine, Serve};
use observer_tests::wait;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// A leak of 200 000 goroutines: the summary begins with their number, what they wait for, and the lines of code
/// where they stand and where they were started; the text with counts has the total that the program counts.
#[test]
fn a_leak_of_200_000() -> Result<()> {
    const LEAKED: usize = 200_000;
    if !root() {
        return Ok(());
    }
    let arguments = ["-rate", "0", "-total", &LEAKED.to_string()];
    let mut leak = Fixture::start("leak", Go::NEWEST, Variant::Stripped, &arguments)?;
    let pid = leak.pid_text();
    let total = number(&leak.ask("truth")?, "num_goroutine")?;
    let summary = run(&["dump", &pid, "--format", "summary"])?;
    ensure!(summary.status.success(), "{summary:?}");
    let first: Vec<&str> = summary.stdout.split("\n\n").nth(1).context("no group")?.lines().collect();
    ensure!(first[0].trim_start().starts_with(&format!("{LEAKED}  chan send")), "{first:?}");
    let source = include_str!("../fixtures/leak/main.go");
    let line = |text: &str| source.lines().position(|line| line.contains(text)).map(|index| index + 1);
    let sends = line("result <- r.apply(backend)").context("the line that sends")?;
    let starts = line("go func() {").context("the line that starts them")?;
    ensure!(
        first.iter().any(|row| row.contains("main.(*Reconciler).reconcile.func1")
            && row.ends_with(&format!("leak/main.go:{sends}"))),
        "{first:?}"
    );
    let creator = first.last().context("no creator")?;
    ensure!(
        creator.contains("created by main.(*Reconciler).reconcile ")
            && creator.ends_with(&format!("leak/main.go:{starts}")),
        "{creator}"
    );
    let counts = run(&["dump", &pid, "--format", "debug1"])?;
    let head = counts.stdout.lines().next().context("no text")?;
    ensure!(head == format!("goroutine profile: total {total}"), "{head}");
    Ok(())
}

/// Asks until it isn't told to wait.
fn profile(serve: &Serve, query: &str) -> Result<Response> {
    let request = format!("GET /debug/pprof/goroutine?{query} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    wait::until("a profile", || {
        let response = serve.request(&request)?;
        Ok((response.status != 429).then_some(response))
    })
}

/// `go tool pprof` reads a profile from `serve`, the texts are those of `dump`, and what can't be profiled is
/// refused with a sentence.
#[test]
fn profiles_over_http() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let leak = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0", "-total", "1234"])?;
    let (pid, serve) = (leak.pid_text(), Serve::start(&["--interval", "1s"])?);
    let top = wait::until("pprof's answer", || {
        let url = format!("http://{}/debug/pprof/goroutine?pid={pid}", serve.address());
        let mut pprof = Command::new(Go::USUAL.toolchain()?.go);
        let home = tempfile::tempdir()?;
        let output = pprof.args(["tool", "pprof", "-top", &url]).env("PPROF_TMPDIR", home.path()).output()?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    })?;
    ensure!(top.contains("Type: goroutine"), "{top}");
    let leaking = top.lines().find(|row| row.ends_with("main.(*Reconciler).reconcile.func1"));
    ensure!(leaking.is_some_and(|row| row.contains(" 1234 ")), "{top}");
    for (debug, format) in [("1", "debug1"), ("2", "debug2")] {
        let over_http = profile(&serve, &format!("pid={pid}&debug={debug}"))?;
        ensure!(over_http.status == 200, "{over_http:?}");
        let dumped = run(&["dump", &pid, "--format", format])?.stdout;
        let count = |text: &str| text.matches("main.(*Reconciler).reconcile.func1").count();
        ensure!(count(&over_http.body) == count(&dumped) && count(&dumped) > 0, "{format}");
        ensure!(over_http.body.lines().count() == dumped.lines().count(), "{format}");
    }
    let own = std::process::id().to_string();
    for (query, status) in [("pid=4194305", 404), (&format!("pid={own}"), 422), ("", 400)] {
        let refused = profile(&serve, query)?;
        ensure!(refused.status == status && refused.body.trim_end().lines().count() == 1, "{refused:?}");
    }
    Ok(())
}

/// Nobody gets profiles where they are switched off.
#[test]
fn no_profiles_over_http() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let serve = Serve::start(&["--web.profiles", "off"])?;
    let refused = profile(&serve, &format!("pid={}", serve.pid()))?;
    ensure!(refused.status == 403 && refused.body.contains("--web.profiles"), "{refused:?}");
    Ok(())
}

/// Lies about stacks, and what the profile is then: of how many goroutines something is missing.
const LIES: [(&str, &str); 6] = [
    ("stacks-outside", "unreadable"),
    ("stacks-guarded", "unreadable"),
    ("stacks-unmapped", "unreadable"),
    ("stacks-truncated", "unreadable"),
    ("stacks-garbage", ""),
    ("labels", ""),
];

/// Stacks and labels that are not there, or can't be: every goroutine is in the profile, and what is missing of it
/// is named.
#[test]
fn profiles_of_liars() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for (lie, missing) in LIES {
        let Some(fixture) = liar(lie)? else { continue };
        let pid = fixture.pid_text();
        let ran = run(&["dump", &pid, "--format", "json"])?;
        let profile = ran.json().context(lie)?;
        let all = profile["goroutines"].as_array().context(lie)?;
        ensure!(all.len() > 1500, "{lie}: {} goroutines", all.len());
        if !missing.is_empty() {
            ensure!(all.iter().all(|goroutine| goroutine["partial"] == missing), "{lie}: {}", all[0]);
            ensure!(ran.stderr.contains("have no whole stack"), "{lie}: {}", ran.stderr);
        }
        for format in ["summary", "debug1", "debug2", "folded", "svg"] {
            let ran = run(&["dump", &pid, "--format", format])?;
            ensure!(ran.status.success() && !ran.stdout.is_empty(), "{lie} {format}: {}", ran.stderr);
            is_printable(&ran.stdout.replace('\t', " ")).with_context(|| lie.to_owned())?;
        }
    }
    Ok(())
}

/// Memory that never answers, and stacks without an end: the profile ends in time with a sentence, and what was read
/// until then is written and says that it isn't all.
#[test]
fn profiles_that_take_too_long() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for lie in ["fault", "fault-descriptors", "stacks-fault", "stacks-endless"] {
        let Some(fixture) = liar(lie)? else { continue };
        let ran = run(&["dump", &fixture.pid_text(), "--format", "json", "--timeout", "2s"])?;
        ensure!(ran.status.code() == Some(2), "{lie}: {:?} {}", ran.status, ran.stderr);
        ensure!(ran.stderr.trim().lines().count() == 1 && !ran.stderr.contains("panicked"), "{}", ran.stderr);
        if !ran.stdout.is_empty() {
            let profile: Value = serde_json::from_str(&ran.stdout).context(lie)?;
            ensure!(profile["complete"] == false && profile["reason"].is_string(), "{lie}: {profile}");
        }
    }
    Ok(())
}

/// Over HTTP, too: a target that doesn't answer costs its own profile, and neither metrics nor other profiles.
#[test]
fn a_liar_over_http() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let Some(fixture) = liar("stacks-fault")? else { return Ok(()) };
    let honest = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0", "-total", "10"])?;
    let serve = Serve::start(&["--interval", "1s"])?;
    let late = profile(&serve, &format!("pid={}", fixture.pid_text()))?;
    ensure!(late.status == 504 && late.body.contains("did not answer"), "{late:?}");
    serve.metrics()?;
    let whole = profile(&serve, &format!("pid={}&debug=1", honest.pid_text()))?;
    ensure!(whole.status == 200 && whole.body.starts_with("goroutine profile: total"), "{whole:?}");
    Ok(())
}

/// A target that is killed while its profile is written: what came before is there, and it says so.
#[test]
fn a_target_that_dies() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let arguments = ["-rate", "0", "-total", "100000"];
    let leak = Fixture::start("leak", Go::USUAL, Variant::Static, &arguments)?;
    let mut dump = command(&["dump", &leak.pid_text(), "--format", "json"])?;
    let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = BufReader::new(dump.stdout.take().context("stdout is piped")?);
    let mut text = String::new();
    // Whoever reads slowly makes it wait: after the first line much is still to come.
    stdout.read_line(&mut text)?;
    signal(leak.pid(), Signal::SIGKILL);
    drop(leak);
    stdout.read_to_string(&mut text)?;
    let output = dump.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{:?}: {said}", output.status);
    ensure!(said.contains("the process has ended") && said.trim().lines().count() == 1, "{said}");
    let profile: Value = serde_json::from_str(&text)?;
    ensure!(profile["complete"] == false, "{}", profile["complete"]);
    ensure!(profile["reason"] == "the process has ended", "{}", profile["reason"]);
    let read = profile["goroutines"].as_array().context("goroutines")?.len();
    ensure!((1..100_000).contains(&read), "{read} goroutines");
    Ok(())
}
