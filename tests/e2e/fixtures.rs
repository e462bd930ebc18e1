//! The fixtures themselves: without them no other test means anything.

use anyhow::Result;
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have};
use observer_tests::go::Go;

/// Every readable variant is built and runs, with the newest Go.
#[test]
fn every_variant_runs() -> Result<()> {
    if !have(&[Need::Compiler]) {
        return Ok(());
    }
    for variant in Variant::READABLE {
        let mut fixture = Fixture::start("leak", Go::NEWEST, variant, &["-rate", "0", "-total", "3"])?;
        assert_eq!(fixture.truth()?.num_goroutine, 4, "{variant:?}");
    }
    Ok(())
}

/// Fixtures leak where their incident says they do, in the target's own view: function, entry, wait reason.
#[test]
fn incidents_are_what_they_should_be() -> Result<()> {
    let mut leak = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0", "-total", "5"])?;
    let truth = leak.truth()?;
    let site = truth.callsites.iter().find(|site| site.created_by == "main.(*Reconciler).reconcile").unwrap();
    assert_eq!((site.count, site.states["chan send"]), (5, 5));
    assert_eq!(site.entry, "main.(*Reconciler).reconcile.func1");

    let mut webhook = Fixture::start("webhook", Go::USUAL, Variant::Static, &["-total", "5"])?;
    let truth = webhook.truth()?;
    let leaking = truth.callsites.iter().filter(|site| site.created_by == "main.(*Webhook).validate");
    assert_eq!(leaking.map(|site| site.states["chan send"]).collect::<Vec<_>>(), [5, 5]);
    Ok(())
}

/// Churn starts goroutines all the time, and all of them have ended when it is quiescent.
#[test]
fn churn_comes_to_rest() -> Result<()> {
    let mut churn = Fixture::start("churn", Go::USUAL, Variant::Static, &[])?;
    churn.ask("go 100000")?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let counts = churn.ask("quiesce")?;
    let created: u64 = sum(&counts, "created");
    assert_eq!(created, sum(&counts, "ended"));
    assert!(created > 1000, "{created}");
    assert_eq!(churn.truth()?.num_goroutine, 1);
    Ok(())
}

fn sum(counts: &serde_json::Value, name: &str) -> u64 {
    counts["sites"].as_array().unwrap().iter().map(|site| site[name].as_u64().unwrap()).sum()
}
