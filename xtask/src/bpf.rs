//! The BPF toolchain: a Rust toolchain with the standard library's source, and bpf-linker.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::Missing;
use crate::toolchain::{self, RustToolchain};
use crate::{apt, process};

/// Debian's newer Rust, kept for its browsers.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The release of bpf-linker; each one supports a few versions of LLVM by features `llvm-N`.
const LINKER: &str = "0.13.0";

/// Finds or installs everything that the build of the kernel side needs.
pub(crate) fn ensure(rebuild_linker: bool) -> Result<(), Missing> {
    let rust = match RustToolchain::find() {
        Some(rust) => rust,
        None => install_rust().map_err(|why| Missing {
            what: "a Rust toolchain with rust-src".to_owned(),
            why,
            help: "rustup toolchain install nightly --component rust-src".to_owned(),
        })?,
    };
    if !rebuild_linker && toolchain::find_linker().is_some() {
        return Ok(());
    }
    let llvm = llvm(&rust);
    install_linker(llvm.as_deref()).map_err(|why| Missing {
        what: format!("bpf-linker {LINKER}"),
        why,
        help: format!("cargo install bpf-linker --version {LINKER}"),
    })
}

fn install_rust() -> Result<RustToolchain> {
    apt::install(&DEBIAN_RUST)?;
    RustToolchain::find().context("Debian's packages are installed, but too old or incomplete")
}

/// Major version of the compiler's LLVM: the linker's must not be older.
fn llvm(rust: &RustToolchain) -> Option<String> {
    let version = rust.version()?;
    let llvm = toolchain::field(&version, "LLVM version")?;
    Some(llvm.split('.').next()?.to_owned())
}

fn install_linker(llvm: Option<&str>) -> Result<()> {
    let Some(llvm) = llvm else { bail!("rustc does not say which LLVM it has") };
    let prefix = llvm_prefix(llvm)?;
    println!("installing bpf-linker {LINKER} for LLVM {llvm}");
    // Without optimising, in half of the time: what works there is LLVM, which is optimised.
    process::run(
        process::cargo()
            .args(["install", "bpf-linker", "--debug", "--quiet", "--locked", "--force", "--version", LINKER])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
            .arg(toolchain::linker_root())
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("LLVM_PREFIX", &prefix)
            .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix),
    )
}

/// Where LLVM's libraries are, installed if need be.
fn llvm_prefix(llvm: &str) -> Result<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if !has_llvm(&debian) {
        let [dev, polly] = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
        apt::install(&[&dev, &polly, "libzstd-dev", "zlib1g-dev", "libxml2-dev"])
            .with_context(|| format!("LLVM {llvm} for developers ({dev}) is not installed"))?;
    }
    Ok(debian)
}

fn has_llvm(prefix: &Path) -> bool {
    Command::new(prefix.join("bin/llvm-config")).arg("--version").output().is_ok()
}
