//! `cargo xtask demo`: a leak, and what observer says about it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::go::{self, Release};
use crate::{build, process, setup};

/// The leaking service: a Go main package.
const LEAK: &str = "tests/fixtures/leak";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the service runs
    #[arg(long, default_value = "10s")]
    duration: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !setup::go(&[Release::newest()])? {
        bail!("the demo's service needs the newest Go");
    }
    // First, because the observer is often being built in another terminal.
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("leak");
    let mut compile = go::command(&Release::newest().root());
    process::run(
        compile.args(["build", "-o"]).arg(&program).arg(".").current_dir(process::root().join(LEAK)),
    )?;

    let observer = build::run()?;

    let service = Service::start(&program)?;
    let pid = service.0.id().to_string();
    println!("a leaking service runs with pid {pid}: observer attach {pid}");
    process::run(Command::new(observer).args(["attach", &pid, "--duration", &args.duration]))
}

/// A program that ends with us.
struct Service(Child);

impl Service {
    fn start(program: &Path) -> Result<Self> {
        // It ends when its input does, even if we are killed; what it says is for tests.
        let child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {}", program.display()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Either fails only for a service that has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
