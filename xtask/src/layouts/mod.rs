//! `cargo xtask layouts`: measures the Go runtime's structs and writes the layout table.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::go::{self, Release};
use crate::{process, setup};
use measure::Measured;

mod dwarf;
mod fields;
mod measure;
mod render;

const TABLE: &str = "observer/src/gobin/layout/generated.rs";

/// Early patch releases, to see what moves within a minor version.
const EARLY: [&str; 5] = ["1.23.1", "1.24.3", "1.25.0", "1.26.0", "1.27.0"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say whether the committed table is what would be written
    #[arg(long)]
    check: bool,
    /// Measure this toolchain too (a folder with bin/go); may be repeated
    #[arg(long)]
    goroot: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let table = render::file(&measure_all(&args.goroot)?)?;
    let path = process::root().join(TABLE);
    if !args.check {
        fs::write(&path, table)?;
        println!("wrote {TABLE}");
    } else if fs::read_to_string(&path)? != table {
        bail!("{TABLE} is not what these toolchains have: run `cargo xtask layouts`");
    } else {
        println!("{TABLE} is what these toolchains have");
    }
    Ok(())
}

/// One entry per minor version, oldest first.
fn measure_all(extra: &[PathBuf]) -> Result<Vec<Measured>> {
    if !setup::go(Release::all())? {
        bail!("the table covers the toolchains named above too: without them it would lose versions");
    }
    let early = EARLY.iter().map(|version| go::wheel(version)).collect::<Result<Vec<_>>>()?;
    let roots = early.into_iter().chain(Release::all().iter().map(|release| release.root()));
    let mut minors: BTreeMap<u32, Measured> = BTreeMap::new();
    for root in roots.chain(extra.iter().cloned()) {
        let measured = Measured::of(&root)?;
        match minors.get_mut(&measured.minor) {
            Some(known) => known.merge(measured)?,
            None => drop(minors.insert(measured.minor, measured)),
        }
    }
    Ok(minors.into_values().collect())
}
