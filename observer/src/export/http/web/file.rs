//! Reading the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

use super::reload::Stamps;
use super::{WebConfig, passwords, tls};

/// Longest file that is read, this one or a certificate.
const MAX_FILE: u64 = 1 << 20;

/// The file. Keys that aren't known are refused: one that is misspelled would leave the door open.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<tls::Section>,
    http_server_config: Http,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Http {
    /// Taken because others have it; this server speaks HTTP/1.1.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Headers,
}

/// Those that may be set.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Headers {
    #[serde(rename = "Content-Security-Policy")]
    content_security_policy: Option<String>,
    #[serde(rename = "X-Frame-Options")]
    frame_options: Option<String>,
    #[serde(rename = "X-Content-Type-Options")]
    content_type_options: Option<String>,
    #[serde(rename = "X-XSS-Protection")]
    xss_protection: Option<String>,
    #[serde(rename = "Strict-Transport-Security")]
    strict_transport_security: Option<String>,
}

/// Reads the file at `path` and what it names.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn load(path: &Path) -> Result<WebConfig, String> {
    let mut files = Files { folder: path.parent().unwrap_or(Path::new(".")), stamps: Stamps::default() };
    let text = String::from_utf8(files.read(path)?).map_err(|_| "it is no UTF-8 text".to_owned())?;
    let file: File = if text.trim().is_empty() { File::default() } else { parse(&text)? };
    passwords::check(&file.basic_auth_users)?;
    let tls = file.tls_server_config.map(|section| tls::acceptor(&section, &mut files)).transpose()?;
    Ok(WebConfig {
        path: Some(path.to_owned()),
        stamps: files.stamps,
        tls,
        headers: headers(file.http_server_config.headers)?,
        users: file.basic_auth_users,
    })
}

fn parse(text: &str) -> Result<File, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet().to_string();
        error.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

fn headers(given: Headers) -> Result<HeaderMap, String> {
    let given: [(HeaderName, Option<String>); 5] = [
        (header::CONTENT_SECURITY_POLICY, given.content_security_policy),
        (header::X_FRAME_OPTIONS, given.frame_options),
        (header::X_CONTENT_TYPE_OPTIONS, given.content_type_options),
        (header::X_XSS_PROTECTION, given.xss_protection),
        (header::STRICT_TRANSPORT_SECURITY, given.strict_transport_security),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let Some(value) = value else { continue };
        let value = HeaderValue::from_str(&value).map_err(|_| format!("{name} holds what no header may"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Reads files, and notes how each was right before.
pub(super) struct Files<'a> {
    /// What names of files are relative to.
    folder: &'a Path,
    stamps: Stamps,
}

impl Files<'_> {
    /// The content of a file that the configuration names.
    pub(super) fn named(&mut self, name: &Path) -> Result<Vec<u8>, String> {
        let path: PathBuf = self.folder.join(name);
        self.read(&path)
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.stamps.note(path);
        let said = |error| format!("{} can't be read: {error}", path.display());
        if fs::metadata(path).map_err(said)?.len() > MAX_FILE {
            return Err(format!("{} is longer than {} KiB", path.display(), MAX_FILE >> 10));
        }
        fs::read(path).map_err(said)
    }
}
