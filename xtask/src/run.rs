//! `cargo xtask run`: from a fresh clone to metrics.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Options of `observer serve`, after `--`
    #[arg(last = true)]
    serve: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = build::run()?;
    println!("metrics: http://{}{}", address(&args.serve), path(&args.serve));
    // The server takes our place, so that signals reach it.
    let error = Command::new(&binary).arg("serve").args(&args.serve).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}

/// Where a client on this machine reaches the server.
fn address(serve: &[String]) -> String {
    let address = option(serve, "--web.listen-address").unwrap_or(":9764");
    match address.strip_prefix("0.0.0.0:").or_else(|| address.strip_prefix(':')) {
        Some(port) => format!("localhost:{port}"),
        None => address.to_owned(),
    }
}

fn path(serve: &[String]) -> &str {
    option(serve, "--web.telemetry-path").unwrap_or("/metrics")
}

/// The value of `--name value` or `--name=value`.
fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(index, arg)| match arg.strip_prefix(name)? {
        "" => args.get(index + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address that is shown is one a browser on this machine can open, however it was given.
    #[test]
    fn shows_an_address_that_can_be_opened() {
        let shown = |args: &[&str]| address(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(shown(&[]), "localhost:9764");
        assert_eq!(shown(&["--web.listen-address", "0.0.0.0:80"]), "localhost:80");
        assert_eq!(shown(&["--interval", "1s", "--web.listen-address=10.0.0.1:80"]), "10.0.0.1:80");
    }
}
