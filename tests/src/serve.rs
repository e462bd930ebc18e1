//! A running `observer serve`, and a small HTTP client for it.

use crate::cache;
use crate::http::{self, Response};
use crate::lines::Lines;
use crate::metrics::Samples;
use crate::observer::{Guard, command};
use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Command, ExitStatus, Stdio};

/// Held by tests that attach probes to every process of the machine, or that look at a target's code.
pub struct Machine(#[allow(dead_code, reason = "held, not read")] File);

impl Machine {
    /// Waits until no other test holds it, in this process or another.
    ///
    /// # Errors
    /// When the cache can't be written.
    pub fn alone() -> Result<Self> {
        let directory = cache::root()?;
        fs::create_dir_all(&directory)?;
        let file = File::create(directory.join("machine.lock"))?;
        file.lock()?;
        Ok(Self(file))
    }
}

/// A running server; it ends with this value.
pub struct Serve {
    child: Guard,
    stderr: Lines,
    address: String,
}

impl Serve {
    /// Starts `observer serve` on a free port, and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't get ready.
    pub fn start(args: &[&str]) -> Result<Self> {
        Self::spawn(|address| {
            let mut command = command(&["serve", "--web.listen-address", address])?;
            command.args(args);
            Ok(command)
        })
    }

    /// Starts the command that `make` returns for an address to listen on, and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't get ready.
    pub fn spawn(make: impl FnOnce(&str) -> Result<Command>) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = make(&address)?;
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Guard(command.spawn()?);
        let stderr = Lines::of(child.0.stderr.take().context("stderr is piped")?);
        let mut serve = Self { child, stderr, address };
        serve.await_ready()?;
        Ok(serve)
    }

    fn await_ready(&mut self) -> Result<()> {
        wait::until("/readyz", || {
            if let Some(status) = self.child.0.try_wait()? {
                anyhow::bail!("serve ended with {status}: {}", self.stderr.rest()?.join("\n"));
            }
            // Nobody listens in the beginning.
            Ok(self.get("/readyz").ok().filter(|response| response.status == 200))
        })?;
        Ok(())
    }

    /// Process id of the observer.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Requests a path.
    ///
    /// # Errors
    /// When no whole answer comes within the deadline.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// When no whole answer comes within the deadline.
    pub fn request(&self, request: &str) -> Result<Response> {
        http::request(&self.address, request)
    }

    /// The current metrics.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn metrics(&self) -> Result<Samples> {
        let response = self.get("/metrics")?;
        ensure!(response.status == 200, "/metrics: {response:?}");
        Samples::parse(&response.body)
    }

    /// Waits until the metrics satisfy `accept`, and returns them.
    ///
    /// # Errors
    /// When they don't within the deadline.
    pub fn until(&self, what: &str, accept: impl Fn(&Samples) -> bool) -> Result<Samples> {
        wait::until(what, || Ok(Some(self.metrics()?).filter(&accept)))
    }

    /// Sends a signal, and returns the exit status and the diagnostics when it has ended.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn end_by(mut self, signal: Signal) -> Result<(ExitStatus, String)> {
        crate::proc::signal(self.pid(), signal);
        let status = wait::until("the end of serve", || Ok(self.child.0.try_wait()?))?;
        Ok((status, self.stderr.rest()?.join("\n")))
    }
}
