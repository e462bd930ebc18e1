//! The file of `--web.config.file`, in the format of Prometheus's exporter-toolkit: TLS, client certificates,
//! passwords and headers.

mod file;
mod passwords;
mod reload;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderMap;
use tokio_rustls::TlsAcceptor;

pub(super) use passwords::Passwords;
pub use reload::watch_config;

use super::HttpError;
use reload::Stamps;

/// What the file says; without a file neither TLS nor passwords.
#[derive(Default)]
pub struct WebConfig {
    path: Option<PathBuf>,
    /// The file and those it names, as they were right before they were read.
    stamps: Stamps,
    /// Accepts TLS; `None` for plain HTTP.
    pub(super) tls: Option<TlsAcceptor>,
    /// Added to every answer.
    pub(super) headers: HeaderMap,
    /// User → bcrypt hash of the password; empty when none is needed.
    pub(super) users: BTreeMap<String, String>,
}

impl WebConfig {
    /// Reads the file and the certificates that it names.
    ///
    /// # Errors
    /// [`HttpError::Config`].
    pub fn load(path: Option<&Path>) -> Result<Arc<Self>, HttpError> {
        let Some(path) = path else { return Ok(Arc::default()) };
        file::load(path).map(Arc::new).map_err(|reason| HttpError::Config { path: path.to_owned(), reason })
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests;
