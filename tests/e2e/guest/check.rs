//! `observer check` on other kernels.

use super::support::{kernel, version};
use anyhow::{Context, Result, ensure};
use observer_tests::observer::run;
use std::fs;

/// Root has every feature that the kernel is new enough for, and no other; a missing one says which kernel has it.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn features_are_as_new_as_the_kernel() -> Result<()> {
    let report = run(&["check", "--output", "json"])?.json()?;
    assert_eq!(report["kernel"], fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    assert_eq!(report["cgroups"], "v2");
    let running = kernel()?;
    for feature in report["features"].as_array().context("no features")? {
        let minimum = feature["minimum_kernel"].as_str();
        let expected =
            minimum.map_or(Ok(true), |minimum| version(minimum).map(|minimum| minimum <= running))?;
        ensure!(feature["enabled"] == expected, "{feature}");
        let reason = feature["reason"].as_str().unwrap_or_default();
        ensure!(expected || minimum.is_some_and(|minimum| reason.contains(minimum)), "{feature}");
    }
    Ok(())
}
