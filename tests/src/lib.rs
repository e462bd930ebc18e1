//! Harness of the end-to-end tests and benchmarks: builds and starts the Go programs under `fixtures/`, runs the
//! real `observer`, and reads what both say.
//!
//! Nothing here knows the observer's code: the contract is its command line, its JSON and its metrics.

pub mod build;
pub mod cache;
pub mod cgroup;
pub mod containerd;
pub mod cri;
pub mod discovery;
pub mod fixture;
pub mod gate;
pub mod go;
pub mod http;
pub mod large;
pub mod lines;
pub mod manifest;
pub mod metrics;
pub mod observer;
pub mod prebuilt;
pub mod proc;
pub mod prometheus;
pub mod serve;
pub mod truth;
pub mod wait;
