//! End-to-end tests: real Go programs, real cgroups, real eBPF, and the observer as its users run it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod budget;
mod churn;
mod cluster;
mod counts;
mod dashboards;
mod doctor;
mod dump;
mod fixtures;
mod guest;
mod hostile;
mod incidents;
mod inspect;
mod lifecycle;
mod manifests;
mod names;
mod namespaces;
mod oom;
mod rules;
mod serve;
mod settings;
mod source;
mod support;
mod turnover;
mod unprivileged;
