//! A running fixture.

use crate::build::{Variant, build};
use crate::go::Go;
use crate::lines::Lines;
use crate::truth::Truth;
use crate::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A Go program that answers the test's questions; it ends with this value.
pub struct Fixture {
    child: Child,
    stdin: ChildStdin,
    lines: Lines,
    /// Process id on this machine; for a fixture in a PID namespace not the one it knows.
    pid: u32,
}

impl Fixture {
    /// Builds and starts `fixtures/NAME`, and waits until it is ready.
    ///
    /// # Errors
    /// When it can't be built or doesn't start.
    pub fn start(name: &str, go: Go, variant: Variant, args: &[&str]) -> Result<Self> {
        Self::run(&build(name, go, variant)?, args)
    }

    /// Starts a fixture that was built.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn run(path: &Path, args: &[&str]) -> Result<Self> {
        Self::spawn(Command::new(path).args(args))
    }

    /// Starts a fixture through a command that ends up executing one, in its own process or in a child.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let lines = Lines::of(child.stdout.take().context("stdout is piped")?);
        let pid = child.id();
        let mut fixture = Self { child, stdin, lines, pid };
        fixture.await_ready()?;
        Ok(fixture)
    }

    /// Waits for the announcement, at the start and after an exec in place.
    ///
    /// # Errors
    /// When it doesn't come.
    pub fn await_ready(&mut self) -> Result<()> {
        let ready = self.lines.json().context("the fixture did not start")?;
        ensure!(ready["ready"] == true, "the fixture said {ready} instead of being ready");
        Ok(())
    }

    /// Follows single children downwards: the fixture that `unshare --fork` and the like started.
    ///
    /// # Errors
    /// When the process has gone.
    pub fn descend(&mut self) -> Result<()> {
        while let Some(child) = crate::proc::only_child(self.pid)? {
            self.pid = child;
        }
        Ok(())
    }

    /// Process id on this machine.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Process id as an argument.
    #[must_use]
    pub fn pid_text(&self) -> String {
        self.pid.to_string()
    }

    /// Sends a command without waiting for an answer.
    ///
    /// # Errors
    /// When the fixture has gone.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin, "{command}").with_context(|| format!("the fixture ended before `{command}`"))
    }

    /// Sends a command and returns the answer.
    ///
    /// # Errors
    /// When the fixture has gone, or the answer is an error.
    pub fn ask(&mut self, command: &str) -> Result<Value> {
        self.tell(command)?;
        let answer = self.lines.json().with_context(|| format!("no answer to `{command}`"))?;
        ensure!(answer.get("error").is_none(), "`{command}`: {answer}");
        Ok(answer)
    }

    /// As [`Self::ask`], where the answer may take longer than anything else.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_patiently(&mut self, command: &str, patience: Duration) -> Result<Value> {
        self.tell(command)?;
        let line = self.lines.next_within(patience).with_context(|| format!("no answer to `{command}`"))?;
        Ok(serde_json::from_str(&line)?)
    }

    /// What the fixture's own runtime knows of its goroutines.
    ///
    /// # Errors
    /// When the fixture has gone.
    pub fn truth(&mut self) -> Result<Truth> {
        let truth: Truth = serde_json::from_value(self.ask("truth")?)?;
        ensure!(
            truth.num_goroutine == truth.stacks,
            "not quiescent: {} goroutines but {} stacks",
            truth.num_goroutine,
            truth.stacks
        );
        Ok(truth)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the kernel won't say.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Kills it and waits for its end.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn stop(mut self) -> Result<()> {
        self.kill();
        wait::until("the fixture's end", || Ok(self.child.try_wait()?))?;
        Ok(())
    }

    fn kill(&mut self) {
        if self.pid != self.child.id() {
            crate::proc::kill(self.pid);
        }
        // It may have ended by itself: nothing to do then.
        let _ = self.child.kill();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
