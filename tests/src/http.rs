//! A small HTTP client for servers on this machine.

use crate::wait::DEADLINE;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;

/// An HTTP answer.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines as they came.
    pub head: String,
    /// Body.
    pub body: String,
}

/// Sends a request as it is, and reads until the server closes.
///
/// # Errors
/// When no whole answer comes within the deadline.
pub fn request(address: &str, request: &str) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Response { status, head: head.to_owned(), body: body.to_owned() })
}

/// A value as part of a query string.
#[must_use]
pub fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
