//! The body of `/metrics`: written and compressed once per view, by one thread at a time, so that any number
//! of scrapers costs the memory and time of one.

use std::io::Write;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Mutex;

use crate::export::metrics;
use crate::model::view::View;

/// What was written of one view.
#[derive(Debug)]
pub(super) struct Rendered {
    view: Arc<View>,
    plain: Bytes,
    gzip: Option<Bytes>,
}

/// Metrics of `view`, from `cache` if they are there.
///
/// # Errors
/// When they can't be encoded or compressed, or the runtime is shutting down.
pub(super) async fn metrics(
    cache: Arc<Mutex<Option<Rendered>>>,
    view: Arc<View>,
    gzip: bool,
) -> anyhow::Result<Bytes> {
    // The thread owns the lock: a client that goes away meanwhile doesn't let another start beside it.
    let mut cache = cache.lock_owned().await;
    tokio::task::spawn_blocking(move || {
        let rendered = match cache.take().filter(|rendered| Arc::ptr_eq(&rendered.view, &view)) {
            Some(rendered) => cache.insert(rendered),
            None => cache.insert(render(view)?),
        };
        if gzip { compressed(rendered) } else { Ok(rendered.plain.clone()) }
    })
    .await?
}

fn render(view: Arc<View>) -> anyhow::Result<Rendered> {
    let plain = Bytes::from(metrics::expose(&view)?);
    Ok(Rendered { view, plain, gzip: None })
}

fn compressed(rendered: &mut Rendered) -> anyhow::Result<Bytes> {
    if let Some(gzip) = &rendered.gzip {
        return Ok(gzip.clone());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&rendered.plain)?;
    Ok(rendered.gzip.insert(Bytes::from(encoder.finish()?)).clone())
}

/// Sets the headers that describe the body.
pub(super) fn describe(headers: &mut HeaderMap, gzip: bool) {
    const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

/// Whether the client takes gzip: named, and not with a weight of 0.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            named && !parts.any(is_zero_weight)
        })
}

fn is_zero_weight(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gzip only when it is offered by name with a weight other than 0.
    #[test]
    fn gzip_is_negotiated() {
        for (offer, expected) in [
            ("gzip", true),
            ("br, GZIP ;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("xgzip", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(offer));
            assert_eq!(accepts_gzip(&headers), expected, "{offer}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
