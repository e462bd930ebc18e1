//! Packs an observer into a container image: the program behind `cargo xtask image`.
#![allow(clippy::print_stdout, reason = "this program talks to a person, not to a log")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// The program
    binary: PathBuf,
    /// File to write
    output: PathBuf,
    /// Name and tag of the image (default: localhost/observer:VERSION)
    #[arg(long)]
    name: Option<String>,
}

fn main() -> ExitCode {
    let Err(error) = pack(Args::parse()) else { return ExitCode::SUCCESS };
    // A person needs the reason; returned from main it would bring a backtrace wherever those are on.
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn pack(Args { binary, output, name }: Args) -> Result<()> {
    let reference = observer_image::pack(&binary, &output, name)?;
    let size = fs::metadata(&output)?.len() as f64 / 1e6;
    println!("{reference} is in {} ({size:.1} MB); to install it on a node:", output.display());
    println!("  ctr --namespace k8s.io images import {}", output.display());
    Ok(())
}
