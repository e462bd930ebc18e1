//! Goroutines that start and end 100 000 times a second: every one is counted, once.

use crate::support::{callsite, number};
use anyhow::{Context, Result, ensure};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::observer::Attach;
use observer_tests::truth::compare;
use std::thread::sleep;
use std::time::Duration;

const RATE: &str = "go 100000";
/// How long the storm lasts, as the fixture sees it.
const STORM: Duration = Duration::from_secs(2);

/// Attached before the storm: at rest again, creations and exits of each callsite are exactly the program's own
/// counts, for every Go version.
#[test]
fn created_and_exited_are_exact() -> Result<()> {
    if !root() {
        return Ok(());
    }
    Go::MATRIX.into_iter().try_for_each(|go| exact(go).with_context(|| format!("{go:?}")))
}

fn exact(go: Go) -> Result<()> {
    let mut churn = Fixture::start("churn", go, Variant::Stripped, &[])?;
    let mut attach = Attach::within(churn.pid(), "250ms", "unlimited")?;
    attach.until("the probes", |line| line["probes"]["created_total"].is_u64())?;
    churn.ask(RATE)?;
    sleep(STORM);
    let counts = churn.ask("quiesce")?;
    eprintln!("{go:?}: {counts}");
    let line = attach.fresh_line()?;
    for site in counts["sites"].as_array().context("sites")? {
        let text = |name: &str| site[name].as_str().context("a name");
        let seen = callsite(&line, text("created_by")?, text("entry")?);
        let seen = seen.with_context(|| format!("{site} is missing in {line}"))?;
        ensure!(
            number(seen, "created_total")? == number(site, "created")?,
            "program {site}, observer {line}"
        );
        ensure!(number(seen, "exited_total")? == number(site, "ended")?, "program {site}, observer {line}");
        ensure!(number(seen, "live")? == 0, "none is left: {seen}");
    }
    ensure!(number(&line["probes"], "drift")? == 0, "drift: {}", line["probes"]);
    compare(&churn.truth()?, &line)
}

/// Attached in the middle of the storm: probes and snapshots agree all the time, and nothing is left at rest.
#[test]
fn attached_in_the_storm() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for go in [Go(19), Go::NEWEST] {
        let mut churn = Fixture::start("churn", go, Variant::Stripped, &[])?;
        churn.ask(RATE)?;
        let mut attach = Attach::within(churn.pid(), "250ms", "unlimited")?;
        attach
            .until("the probes", |line| number(&line["probes"], "created_total").is_ok_and(|n| n > 10_000))?;
        for _ in 0..4 {
            let line = attach.line()?;
            // On each P one goroutine can be between what a snapshot sees and what a probe counts, in this
            // snapshot as in the one that it is compared with.
            let in_flight = 2 * number(&line, "gomaxprocs")?;
            let drift = number(&line["probes"], "drift")?;
            ensure!(drift <= in_flight, "{go:?}: drift in the storm: {}", line["probes"]);
        }
        churn.ask("quiesce")?;
        let line = attach.fresh_line()?;
        compare(&churn.truth()?, &line).with_context(|| format!("{go:?}"))?;
        attach.until("an end of all drift", |line| line["probes"]["drift"] == 0)?;
    }
    Ok(())
}
