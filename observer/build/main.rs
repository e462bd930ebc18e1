//! Builds the kernel side (`observer-ebpf`) for BPF, to be embedded in the binary.
//!
//! The crate gets the object's path as `OBSERVER_BPF_OBJECT`. Without the feature `bpf` there is nothing to do.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use toolchain::RustToolchain;

mod toolchain;

/// Set by the outer cargo, or by its user for the host: all wrong for a build for BPF by another toolchain.
const INHERITED: [&str; 12] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

const TARGET: &str = "bpfel-unknown-none";
const MISSING: &str = "no BPF toolchain found: run `cargo xtask setup` \
                       (or build without probes: --no-default-features)";

fn main() {
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_BPF").is_none() {
        return;
    }
    for input in ["../observer-ebpf/Cargo.toml", "../observer-ebpf/src", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={input}");
    }
    for variable in ["OBSERVER_CACHE", "XDG_CACHE_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    match build() {
        Ok(object) => println!("cargo::rustc-env=OBSERVER_BPF_OBJECT={}", object.display()),
        Err(Failure::Sentence(sentence)) => println!("cargo::error={sentence}"),
        // Cargo shows what a script wrote to standard error only when its status says that it failed.
        Err(Failure::Compiler(hint)) => {
            eprintln!("{hint}");
            std::process::exit(1);
        }
    }
}

enum Failure {
    /// All there is to say.
    Sentence(String),
    /// The compiler has said it; this is a hint.
    Compiler(String),
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

/// Path of the object.
fn build() -> Result<PathBuf, Failure> {
    await_setup();
    let (Some(rust), Some(linker)) = (RustToolchain::find(), toolchain::find_linker()) else {
        return Err(Failure::from(MISSING.to_owned()));
    };
    let target_dir = Path::new(&variable("OUT_DIR")?).join("bpf");
    if !compile(&rust, &linker, &target_dir)? {
        return Err(Failure::Compiler(format!(
            "the eBPF programs do not build with {} and {}; if the linker's LLVM is older than the \
             compiler's, run `cargo xtask setup --rebuild-linker`",
            rust.root.display(),
            linker.display()
        )));
    }
    Ok(target_dir.join(TARGET).join("release/observer-ebpf"))
}

/// Waits until nobody installs the BPF toolchain: `cargo xtask` does that while cargo compiles what doesn't need it.
fn await_setup() {
    // Without the file nobody ever did; what is missing is said later.
    if let Ok(lock) = File::open(toolchain::cache().join(toolchain::BUILDING)) {
        let _ = lock.lock_shared();
    }
}

/// Runs the other toolchain's cargo; whether it succeeded. Its messages go to our standard error.
fn compile(rust: &RustToolchain, linker: &Path, target_dir: &Path) -> Result<bool, String> {
    let own = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = own.parent().ok_or("the package is in no workspace")?;
    let manifest = workspace.join("observer-ebpf/Cargo.toml");
    let status = cargo(rust)
        .args(["build", "--release", "--locked", "--bin=observer-ebpf", "-Zbuild-std=core"])
        // A whole program for one target, with the types that become BTF.
        .args(["--config", "profile.release.lto=\"fat\"", "--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.debug=2", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .arg("--manifest-path")
        .arg(manifest)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&variable("CARGO_CFG_TARGET_ARCH")?, workspace))
        .stdout(Stdio::null())
        .status();
    status.map(|status| status.success()).map_err(|error| format!("cannot run {:?}: {error}", rust.root))
}

/// The other toolchain's cargo, with nothing of the outer build in its environment.
///
/// Unstable options are allowed: `-Z build-std` is needed even when the toolchain is no nightly.
fn cargo(rust: &RustToolchain) -> Command {
    let mut command = Command::new(rust.program("cargo"));
    for variable in INHERITED {
        command.env_remove(variable);
    }
    command.env("RUSTC", rust.program("rustc")).env("RUSTC_BOOTSTRAP", "1");
    command
}

/// `bpf_target_arch` tells aya-ebpf whose registers a probe sees. The sources' folder is left out of the line information,
/// which becomes part of the observer: it doesn't depend on where it is built.
fn flags(arch: &str, workspace: &Path) -> String {
    let sources = workspace.display();
    let own = [format!("--cfg=bpf_target_arch=\"{arch}\""), format!("--remap-path-prefix={sources}=.")];
    [&own[0], &own[1], "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f")
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("cargo did not set {name}: {error}"))
}
