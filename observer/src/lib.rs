//! Observes every goroutine of every Go process on a Linux machine, from outside.
//!
//! Stages, in the direction of the data; a stage never imports one to its right:
//! `discover → gobin → { probe | snapshot | cgroup | container } → model → diagnose → export`.
//! `pipeline` alone knows them all.

pub mod cgroup;
pub mod cli;
pub mod container;
pub mod diagnose;
pub mod discover;
pub mod export;
pub mod gobin;
pub mod heap;
pub mod model;
pub mod pipeline;
pub mod probe;
pub mod snapshot;
#[cfg(test)]
mod testing;
pub mod text;
