//! The command line: one file per subcommand.
//!
//! Data goes to stdout, everything else to stderr. Exit status 0 = done, 1 = `doctor` found something, 2 = it
//! could not be done, with one line that says what to do.

mod attach;
mod budget;
mod check;
mod doctor;
mod dump;
mod inspect;
mod list;
mod output;
mod pid;
mod serve;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "observer",
    version,
    about = "Observes every goroutine of every Go process on this machine, from outside"
)]
#[command(after_help = "Set OBSERVER_LOG=debug (or a tracing filter) for more on stderr.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Observe all Go processes and serve metrics for Prometheus
    Serve(serve::Arguments),
    /// List the Go processes of this machine
    List(list::Arguments),
    /// Watch one process: goroutines created, exited and live per `go` statement
    Attach(attach::Arguments),
    /// Write one goroutine profile of a process, from outside and without stopping it
    Dump(dump::Arguments),
    /// Say what is wrong with the Go processes of this machine, and what to do
    Doctor(doctor::Arguments),
    /// Show what an executable tells: version, layouts, globals, probe sites
    Inspect(inspect::Arguments),
    /// Show what this machine and these privileges allow
    Check(check::Arguments),
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = !matches!(arguments.command, Command::Serve(_));
    log_to_stderr(if quiet { "error" } else { "info" });
    let done = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Attach(arguments) => attach::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Doctor(arguments) => match doctor::run(&arguments) {
            Ok(true) => return ExitCode::from(1),
            done => done.map(|_| ()),
        },
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}

fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_env("OBSERVER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Also takes what libraries and the kernel side say through the `log` crate.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// The command line's definition has no contradictions, which clap finds when it is used, and only in debug
    /// builds.
    #[test]
    fn arguments_are_well_defined() {
        super::Arguments::command().debug_assert();
    }
}
