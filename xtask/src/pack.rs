//! `cargo xtask image`: the observer as a container image.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::image::{self, Image};

use crate::{build, process};

/// The name below `localhost/` can't be had from any registry: nobody else's image is started by mistake.
const NAME: &str = "localhost/observer";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name and tag of the image (default: localhost/observer:VERSION)
    #[arg(long)]
    name: Option<String>,
    /// File to write (default: observer-VERSION.tar in the target directory)
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Pack this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let binary = args.binary.clone().map_or_else(build::run, Ok)?;
    let output = match &args.output {
        Some(output) => output.clone(),
        None => process::target_dir()?.join(format!("observer-{version}.tar")),
    };
    let reference = args.name.clone().unwrap_or_else(|| format!("{NAME}:{version}"));
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
    image::write(&image, BufWriter::new(file))?;
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
    process::run(Command::new("objcopy").arg("--strip-debug").arg(binary).arg(&copy))?;
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
