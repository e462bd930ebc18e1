//! The Go toolchains that fixtures are built with, where `cargo xtask setup` puts them.

use crate::cache;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// A Go release line: `Go(24)` is Go 1.24.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Go(pub u32);

impl Go {
    /// The versions that every count is tested with: the oldest, the newest, and each `struct g` layout between.
    pub const MATRIX: [Self; 5] = [Self(19), Self(21), Self(24), Self(26), Self(27)];
    /// The version for tests in which the version doesn't matter.
    pub const USUAL: Self = Self(24);
    /// The newest version.
    pub const NEWEST: Self = Self(27);

    /// The installed toolchain of this line.
    ///
    /// # Errors
    /// When there is none.
    pub fn toolchain(self) -> Result<Toolchain> {
        let root = cache::root()?.join(format!("go/1.{}", self.0));
        let version = fs::read_to_string(root.join("VERSION"));
        let version =
            version.with_context(|| format!("Go 1.{} is not installed: run `cargo xtask setup`", self.0))?;
        let version = version.lines().next().unwrap_or_default().trim().to_owned();
        Ok(Toolchain { go: root.join("bin/go"), version })
    }
}

/// One installed toolchain.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The `go` command.
    pub go: PathBuf,
    /// As in its VERSION file, such as `go1.24.11`.
    pub version: String,
}
