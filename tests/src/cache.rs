//! Where `cargo xtask setup` puts what outlives a checkout.

use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

/// The cache directory: `$OBSERVER_CACHE`, else `$XDG_CACHE_HOME/observer`, else `$HOME/.cache/observer`.
///
/// # Errors
/// When none of the three variables is set.
pub fn root() -> Result<PathBuf> {
    if let Some(own) = env::var_os("OBSERVER_CACHE") {
        return Ok(own.into());
    }
    if let Some(base) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(base).join("observer"));
    }
    let home = env::var_os("HOME").context("set OBSERVER_CACHE: there is no HOME to put a cache under")?;
    Ok(PathBuf::from(home).join(".cache/observer"))
}
