//! Profiles of real Go processes, compared with what their own runtimes say.
//!
//! They need root and Go toolchains; without, each test says so and passes, unless
//! `OBSERVER_REQUIRE=1` is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod busy;
mod corrupt;
mod formats;
mod go;
mod traceback;
mod tracebacks;
