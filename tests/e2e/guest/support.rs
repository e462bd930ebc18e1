//! What several of the guest's tests need.

use anyhow::{Context, Result};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use std::fs;
use std::path::PathBuf;

/// Starts the program that uses up what a cgroup limits.
pub(crate) fn limits() -> Result<Fixture> {
    Fixture::start("limits", Go::USUAL, Variant::Static, &[])
}

/// Starts a program with some goroutines that wait for ever.
pub(crate) fn leak(total: &str) -> Result<Fixture> {
    Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0", "-total", total])
}

/// The same program, for others to start.
pub(crate) fn leak_program() -> Result<PathBuf> {
    build("leak", Go::USUAL, Variant::Static)
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel() -> Result<(u64, u64)> {
    version(&fs::read_to_string("/proc/sys/kernel/osrelease")?)
}

/// The first two numbers of a version.
pub(crate) fn version(text: &str) -> Result<(u64, u64)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (major, minor) = numbers.next().zip(numbers.next()).context("not a version")?;
    Ok((major?, minor?))
}

/// Whether two numbers differ by less than a millionth of the larger.
pub(crate) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= a.abs().max(b.abs()) * 1e-6
}
