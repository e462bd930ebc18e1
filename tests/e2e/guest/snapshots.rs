//! Kernels without attach cookies: snapshots count, and every command says why there are no probes.

use super::support::leak;
use anyhow::{Result, ensure};
use observer_tests::metrics::Samples;
use observer_tests::observer::{Attach, run};
use observer_tests::proc::text_is_pristine;
use observer_tests::serve::Serve;
use observer_tests::truth::compare;
use serde_json::Value;

fn says_why(reason: &Value) -> Result<()> {
    let reason = reason.as_str().unwrap_or_default();
    ensure!(reason.contains("attach cookies") && reason.contains("5.15"), "the reason is {reason:?}");
    Ok(())
}

/// `attach` counts as the program itself does, leaves its code alone, and says what is missing.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn attach_counts_by_snapshots() -> Result<()> {
    let mut leak = leak("30")?;
    let mut attach = Attach::start(leak.pid(), "200ms")?;
    leak.ask("go 5")?;
    let line = attach.fresh_line()?;
    compare(&leak.truth()?, &line)?;
    ensure!(line.get("probes").is_none(), "{line}");
    says_why(&line["reason"])?;
    ensure!(text_is_pristine(leak.pid())?, "something was put into the program");
    Ok(())
}

/// `list` and `doctor` work; what `list` shows of the program is whole.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn list_and_doctor_work() -> Result<()> {
    let leak = leak("30")?;
    let list = run(&["list", "--output", "json"])?.json()?;
    let row = list.as_array().and_then(|rows| rows.iter().find(|row| row["pid"] == leak.pid()));
    ensure!(row.is_some_and(|row| row["goroutines"] == 31), "{list}");
    let doctor = run(&["doctor", &leak.pid_text(), "--duration", "2s"])?;
    assert_eq!(doctor.status.code(), Some(0), "{doctor:?}");
    Ok(())
}

/// `serve` shows the goroutines, no counters that only probes have, and which feature is missing.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn serve_shows_what_is_missing() -> Result<()> {
    let leak = leak("30")?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let counted = |samples: &Samples| samples.sum("observer_goroutines", &[("process", "leak-1.24-static")]);
    let samples = serve.until("the program", |samples| counted(samples).is_some_and(|n| n >= 31.0))?;
    assert_eq!(samples.sum("observer_feature_enabled", &[("feature", "attach_cookies")]), Some(0.0));
    assert_eq!(samples.sum("observer_goroutines_created_total", &[]), None, "{}", samples.text);
    assert!(samples.sum("observer_targets", &[("state", "snapshot_only")]).is_some_and(|n| n >= 1.0));
    drop(leak);
    Ok(())
}
