//! `/metrics`, health and a landing page over HTTP.
//!
//! Anyone who reaches the port may be slow, endless or many: a connection serves one request and has a
//! deadline, and there is a fixed number of them. A scrape reads the latest view and nothing else.

mod landing;
mod render;
mod routes;
mod server;
mod web;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

pub use server::serve;
pub use web::{WebConfig, watch_config};

use crate::model::view::View;

/// Paths that the observer itself answers.
const RESERVED: [&str; 3] = ["/", "/healthz", "/readyz"];

/// What requests are answered from.
#[derive(Debug, Clone)]
pub struct HttpState {
    views: watch::Receiver<Option<Arc<View>>>,
    interval: Duration,
    telemetry_path: Arc<str>,
    rendered: Arc<Mutex<Option<render::Rendered>>>,
    /// When the latest view came; written by [`serve`].
    last_view: Arc<watch::Sender<Option<Instant>>>,
    limits: Limits,
}

/// What a client may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at a time; past them one that is idle gives way.
    connections: usize,
    /// Time until the request's header must be there.
    header: Duration,
    /// Time that a connection may take in all.
    connection: Duration,
    /// Bytes of the request's header.
    header_bytes: usize,
}

impl Limits {
    const DEFAULT: Self = Self {
        connections: 64,
        header: Duration::from_secs(5),
        connection: Duration::from_secs(30),
        header_bytes: 16 * 1024,
    };
}

/// Why the server can't start. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --web.listen-address")]
    Bind {
        /// As the user gave it.
        address: String,
        /// From the system or the resolver.
        source: io::Error,
    },
    /// The file of the web configuration can't be used.
    #[error("cannot use the web configuration {}: {reason}", path.display())]
    Config {
        /// As the user gave it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The path of the metrics can't be used.
    #[error(
        "metrics cannot be served at {path:?}: --web.telemetry-path must start with /, hold only letters, \
         digits and -_.~/, and be another path than /, /healthz and /readyz"
    )]
    TelemetryPath {
        /// As the user gave it.
        path: String,
    },
}

impl HttpState {
    /// Answers from the latest of `views`, of which one is due every `interval`; metrics are served at
    /// `telemetry_path`.
    ///
    /// # Errors
    /// [`HttpError::TelemetryPath`].
    pub fn new(
        views: watch::Receiver<Option<Arc<View>>>,
        interval: Duration,
        telemetry_path: &str,
    ) -> Result<Self, HttpError> {
        // What needs no escaping in a URL and means nothing to the router.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if !telemetry_path.starts_with('/')
            || !telemetry_path.chars().all(plain)
            || RESERVED.contains(&telemetry_path)
        {
            return Err(HttpError::TelemetryPath { path: telemetry_path.to_owned() });
        }
        let seen = views.borrow().is_some().then(Instant::now);
        Ok(Self {
            views,
            interval,
            telemetry_path: telemetry_path.into(),
            rendered: Arc::default(),
            last_view: Arc::new(watch::Sender::new(seen)),
            limits: Limits::DEFAULT,
        })
    }

    fn view(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }
}

/// Listens on `address`: `HOST:PORT`, or `:PORT` for every address of the machine.
///
/// # Errors
/// [`HttpError::Bind`].
pub async fn bind(address: &str) -> Result<TcpListener, HttpError> {
    let listener = match address.strip_prefix(':') {
        // One IPv6 socket takes both families, except where IPv6 is switched off.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await
            }
            result => result,
        },
        None => TcpListener::bind(address).await,
    };
    listener.map_err(|source| HttpError::Bind { address: address.to_owned(), source })
}

#[cfg(test)]
mod tests;
