//! What several of the tests need.

use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::{Ran, run};
use observer_tests::proc::copy_executable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Builds a fixture and copies it to `directory` under a name of its own, so that its metrics are told apart from
/// those of other tests that run at the same time.
pub(crate) fn private_copy(directory: &Path, name: &str, fixture: &str, go: Go) -> Result<PathBuf> {
    let path = directory.join(name);
    copy_executable(&build(fixture, go, Variant::Static)?, &path)?;
    Ok(path)
}

/// Starts a private copy of a fixture.
pub(crate) fn start_as(directory: &Path, name: &str, fixture: &str, args: &[&str]) -> Result<Fixture> {
    Fixture::run(&private_copy(directory, name, fixture, Go::USUAL)?, args)
}

/// The callsite of one line of `attach` by the functions that name it.
pub(crate) fn callsite<'a>(line: &'a Value, created_by: &str, entry: &str) -> Option<&'a Value> {
    let sites = line["callsites"].as_array()?;
    sites.iter().find(|site| site["created_by"] == created_by && site["entry"] == entry)
}

/// A number of a JSON object.
pub(crate) fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().with_context(|| format!("no number {key} in {value}"))
}

/// Counts by name from a JSON object such as `states`, without zeros.
pub(crate) fn counts(value: &Value) -> Result<BTreeMap<String, u64>> {
    let object = value.as_object().with_context(|| format!("not an object: {value}"))?;
    let counts = object.iter().map(|(name, count)| Some((name.clone(), count.as_u64()?)));
    let counts: Option<BTreeMap<_, _>> = counts.filter(|count| !matches!(count, Some((_, 0)))).collect();
    counts.with_context(|| format!("not counts: {value}"))
}

/// Checks that a text holds nothing that a terminal would act on.
pub(crate) fn is_printable(text: &str) -> Result<()> {
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    ensure!(control.is_none(), "control character {control:?} in {text:?}");
    Ok(())
}

/// All goroutines of a process name in the metrics.
pub(crate) fn goroutines(samples: &Samples, process: &str) -> Option<f64> {
    samples.sum("observer_goroutines", &[("process", process)])
}

/// Starts the incident of that name.
pub(crate) fn incident(name: &str) -> Result<Fixture> {
    Fixture::start("incident", Go::USUAL, Variant::Static, &[name])
}

/// Runs the doctor on a process for some seconds. A fixture is young: what grows in it counts from 2 s on.
pub(crate) fn doctor(pid: u32, seconds: u32, more: &[&str]) -> Result<Ran> {
    let (pid, duration) = (pid.to_string(), format!("{seconds}s"));
    let args =
        ["doctor", &pid, "--duration", &duration, "--output", "json", "--threshold", "start_up_seconds=2"];
    run(&[&args, more].concat())
}

/// The findings, after checking that the exit status says whether there are any.
pub(crate) fn findings(ran: &Ran) -> Result<Vec<Value>> {
    let report: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("not JSON: {ran:?}"))?;
    let findings = report["findings"].as_array().context("no findings")?.clone();
    let expected = i32::from(!findings.is_empty());
    ensure!(ran.status.code() == Some(expected), "the exit status should be {expected}: {ran:?}");
    Ok(findings)
}

/// What a rule found, which must come first: it is the cause, and what else was found are its symptoms or less.
pub(crate) fn cause<'a>(findings: &'a [Value], rule: &str) -> Result<&'a Value> {
    let found = finding(findings, rule)?;
    ensure!(findings[0] == *found, "{rule} is the cause and should come first: {findings:?}");
    Ok(found)
}

/// The only finding of a rule.
pub(crate) fn finding<'a>(findings: &'a [Value], rule: &str) -> Result<&'a Value> {
    findings
        .iter()
        .find(|finding| finding["rule"] == rule)
        .with_context(|| format!("no {rule} in {findings:?}"))
}
