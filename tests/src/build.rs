//! Builds fixtures, each version and variant once: results live in the cache, keyed by the sources.

use crate::cache;
use crate::go::{Go, Toolchain};
use crate::prebuilt;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a fixture is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// `go build`, no cgo.
    Static,
    /// Without symbols, DWARF and build paths.
    Stripped,
    /// Position-independent, loaded by the dynamic loader.
    Pie,
    /// Position-independent and linked statically by the C linker.
    StaticPie,
    /// With C code, linked dynamically by the C linker.
    Cgo,
    /// With C code and stripped.
    CgoStripped,
    /// Linked statically by the C linker.
    External,
    /// Optimisation and inlining off, as for a debugger.
    Unoptimised,
    /// 32-bit x86.
    I386,
}

impl Variant {
    /// Every variant that an observer on amd64 must read.
    pub const READABLE: [Self; 8] = [
        Self::Static,
        Self::Stripped,
        Self::Pie,
        Self::StaticPie,
        Self::Cgo,
        Self::CgoStripped,
        Self::External,
        Self::Unoptimised,
    ];

    /// Whether it needs a C compiler.
    #[must_use]
    pub const fn needs_c(self) -> bool {
        matches!(self, Self::StaticPie | Self::Cgo | Self::CgoStripped | Self::External)
    }

    /// Arguments for `go build`.
    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Static | Self::Cgo | Self::I386 => &[],
            Self::Stripped | Self::CgoStripped => &["-trimpath", "-ldflags=-s -w"],
            Self::Pie => &["-buildmode=pie"],
            Self::StaticPie => &["-buildmode=pie", "-ldflags=-linkmode=external -extldflags=-static-pie"],
            Self::External => &["-ldflags=-linkmode=external -extldflags=-static"],
            Self::Unoptimised => &["-gcflags=all=-N -l"],
        }
    }
}

/// What one build is made of.
pub(crate) struct Recipe<'a> {
    /// Directory of the main package.
    pub(crate) fixture: &'a str,
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) variant: Variant,
    /// Changes with the sources.
    pub(crate) hash: u64,
}

/// Builds `fixtures/NAME`, or returns what an earlier test or the host of this guest built.
///
/// # Errors
/// When the toolchain is missing or the build fails.
pub fn build(fixture: &str, go: Go, variant: Variant) -> Result<PathBuf> {
    if let Some(path) = prebuilt::find(fixture, go, variant)? {
        return Ok(path);
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let hash = hash(&[&sources.join("go.mod"), &sources.join("internal"), &sources.join(fixture)])?;
    let recipe = Recipe { fixture, toolchain: &go.toolchain()?, variant, hash };
    build_cached(&recipe, || go_build(&sources, &recipe))
}

/// The cache's executable for a recipe; `make` builds it when it isn't there, and returns where it put it.
pub(crate) fn build_cached(recipe: &Recipe<'_>, make: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    let output = cached(recipe)?;
    // Tests run in parallel, also in several processes: one of them builds.
    let lock = File::create(output.with_added_extension("lock"))?;
    lock.lock()?;
    if !output.exists() {
        fs::rename(make()?, &output)?;
    }
    Ok(output)
}

/// Where the cache has the executable for a recipe.
fn cached(recipe: &Recipe<'_>) -> Result<PathBuf> {
    let directory = cache::root()?.join("fixtures");
    fs::create_dir_all(&directory)?;
    let Recipe { fixture, toolchain, variant, hash } = recipe;
    Ok(directory.join(format!("{fixture}-{}-{variant:?}-{hash:016x}", toolchain.version).to_lowercase()))
}

/// Runs `go build`; returns where the result is, beside its place in the cache.
pub(crate) fn go_build(sources: &Path, recipe: &Recipe<'_>) -> Result<PathBuf> {
    let Recipe { fixture, toolchain, variant, .. } = recipe;
    let unfinished = cached(recipe)?.with_added_extension("unfinished");
    let cache = cache::root()?;
    let output = Command::new(&toolchain.go)
        .current_dir(sources)
        .args(["build", "-o"])
        .arg(&unfinished)
        .args(variant.flags())
        .arg(format!("./{fixture}"))
        .env("CGO_ENABLED", if variant.needs_c() { "1" } else { "0" })
        .env("GOARCH", if *variant == Variant::I386 { "386" } else { "amd64" })
        .env("GOCACHE", cache.join("go-build"))
        .env("GOPATH", cache.join("go-path"))
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-buildvcs=false")
        .env("GOENV", "off")
        .env_remove("GOROOT")
        .env_remove("GOEXPERIMENT")
        .env_remove("GOAMD64")
        .output()
        .with_context(|| format!("cannot run {}", toolchain.go.display()))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {fixture} {variant:?}: {message}", toolchain.version);
    Ok(unfinished)
}

/// A number that changes with the content and the names of the files below `roots`.
fn hash(roots: &[&Path]) -> Result<u64> {
    let mut files = Vec::new();
    for root in roots {
        collect(root, &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        hasher.write(file.as_os_str().as_encoded_bytes());
        hasher.write(&fs::read(&file)?);
    }
    Ok(hasher.finish())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("no fixture at {}", path.display()))?;
    for entry in entries {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
