//! Probes in real Go processes: exact counts, refusals, and clean text afterwards.
//!
//! They need root and Go toolchains; without, each test says so and passes, unless
//! `OBSERVER_REQUIRE=1` is set.
#![cfg(feature = "bpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod attach;
mod counts;
mod faults;
mod features;
mod process;
mod sampling;
mod sites;
mod spawner;
mod waits;
