//! Connections: how many, how long, and how they end.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::{HttpState, Limits, WebConfig, routes};

/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be accepted (no file descriptor left): a retry at once would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Answers requests until `shutdown` ends, then finishes those that are under way, for at most five seconds.
/// A connection's errors end only the connection.
pub async fn serve(
    listeners: Vec<TcpListener>,
    web: watch::Receiver<Arc<WebConfig>>,
    state: HttpState,
    shutdown: impl Future,
) {
    let mut views = state.views.clone();
    let last_view = state.last_view.clone();
    let graceful = GracefulShutdown::new();
    let mut connections = Connections::new(state.limits, routes::router(state, web.clone()));
    let mut turn = 0;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            _ = &mut shutdown => break,
            // The sender is gone when no more views come: then they only get older.
            Ok(()) = views.changed() => {
                last_view.send_replace(Some(Instant::now()));
            }
            Some(_) = connections.running.join_next() => {}
            accepted = accept(&listeners, &mut turn) => match accepted {
                Ok(stream) => {
                    let tls = web.borrow().tls.clone();
                    connections.add(stream, tls, graceful.watcher());
                }
                Err(error) => retry_later(&error).await,
            },
        }
    }
    drop(listeners);
    let mut running = connections.running;
    // What doesn't finish in time is cut off as `running` is dropped.
    _ = timeout(DRAIN, async {
        graceful.shutdown().await;
        while running.join_next().await.is_some() {}
    })
    .await;
}

/// The next connection of any listener; each is looked at first in turn, so that none starves the others.
async fn accept(listeners: &[TcpListener], turn: &mut usize) -> io::Result<TcpStream> {
    *turn = turn.wrapping_add(1);
    let first = *turn % listeners.len().max(1);
    poll_fn(|context| {
        for listener in listeners[first..].iter().chain(&listeners[..first]) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

/// The connections that there are, oldest first.
struct Connections {
    limits: Limits,
    app: Router,
    running: JoinSet<()>,
    slots: VecDeque<Slot>,
}

struct Slot {
    end: AbortHandle,
    /// Whether a whole request has come.
    asked: Arc<AtomicBool>,
}

impl Connections {
    fn new(limits: Limits, app: Router) -> Self {
        Self { limits, app, running: JoinSet::new(), slots: VecDeque::new() }
    }

    /// Serves `stream`. Where there are too many, one that has asked for nothing yet gives way, the oldest
    /// first: idle clients can't keep a scraper out. If all of them wait for answers, the new one is closed.
    fn add(&mut self, stream: TcpStream, tls: Option<TlsAcceptor>, watcher: Watcher) {
        self.slots.retain(|slot| !slot.end.is_finished());
        if self.slots.len() >= self.limits.connections {
            let idle = self.slots.iter().position(|slot| !slot.asked.load(Ordering::Relaxed));
            let Some(slot) = idle.and_then(|idle| self.slots.remove(idle)) else { return };
            slot.end.abort();
        }
        let asked = Arc::new(AtomicBool::new(false));
        let connection = connection(stream, tls, self.app.clone(), self.limits, asked.clone(), watcher);
        let end = self.running.spawn(connection);
        self.slots.push_back(Slot { end, asked });
    }
}

/// Serves one request, within its time.
async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    app: Router,
    limits: Limits,
    asked: Arc<AtomicBool>,
    watcher: Watcher,
) {
    let served = async {
        let Some(tls) = tls else { return request(stream, app, limits, asked, watcher).await };
        match timeout(limits.header, tls.accept(stream)).await {
            Ok(Ok(stream)) => request(stream, app, limits, asked, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS connection"),
            Err(_) => tracing::debug!("no TLS connection: it took too long"),
        }
    };
    if timeout(limits.connection, served).await.is_err() {
        tracing::debug!("connection closed: it took too long");
    }
}

/// Serves one request. Keep-alive would let idle clients hold the few connections there are, and saves a
/// scraper next to nothing.
async fn request<S>(stream: S, app: Router, limits: Limits, asked: Arc<AtomicBool>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let app = app.map_request(move |request: hyper::Request<hyper::body::Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(limits.header_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "connection");
    }
}

async fn retry_later(error: &io::Error) {
    // The client has already given up: not this side's problem, and the next one can be accepted.
    let gone = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !gone {
        tracing::warn!(%error, "cannot accept a connection, trying again");
        sleep(ACCEPT_RETRY).await;
    }
}
