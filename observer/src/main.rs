//! The `observer` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    observer::heap::give_large_blocks_back();
    observer::cli::run()
}
