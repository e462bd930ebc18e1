//! Connections: how many, how long, and how they end.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{HttpState, Limits, routes};

/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be accepted (no file descriptor left): a retry at once would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Answers requests until `shutdown` ends, then finishes those that are under way, for at most five seconds.
///
/// # Errors
/// When the listener has no address, that is, isn't one. A connection's errors end only the connection.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: impl Future) -> io::Result<()> {
    let limits = state.limits;
    let app = routes::router(state.clone());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut views = state.views.clone();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            _ = &mut shutdown => break,
            // The sender is gone when no more views come: then they only get older.
            Ok(()) = views.changed() => {
                state.last_view.send_replace(Some(Instant::now()));
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                // Past the limit the stream is dropped, which closes it.
                Ok((stream, peer)) if connections.len() < limits.connections => {
                    let app = app.clone().layer(Extension(peer.ip()));
                    connections.spawn(connection(stream, app, limits, &graceful));
                }
                Ok(_) => {}
                Err(error) => retry_later(&error).await,
            },
        }
    }
    drop(listener);
    // What doesn't finish in time is cut off as `connections` is dropped.
    _ = timeout(DRAIN, async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

/// Serves one request. Keep-alive would let idle clients hold the few connections there are, and saves a
/// scraper next to nothing.
fn connection(
    stream: TcpStream,
    app: Router,
    limits: Limits,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(limits.header_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let served = graceful.watch(served);
    async move {
        match timeout(limits.connection, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "connection"),
            Err(_) => tracing::debug!("connection closed: it took too long"),
        }
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
