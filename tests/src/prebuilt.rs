//! Fixtures for guests, which have no Go: built by the host into a folder that `OBSERVER_FIXTURES` names there.

use crate::build::{Variant, build};
use crate::go::Go;
use anyhow::{Context, Result, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What the tests start that `cargo xtask vm` runs in guests; those are listed in `xtask/src/vm/suite.rs`.
fn list() -> Vec<(&'static str, Go, Variant)> {
    let usual = ["incident", "leak", "limits"].map(|name| (name, Go::USUAL, Variant::Static));
    let stripped = [("leak", Go::USUAL, Variant::Stripped)];
    let churn = Go::MATRIX.map(|go| ("churn", go, Variant::Stripped));
    let settings = [
        ("incident", Go(19), Variant::Static),
        ("incident", Go::USUAL, Variant::Stripped),
        ("incident", Go::NEWEST, Variant::Static),
        ("incident", Go::NEWEST, Variant::Pie),
    ];
    [&usual[..], &stripped, &churn, &settings].concat()
}

/// Builds everything that guests need, and puts it into an empty folder.
///
/// # Errors
/// When a toolchain is missing, a build fails, or the folder can't be written.
pub fn build_all(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for (fixture, go, variant) in list() {
        fs::copy(build(fixture, go, variant)?, folder.join(file_name(fixture, go, variant)))?;
    }
    Ok(())
}

/// The fixture that the host built; `None` where fixtures are built when they are needed.
pub(crate) fn find(fixture: &str, go: Go, variant: Variant) -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("OBSERVER_FIXTURES") else { return Ok(None) };
    let path = PathBuf::from(folder).join(file_name(fixture, go, variant));
    ensure!(path.exists(), "{} was not built: add it to tests/src/prebuilt.rs", path.display());
    Ok(Some(path))
}

fn file_name(fixture: &str, go: Go, variant: Variant) -> String {
    format!("{fixture}-1.{}-{variant:?}", go.0).to_lowercase()
}

/// Where the program `prebuild` shall put them.
///
/// # Errors
/// When it isn't told.
pub fn folder_argument() -> Result<PathBuf> {
    Ok(env::args_os().nth(1).context("usage: prebuild FOLDER")?.into())
}
