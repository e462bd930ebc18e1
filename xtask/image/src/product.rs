//! The image of the observer itself.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::{Image, write};

/// The name below `localhost/` can't be had from any registry: nobody else's image is started by mistake.
const NAME: &str = "localhost/observer";

/// Packs an observer into an image in the file `output`. Its name is `localhost/observer:VERSION` unless given; returns it.
///
/// # Errors
/// When `binary` is no statically linked program, `objcopy` is missing, or `output` can't be written.
pub fn pack(binary: &Path, output: &Path, name: Option<String>) -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let reference = name.unwrap_or_else(|| format!("{NAME}:{version}"));
    let image = Image {
        reference: &reference,
        name: "observer",
        program: &stripped(binary)?,
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
    let file = File::create(output).with_context(|| format!("cannot create {}", output.display()))?;
    write(&image, BufWriter::new(file))?;
    Ok(reference)
}

/// The program without line tables: they are most of its size. Function names stay, for its own backtraces.
fn stripped(binary: &Path) -> Result<Vec<u8>> {
    ensure_static(binary)?;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("observer");
    let objcopy = Command::new("objcopy").arg("--strip-debug").arg(binary).arg(&copy).status();
    let status = objcopy.context("cannot start objcopy, which is in binutils")?;
    ensure!(status.success(), "objcopy cannot strip {}", binary.display());
    Ok(fs::read(copy)?)
}

/// Checks that a program runs in an image that holds nothing else.
///
/// # Errors
/// When there is none, or it needs a dynamic loader.
pub fn ensure_static(binary: &Path) -> Result<()> {
    let program = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let header = FileHeader64::<object::Endianness>::parse(&*program)?;
    let endian = header.endian()?;
    let mut segments = header.program_headers(endian, &*program)?.iter();
    let needs_loader = segments.any(|segment| segment.p_type(endian) == PT_INTERP);
    ensure!(!needs_loader, "{} needs a dynamic loader: build it by `cargo xtask build`", binary.display());
    Ok(())
}
