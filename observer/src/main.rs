//! The `observer` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    observer::cli::run()
}
