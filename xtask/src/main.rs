//! Everything a developer or a CI machine runs: `cargo xtask --help`.
#![allow(clippy::print_stdout, reason = "these commands talk to a person, not to a log")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod bpf;
mod build;
mod demo;
mod fuzz;
mod go;
mod image;
mod layouts;
mod process;
mod python;
mod run;
mod setup;
mod test;
mod tools;
mod vm;
// One definition of what a BPF toolchain is, shared with the build script that needs it.
#[path = "../../observer/build/toolchain.rs"]
mod toolchain;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, runs and tests observer")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what building and testing need; safe to repeat
    Setup(setup::Args),
    /// Set up and build the release binary
    Build,
    /// Set up, build, and write a container image
    Image(image::Args),
    /// Set up, build, and start `observer serve`
    Run(run::Args),
    /// Set up, build, and run every check and test
    Test(test::Args),
    /// Set up, build, and measure speed and size
    Bench(bench::Args),
    /// Fuzz what is read of executables and of memory
    Fuzz(fuzz::Args),
    /// Start a leaking Go service and show `observer attach` on it
    Demo(demo::Args),
    /// Run end-to-end tests inside other kernels, with cgroup v2
    Vm(vm::Args),
    /// Measure the Go runtime's structs and write the layout table
    Layouts(layouts::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build => build::run().map(drop),
        Command::Image(args) => image::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Layouts(args) => layouts::run(&args),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // A person needs the reason; returned from main it would bring a backtrace wherever those are on.
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
