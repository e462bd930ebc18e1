//! Runs the observer under test.

use crate::lines::Lines;
use crate::proc::copy_executable;
use crate::wait::{self, DEADLINE};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The observer: `$OBSERVER_BIN`, else the release build of this workspace.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("OBSERVER_BIN") {
        return Ok(path.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let path = target.join("release/observer");
    ensure!(path.exists(), "no observer at {}: run `cargo xtask build`", path.display());
    Ok(fs::canonicalize(path)?)
}

/// A command that runs the observer.
///
/// # Errors
/// When there is no observer.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(args);
    Ok(command)
}

/// A command that runs the observer as `nobody`, without any capability. The observer is copied to `directory`,
/// because nobody may not be able to reach the workspace.
///
/// # Errors
/// When the copy fails.
pub fn command_as_nobody(directory: &Path, args: &[&str]) -> Result<Command> {
    let copy = directory.join("observer");
    copy_executable(&binary()?, &copy)?;
    for path in [directory, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]);
    command.arg(copy).args(args);
    Ok(command)
}

/// How a run of the observer ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status.
    pub status: ExitStatus,
    /// Data.
    pub stdout: String,
    /// Diagnostics.
    pub stderr: String,
}

impl Ran {
    /// Standard output as one JSON value, of a run that succeeded.
    ///
    /// # Errors
    /// When the run failed, or its output is not JSON.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.status.success(), "observer failed: {self:?}");
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {self:?}"))
    }

    /// Standard output as one JSON value a line, of a run that succeeded.
    ///
    /// # Errors
    /// When the run failed, or a line is not JSON.
    pub fn json_lines(&self) -> Result<Vec<Value>> {
        ensure!(self.status.success(), "observer failed: {self:?}");
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
    }

    /// Checks that the run was refused as the contract wants: status 2, no data, one sentence on stderr.
    ///
    /// # Errors
    /// When it wasn't.
    pub fn refused(&self) -> Result<&str> {
        ensure!(self.status.code() == Some(2), "the exit status should be 2: {self:?}");
        ensure!(self.stdout.is_empty(), "a refusal has no data: {self:?}");
        let message = self.stderr.trim();
        ensure!(!message.is_empty() && !message.contains('\n'), "one clear line, please: {self:?}");
        ensure!(!message.contains("panicked"), "it panicked: {self:?}");
        Ok(message)
    }
}

/// Runs the observer to its end.
///
/// # Errors
/// When it can't be started or doesn't end within the deadline (it is killed then).
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Result<Ran> {
    run_command(&mut command(args)?)
}

/// Runs a command that was made by [`command`] or [`command_as_nobody`] to its end.
///
/// # Errors
/// When it can't be started or doesn't end within the deadline (it is killed then).
pub fn run_command(command: &mut Command) -> Result<Ran> {
    let mut child =
        Guard(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let stdout = Lines::of(child.0.stdout.take().context("stdout is piped")?);
    let stderr = Lines::of(child.0.stderr.take().context("stderr is piped")?);
    let status = wait::until("the observer's end", || Ok(child.0.try_wait()?))?;
    Ok(Ran { status, stdout: text(&stdout)?, stderr: text(&stderr)? })
}

fn text(lines: &Lines) -> Result<String> {
    Ok(lines.rest()?.into_iter().map(|line| line + "\n").collect())
}

/// Kills the child when the test is over, whatever happened.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `observer attach --output json`.
pub struct Attach {
    child: Guard,
    lines: Lines,
    stderr: Lines,
}

impl Attach {
    /// Attaches to a process and reports every `interval`.
    ///
    /// # Errors
    /// When the observer can't be started.
    pub fn start(pid: u32, interval: &str) -> Result<Self> {
        Self::within(pid, interval, "1%")
    }

    /// The same with a budget for probes: `unlimited` counts everything, whatever it costs.
    ///
    /// # Errors
    /// When the observer can't be started.
    pub fn within(pid: u32, interval: &str, budget: &str) -> Result<Self> {
        let (pid, hour) = (pid.to_string(), "3600s");
        let args = ["attach", &pid, "--interval", interval, "--duration", hour, "--output", "json"];
        let args = [&args[..], &["--overhead-budget", budget]].concat();
        let mut command = command(&args)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Guard(command.spawn()?);
        let lines = Lines::of(child.0.stdout.take().context("stdout is piped")?);
        let stderr = Lines::of(child.0.stderr.take().context("stderr is piped")?);
        Ok(Self { child, lines, stderr })
    }

    /// Process id of the observer.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// The next report.
    ///
    /// # Errors
    /// When there is none; what the observer said on stderr is part of the error.
    pub fn line(&mut self) -> Result<Value> {
        self.lines.json().map_err(|error| {
            let _ = self.child.0.kill();
            error.context(self.stderr.rest().unwrap_or_default().join("\n"))
        })
    }

    /// A report on an interval that began after this call: the first lines may describe the time before.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn fresh_line(&mut self) -> Result<Value> {
        while self.lines.next_within(std::time::Duration::ZERO).is_some() {}
        self.line()?;
        self.line()
    }

    /// Waits until a report satisfies `accept`.
    ///
    /// # Errors
    /// When none does within the deadline; the newest report is part of the error.
    pub fn until(&mut self, what: &str, accept: impl Fn(&Value) -> bool) -> Result<Value> {
        let start = std::time::Instant::now();
        loop {
            let line = self.line()?;
            if accept(&line) {
                return Ok(line);
            }
            ensure!(start.elapsed() < DEADLINE, "waited in vain for {what}; the newest report: {line}");
        }
    }

    /// Waits for its end and returns the exit status and the diagnostics.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn end(mut self) -> Result<(ExitStatus, String)> {
        let status = wait::until("the end of attach", || Ok(self.child.0.try_wait()?))?;
        Ok((status, self.stderr.rest()?.join("\n")))
    }
}
