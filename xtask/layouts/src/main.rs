//! Measures the structs of Go runtimes, and prints the layout table. `cargo xtask layouts` builds the executables.
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use measure::Measured;

mod dwarf;
mod fields;
mod measure;
mod render;

#[derive(Parser)]
struct Args {
    /// Executables with DWARF, named as the toolchain that built them (go1.24.11)
    #[arg(required = true)]
    executables: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // One entry per minor version, oldest first.
    let mut minors: BTreeMap<u32, Measured> = BTreeMap::new();
    for executable in &args.executables {
        let measured = Measured::of(executable)?;
        match minors.get_mut(&measured.minor) {
            Some(known) => known.merge(measured)?,
            None => drop(minors.insert(measured.minor, measured)),
        }
    }
    print!("{}", render::file(&minors.into_values().collect::<Vec<_>>())?);
    Ok(())
}
