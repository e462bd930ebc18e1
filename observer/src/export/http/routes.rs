//! What each path answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use super::web::Passwords;
use super::{HttpState, WebConfig, landing, render};

/// Views may be late by this many intervals before the observer says that it isn't ready.
const LATE_INTERVALS: u32 = 3;
const NO_VIEW: &str = "there is no view yet: the first tick has not ended\n";

/// Paths that need no password: they tell nothing about targets, and a kubelet has none.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Who may ask, and what every answer has.
#[derive(Clone)]
struct Guard {
    web: watch::Receiver<Arc<WebConfig>>,
    passwords: Arc<Passwords>,
}

/// GET and HEAD on the known paths; axum answers the rest with 404 and 405.
pub(super) fn router(state: HttpState, web: watch::Receiver<Arc<WebConfig>>) -> Router {
    let guard = Guard { web, passwords: Arc::new(Passwords::new()) };
    Router::new()
        .route("/", get(root))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(&state.telemetry_path.clone(), get(metrics))
        .with_state(state)
        .layer(from_fn_with_state(guard, guarded))
}

async fn guarded(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let web = guard.web.borrow().clone();
    let allowed =
        OPEN.contains(&request.uri().path()) || guard.passwords.allow(&web.users, request.headers()).await;
    let mut response = if allowed {
        next.run(request).await
    } else {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"observer\"")];
        (StatusCode::UNAUTHORIZED, challenge, "a user and a password are needed\n").into_response()
    };
    for (name, value) in &web.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn root(State(state): State<HttpState>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(landing::page(state.view().as_deref(), &state.telemetry_path)))
}

async fn ready(State(state): State<HttpState>) -> (StatusCode, String) {
    match unready(&state) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(sentence) => (StatusCode::SERVICE_UNAVAILABLE, sentence),
    }
}

/// Why the observer isn't ready: one sentence.
fn unready(state: &HttpState) -> Option<String> {
    let Some(last) = *state.last_view.borrow() else { return Some(NO_VIEW.to_owned()) };
    let age = last.elapsed();
    (age > state.interval * LATE_INTERVALS).then(|| {
        format!(
            "the last view is {:.1} s old, more than {LATE_INTERVALS} intervals of {:.1} s: see the log\n",
            age.as_secs_f64(),
            state.interval.as_secs_f64()
        )
    })
}

async fn metrics(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let Some(view) = state.view() else {
        return (StatusCode::SERVICE_UNAVAILABLE, NO_VIEW).into_response();
    };
    let gzip = render::accepts_gzip(&headers);
    match render::metrics(state.rendered, view, gzip).await {
        Ok(body) => {
            let mut response = body.into_response();
            render::describe(response.headers_mut(), gzip);
            response
        }
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics could not be written: {error}\n"))
                .into_response()
        }
    }
}
