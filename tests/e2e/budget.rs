//! Probes stay within their budget, and what they then count is told as what it is.

use crate::support::{callsite, number};
use anyhow::{Context, Result, ensure};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::observer::{Attach, run};
use observer_tests::proc::text_is_pristine;
use observer_tests::wait;
use serde_json::Value;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

fn lifecycle(line: &Value) -> Option<&Value> {
    line["probes"]["groups"].as_array()?.iter().find(|group| group["probe"] == "lifecycle")
}

fn is_in(line: &Value, states: &[&str]) -> bool {
    lifecycle(line).and_then(|group| group["state"].as_str()).is_some_and(|state| states.contains(&state))
}

/// A target that starts goroutines faster than its budget allows to count is watched in windows: coverage is
/// below 1, nobody speaks of drift, the estimates are within a tenth of the program's own counts, and its code is
/// as it was for most of the time.
#[test]
fn a_heavy_target_is_watched_in_windows() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for go in [Go(19), Go::NEWEST] {
        let mut churn = Fixture::start("churn", go, Variant::Stripped, &[])?;
        let mut attach = Attach::start(churn.pid(), "500ms")?;
        attach.until("the probes", |line| is_in(line, &["on"]))?;
        churn.ask("go 100000")?;
        attach.until("windows", |line| is_in(line, &["windows", "off"]))?;
        sleep(Duration::from_secs(5));
        let line = attach.fresh_line()?;
        let probes = &line["probes"];
        ensure!(probes["estimated"] == true, "{probes}");
        let coverage = lifecycle(&line).and_then(|group| group["coverage_ratio"].as_f64());
        ensure!(coverage.is_some_and(|coverage| coverage < 1.0), "{probes}");
        wait::until("code without breakpoints", || Ok(text_is_pristine(churn.pid())?.then_some(())))?;
        let counts = churn.ask("quiesce")?;
        let line = attach.fresh_line()?;
        for site in counts["sites"].as_array().context("sites")? {
            let text = |name: &str| site[name].as_str().context("a name");
            let seen =
                callsite(&line, text("created_by")?, text("entry")?).context("a callsite is missing")?;
            for (theirs, ours) in [("created", "created_total"), ("ended", "exited_total")] {
                let (theirs, ours) = (number(site, theirs)? as f64, number(seen, ours)? as f64);
                ensure!((ours / theirs - 1.0).abs() < 0.1, "{go:?}: program {site}, observer {seen}");
            }
        }
        // At rest probes come to stay, and agree with the snapshots again.
        attach.until("probes that stay", |line| is_in(line, &["on"]))?;
        attach.until("no drift", |line| line["probes"]["drift"] == 0)?;
    }
    Ok(())
}

/// A budget of nothing puts no probe anywhere; one that can't be read is refused in one sentence.
#[test]
fn budgets_off_and_wrong() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let churn = Fixture::start("churn", Go::NEWEST, Variant::Static, &[])?;
    let mut attach = Attach::within(churn.pid(), "200ms", "off")?;
    let line = attach.fresh_line()?;
    ensure!(line.get("probes").is_none() && text_is_pristine(churn.pid())?, "{line}");
    let ran = run(&["attach", &churn.pid_text(), "--overhead-budget", "much"])?;
    ensure!(ran.status.code() == Some(2) && ran.stderr.contains("unlimited or off"), "{ran:?}");
    Ok(())
}

/// The kernel's own count of how often programs ran, while it keeps one.
struct RunCounts {
    before: String,
}

impl RunCounts {
    const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn start() -> Result<Self> {
        let before = fs::read_to_string(Self::SETTING)?;
        fs::write(Self::SETTING, "1")?;
        Ok(Self { before })
    }

    /// Runs of all programs on user probes that a process holds.
    fn of(pid: u32) -> Result<u64> {
        let mut runs = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // It may have been closed meanwhile.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            // BPF_PROG_TYPE_KPROBE
            if field("prog_type:") == Some("2") {
                runs += field("run_cnt:").context("the kernel doesn't count runs")?.parse::<u64>()?;
            }
        }
        Ok(runs)
    }
}

impl Drop for RunCounts {
    fn drop(&mut self) {
        let _ = fs::write(Self::SETTING, &self.before);
    }
}

/// Every time that a program ran in a target is charged to it, also where goroutines run that never park: the sum is the
/// kernel's own count.
#[test]
fn every_hit_is_charged() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _counting = RunCounts::start()?;
    let mut target = Fixture::start("spawnloop", Go::NEWEST, Variant::Static, &[])?;
    let mut attach = Attach::start(target.pid(), "500ms")?;
    let groups = |line: &Value| line["probes"]["groups"].as_array().cloned().unwrap_or_default();
    let hits = |line: &Value, probe: &str| -> u64 {
        let of = groups(line).into_iter().find(|group| group["probe"] == probe);
        of.and_then(|group| group["hits"].as_u64()).unwrap_or(0)
    };
    attach.until("the probes", |line| is_in(line, &["on"]))?;
    // Long enough for a window on waits.
    target.ask("round 12s")?;
    let line = wait::until("hits that are no longer made", || {
        let line = attach.fresh_line()?;
        Ok(text_is_pristine(target.pid())?.then_some(line))
    })?;
    ensure!(hits(&line, "waits") > 10_000, "no window on waits: {line}");
    let (ours, kernels) = (hits(&line, "lifecycle") + hits(&line, "waits"), RunCounts::of(attach.pid())?);
    ensure!(ours.abs_diff(kernels) <= kernels / 100, "{ours} hits, the kernel counted {kernels}: {line}");
    Ok(())
}
