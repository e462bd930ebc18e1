//! Executables and memory that lie: whatever they hold, the answer is a value or a named error, reached with
//! bounded reading.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod counted;
mod files;
mod goroutines;
mod memory;
mod mutations;
mod random;
mod synthetic;
