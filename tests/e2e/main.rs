//! End-to-end tests: real Go programs, real cgroups, real eBPF, and the observer as its users run it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod budget;
mod churn;
mod counts;
mod doctor;
mod fixtures;
mod hostile;
mod inspect;
mod lifecycle;
mod namespaces;
mod serve;
mod source;
mod support;
mod turnover;
mod unprivileged;
