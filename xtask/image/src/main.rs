//! Packs an observer into a container image: the program behind `cargo xtask image`.
#![allow(clippy::print_stdout, reason = "this program talks to a person, not to a log")]

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use observer_image::Image;

/// The name below `localhost/` can't be had from any registry: nobody else's image is started by mistake.
const NAME: &str = "localhost/observer";

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
    let version = env!("CARGO_PKG_VERSION");
    let reference = name.unwrap_or_else(|| format!("{NAME}:{version}"));
    let image = Image {
        reference: &reference,
        name: "observer",
        program: &stripped(&binary)?,
        arguments: &["serve"],
        // Only root gets capabilities from a container runtime; the manifests leave it the few that it needs.
        user: "0:0",
        port: Some(9764),
        labels: &[
            ("org.opencontainers.image.title", "observer"),
            (
                "org.opencontainers.image.description",
                "Observes every goroutine of every Go process, from outside",
            ),
            ("org.opencontainers.image.version", version),
            ("org.opencontainers.image.licenses", "MIT OR Apache-2.0"),
        ],
    };
    let file = File::create(&output).with_context(|| format!("cannot create {}", output.display()))?;
    observer_image::write(&image, BufWriter::new(file))?;
    let size = fs::metadata(&output)?.len() as f64 / 1e6;
    println!("{reference} is in {} ({size:.1} MB); to install it on a node:", output.display());
    println!("  ctr --namespace k8s.io images import {}", output.display());
    Ok(())
}

/// The program without line tables: they are most of its size. Function names stay, for its own backtraces.
fn stripped(binary: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    ensure!(
        is_static(&bytes)?,
        "{} needs a dynamic loader: build it by `cargo xtask build`",
        binary.display()
    );
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("observer");
    let objcopy = Command::new("objcopy").arg("--strip-debug").arg(binary).arg(&copy).status();
    let status = objcopy.context("cannot start objcopy, which is in binutils")?;
    ensure!(status.success(), "objcopy cannot strip {}", binary.display());
    Ok(fs::read(copy)?)
}

/// Whether the program runs in an image that holds nothing else.
fn is_static(program: &[u8]) -> Result<bool> {
    use object::elf::{FileHeader64, PT_INTERP};
    use object::read::elf::{FileHeader, ProgramHeader};
    let header = FileHeader64::<object::Endianness>::parse(program)?;
    let endian = header.endian()?;
    let mut segments = header.program_headers(endian, program)?.iter();
    Ok(segments.all(|segment| segment.p_type(endian) != PT_INTERP))
}
