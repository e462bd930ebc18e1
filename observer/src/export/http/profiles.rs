//! `/debug/pprof/goroutine?pid=N`: what `net/http/pprof` answers inside a process, for any process.
//!
//! A profile shows what a process does, to whoever reaches the port, and costs more than a scrape: clients on
//! other machines are refused unless they are wanted, and there is one profile at a time with a pause after it.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::HttpState;
use crate::export::profile::Format;

/// Where it is.
pub(super) const PATH: &str = "/debug/pprof/goroutine";

/// How long a profile may take in all: less than a connection may.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// After a profile there is a pause that is so many times as long: they take a fifth of one CPU at most.
const PAUSE: u32 = 4;
/// Profiles whose process doesn't answer are left to their threads, so many at most.
const THREADS: usize = 4;
/// Parts of a profile that may wait for a slow client, and bytes of each.
const QUEUE: usize = 4;
const PART: usize = 64 << 10;

/// Which clients get profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    Off,
    /// Those on this machine.
    Loopback,
    /// Whoever reaches the port.
    All,
}

/// Why there is no profile: one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such process.
    #[error("{0}")]
    NoProcess(String),
    /// It can't be observed.
    #[error("{0}")]
    NotATarget(String),
    /// It ended, or didn't answer in time, before all was read.
    #[error("{0}")]
    Interrupted(String),
    /// The client has gone.
    #[error(transparent)]
    Client(#[from] io::Error),
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NoProcess(_) => StatusCode::NOT_FOUND,
            Self::NotATarget(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Interrupted(_) | Self::Client(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Writes the profile of a process, in a thread that may wait for it.
pub type Take = dyn Fn(u32, Format, &mut dyn Write) -> Result<(), Refusal> + Send + Sync;

/// Profiles over HTTP.
#[derive(Clone)]
pub struct Profiles {
    access: Access,
    take: Arc<Take>,
    slot: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    /// When the next one may be taken.
    next: Arc<Mutex<Option<Instant>>>,
}

impl fmt::Debug for Profiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiles").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Profiles {
    /// Profiles for these clients.
    #[must_use]
    pub fn new(access: Access, take: Arc<Take>) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { access, take, slot: semaphore(1), threads: semaphore(THREADS), next: Arc::default() }
    }

    /// Nobody gets any.
    #[must_use]
    pub fn off() -> Self {
        Self::new(Access::Off, Arc::new(|_, _, _| Ok(())))
    }

    /// Why this client gets none.
    pub(super) fn refuses(&self, peer: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
        let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        match self.access {
            Access::Off => Some("profiles are switched off by --web.profiles=off\n"),
            Access::All => None,
            Access::Loopback if !peer.to_canonical().is_loopback() => Some(
                "profiles are for clients on the observer's own machine; --web.profiles=all serves them to all\n",
            ),
            // A name that leads here may belong to a page in somebody's browser.
            Access::Loopback if !host.is_none_or(is_local) => Some(
                "profiles are served at localhost or an address; --web.profiles=all serves them at any name\n",
            ),
            Access::Loopback => None,
        }
    }

    /// The only place there is, or how long to wait for it.
    fn place(&self) -> Result<Place, Duration> {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(Instant::now()));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        let permit = self.slot.clone().try_acquire_owned().map_err(|_| Duration::from_secs(1))?;
        Ok(Place { _permit: permit, since: Instant::now(), next: self.next.clone() })
    }

    /// Starts to take a profile; `None` when too many threads wait for processes that don't answer.
    fn start(&self, pid: u32, format: Format) -> Option<mpsc::Receiver<Part>> {
        let permit = self.threads.clone().try_acquire_owned().ok()?;
        let (to, parts) = mpsc::channel(QUEUE);
        let take = self.take.clone();
        let run = move || {
            let mut writer = io::BufWriter::with_capacity(PART, Parts(to.clone()));
            let taken = take(pid, format, &mut writer).and_then(|()| Ok(writer.flush()?));
            if let Err(refusal) = taken {
                // What is left in the buffer belongs to a profile that has no end.
                drop(writer.into_parts());
                to.blocking_send(Err(refusal)).ok();
            }
            drop(permit);
        };
        // Not one of the runtime's threads: at its end it waits for those.
        std::thread::Builder::new().name("observer-profile".to_owned()).spawn(run).ok()?;
        Some(parts)
    }
}

/// The name or address in a `Host` header leads here whatever a name server says.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// A profile that is being taken; when it is over the pause begins.
struct Place {
    _permit: OwnedSemaphorePermit,
    since: Instant,
    next: Arc<Mutex<Option<Instant>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = Instant::now() + self.since.elapsed() * PAUSE;
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }
}

type Part = Result<Bytes, Refusal>;

/// Hands over what is written.
struct Parts(mpsc::Sender<Part>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(part)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A profile on its way. If it breaks off the connection does too, so that nobody takes it for whole.
struct Stream {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Part>,
    _place: Place,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let part = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.rest.poll_recv(context)),
        };
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }
}

/// What a request asks for; the answer to a bad one.
fn parse(uri: &Uri) -> Result<(u32, u32), &'static str> {
    let (mut pid, mut debug) = (None, 0);
    for (key, value) in uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "pid" => pid = value.parse().ok(),
            // What is no number is 0, as in Go.
            "debug" => debug = value.parse().unwrap_or(0),
            "seconds" => return Err("a goroutine profile is of one moment: ask without seconds\n"),
            _ => {}
        }
    }
    let pid = pid.ok_or("say of which process: ?pid=N, and debug=1 or 2 for text\n")?;
    Ok((pid, debug))
}

/// Answers as `net/http/pprof` does.
pub(super) async fn goroutine(
    State(state): State<HttpState>,
    Extension(peer): Extension<IpAddr>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let profiles = &state.profiles;
    if let Some(reason) = profiles.refuses(peer, &headers) {
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    let (pid, debug) = match parse(&uri) {
        Ok(request) => request,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    let place = match profiles.place() {
        Ok(place) => place,
        Err(wait) => return busy(wait),
    };
    tracing::info!(pid, %peer, "taking a goroutine profile");
    let (format, kind) = match debug {
        0 => (Format::Pprof, "application/octet-stream"),
        1 => (Format::Debug1, "text/plain; charset=utf-8"),
        _ => (Format::Debug2, "text/plain; charset=utf-8"),
    };
    let Some(mut parts) = profiles.start(pid, format) else {
        let reason = "no thread is free: earlier profiles still wait for processes that don't answer\n";
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    };
    let first = match timeout(DEADLINE, parts.recv()).await {
        Ok(Some(Ok(first))) => first,
        Ok(Some(Err(refusal))) => return (refusal.status(), format!("{refusal}\n")).into_response(),
        Ok(None) => {
            let reason = "the profile failed by a mistake in observer: please report it\n";
            return (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response();
        }
        Err(_) => {
            let reason = format!("process {pid} did not answer within {DEADLINE:?}\n");
            return (StatusCode::GATEWAY_TIMEOUT, reason).into_response();
        }
    };
    let mut response = Body::new(Stream { first: Some(first), rest: parts, _place: place }).into_response();
    let mut describe =
        |name, value| drop(response.headers_mut().insert(name, header::HeaderValue::from_static(value)));
    describe(header::CONTENT_TYPE, kind);
    describe(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if debug == 0 {
        describe(header::CONTENT_DISPOSITION, "attachment; filename=\"goroutine\"");
    }
    response
}

fn busy(wait: Duration) -> Response {
    let seconds = wait.as_secs_f64().ceil();
    let reason = format!("one profile is taken at a time, with a pause after it: ask again in {seconds} s\n");
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], reason).into_response()
}

#[cfg(test)]
mod tests {
    use super::is_local;

    /// Names that a name server may lead anywhere are not local.
    #[test]
    fn local_hosts() {
        for host in
            ["localhost", "LocalHost:9764", "127.0.0.1", "127.0.0.1:80", "[::1]:9764", "[::1]", "10.0.0.1:1"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com:80", "127.0.0.1.example.com", "localhost:80x"]
        {
            assert!(!is_local(host), "{host}");
        }
    }
}
