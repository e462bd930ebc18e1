//! What reading a large executable costs.

use crate::child::{self, MEBIBYTE};
use crate::report::{Goal, Report, median};
use anyhow::Result;
use observer_tests::build::{Variant, build};
use observer_tests::go::Go;
use observer_tests::large;
use std::path::Path;

const BENCH: &str = "inspect";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let rounds = if short { 2 } else { 9 };
    let (large, small) = (large::build(Go::USUAL)?, build("leak", Go::USUAL, Variant::Stripped)?);
    let mut times = Vec::new();
    let (mut large_bytes, mut small_bytes) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        small_bytes.push(inspect(&small)?.1);
        let (milliseconds, bytes) = inspect(&large)?;
        times.push(milliseconds);
        large_bytes.push(bytes);
    }
    let megabytes = std::fs::metadata(&large)?.len() / 1_000_000;
    let what = format!("executable of {megabytes} MB");
    report.goal(BENCH, &what, median(times)?, "ms", Goal::AtMost(100.0));
    let (large_bytes, small_bytes) = (median(large_bytes)?, median(small_bytes)?);
    report.add(BENCH, format!("{what}, peak memory"), large_bytes / MEBIBYTE, "MiB");
    let extra = (large_bytes - small_bytes) / MEBIBYTE;
    report.goal(BENCH, format!("{what}, more than a small one's"), extra, "MiB", Goal::AtMost(20.0));
    Ok(())
}

/// Wall time in milliseconds and peak resident memory in bytes of one `observer inspect`.
fn inspect(path: &Path) -> Result<(f64, f64)> {
    let ran = child::run(&["inspect", &path.display().to_string(), "--output", "json"])?;
    Ok((ran.seconds * 1e3, ran.peak_bytes))
}
