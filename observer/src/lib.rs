//! Observes every goroutine of every Go process on a Linux machine, from outside.
//!
//! Stages, in the direction of the data; a stage never imports one to its right:
//! `discover → gobin → { probe | snapshot | cgroup } → model → export`.
//! [`pipeline`] alone knows them all.

pub mod gobin;
pub mod model;
pub mod probe;
