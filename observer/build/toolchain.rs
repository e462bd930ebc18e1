//! Finds what compiles the kernel side: a Rust toolchain with the standard library's source, and bpf-linker.
//!
//! The build script of `observer` and `xtask` both include this file, so that they agree on what "set up" means.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Rust toolchain that can build `core` for a target that has none prebuilt.
#[derive(Debug)]
pub(crate) struct RustToolchain {
    /// Sysroot, for example `~/.rustup/toolchains/nightly-x86_64-unknown-linux-gnu` or `/usr`.
    pub(crate) root: PathBuf,
}

impl RustToolchain {
    /// The first usable one of: rustup's toolchains (nightly first), the system's (`/usr`).
    pub(crate) fn find() -> Option<Self> {
        let usr = [PathBuf::from("/usr")];
        rustup_toolchains().into_iter().chain(usr).map(|root| Self { root }).find(Self::is_usable)
    }

    /// What `rustc -vV` prints.
    pub(crate) fn version(&self) -> Option<String> {
        let output = Command::new(self.program("rustc")).arg("-vV").stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()
    }

    /// Path of `rustc`, `cargo`, ….
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    fn is_usable(&self) -> bool {
        // Distributions patch the vendored crates in; without the lock file build-std does not start.
        let source = self.root.join("lib/rustlib/src/rust/library");
        source.join("core/src/lib.rs").is_file()
            && source.join("Cargo.lock").is_file()
            && self.program("cargo").is_file()
            && self.is_new_enough()
    }

    fn is_new_enough(&self) -> bool {
        let version = self.version();
        let release = version.as_deref().and_then(|text| field(text, "release"));
        release.and_then(major_minor) >= major_minor(env!("CARGO_PKG_RUST_VERSION"))
    }
}

/// Path of a bpf-linker that runs: the cache's, which was built for the toolchain, or else the one in `PATH`.
pub(crate) fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![linker_root().join("bin")];
    folders.extend(env::split_paths(&path));
    folders.into_iter().map(|folder| folder.join("bpf-linker")).find(|file| runs(file))
}

/// Where `cargo xtask setup` installs bpf-linker.
pub(crate) fn linker_root() -> PathBuf {
    cache().join("bpf-linker")
}

/// Held, in [`cache`], by who installs what is found here: others wait for it.
pub(crate) const BUILDING: &str = "setup-building.lock";

/// What is fetched once per machine: `$OBSERVER_CACHE`, else `$XDG_CACHE_HOME/observer`, else `~/.cache/observer`.
pub(crate) fn cache() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("observer");
    set("OBSERVER_CACHE").unwrap_or_else(user)
}

/// The value of a `name: value` line in the output of `rustc -vV`.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn rustup_toolchains() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME").map_or_else(|| home().join(".rustup"), PathBuf::from);
    let entries = home.join("toolchains").read_dir().into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort_by_key(|path| (!is_nightly(path), path.clone()));
    found
}

fn is_nightly(root: &Path) -> bool {
    root.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nightly"))
}

fn runs(file: &Path) -> bool {
    let version = Command::new(file).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// `1.96.0-nightly` is `(1, 96)`.
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn home() -> PathBuf {
    env::home_dir().unwrap_or_else(|| PathBuf::from("/root"))
}
