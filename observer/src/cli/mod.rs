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
mod log;
mod names;
mod output;
mod pid;
mod serve;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "observer",
    version,
    about = "Observes every goroutine of every Go process on this machine, from outside"
)]
#[command(after_help = "More on stderr: --log.level debug.")]
struct Arguments {
    #[command(flatten)]
    log: log::LogArguments,
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
    arguments.log.start(if quiet { "error" } else { "info" });
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

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};

    /// The definitions of all options agree with each other.
    #[test]
    fn options_are_consistent() {
        Arguments::command().debug_assert();
    }

    /// Options may be repeated, and wrong ones are refused with what is wrong.
    #[test]
    fn serve_reads_its_options() {
        let serve = |options: &[&str]| {
            let parsed = Arguments::try_parse_from(["observer", "serve"].iter().chain(options))
                .map_err(|error| error.to_string())?;
            if let Command::Serve(arguments) = parsed.command { Ok(arguments) } else { Err(String::new()) }
        };
        let two =
            ["--web.listen-address", ":1", "--web.listen-address", "[::1]:2", "--include", "process=a.*"];
        assert!(serve(&two).is_ok());
        for (options, part) in [
            (["--include", "color=red"], "`color` is none of"),
            (["--exclude", "process=("], "unclosed group"),
            (["--interval", "1ms"], "at least 100ms"),
            (["--log.format", "xml"], "logfmt"),
            (["--log.level", "a=b=c"], "a=b=c"),
        ] {
            let error = serve(&options).err().unwrap();
            assert!(error.contains(part), "{error}");
        }
    }
}
