//! End-to-end tests: real Go programs, real cgroups, real eBPF, and the observer as its users run it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod budget;
mod churn;
mod cluster;
mod counts;
mod dashboards;
mod doctor;
mod fixtures;
mod guest;
mod hostile;
mod inspect;
mod lifecycle;
mod manifests;
mod namespaces;
mod rules;
mod serve;
mod source;
mod support;
mod turnover;
mod unprivileged;
